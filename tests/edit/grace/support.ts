import type { EditSession, EditSetting } from "../../../src/edit/contract.js";
import type { Entry } from "../../../src/edit/grace/codebook.js";
import { startGrace } from "../../../src/edit/grace/grace.js";
import type { GraceOptions } from "../../../src/edit/grace/options.js";
import type { EditState } from "../../../src/edit/state.js";
import type { LlamaModel } from "../../../src/model/model.js";
import { optionsOf, settingOf } from "../support.js";

/** The options of the tiny checkpoint, four steps an edit, with settings "key=value" on top. */
export async function graceTiny(...set: string[]): Promise<GraceOptions> {
  return (await optionsOf("grace", "n_iter=4", ...set)) as GraceOptions;
}

/** A session on a model, at the layer of its options. */
export async function startTiny(
  model: LlamaModel,
  set: readonly string[] = [],
  given: { setting?: EditSetting; saved?: EditState } = {},
): Promise<EditSession> {
  const options = await graceTiny(...set);
  const { setting = settingOf(model, options.layer), ...from } = given;
  return startGrace(options, setting, from);
}

/** An entry of two numbers with a target of one token. */
export function entryOf(key: readonly number[], radius: number, token: number): Entry {
  return {
    key: Float32Array.from(key),
    value: new Float32Array(2),
    radius,
    label: { tokens: [token], promptTokens: 3 },
  };
}

/** JSON of a GRACE state. */
export interface Kept {
  radii: number[];
  labels: { tokens: number[]; promptTokens: number }[];
  lastPrompt: number;
}

export async function radiiOf(session: EditSession): Promise<number[]> {
  return ((await session.state()).json as Kept).radii;
}
