import { createRng } from "../../../src/core/rng.js";
import type { EditRequest, EditSetting, PreparedMethod } from "../../../src/edit/contract.js";
import { prepareNamed } from "../../../src/edit/registry.js";
import type { RomeOptions } from "../../../src/edit/rome/options.js";
import type { EditOwner } from "../../../src/edit/state.js";
import { createCutStore } from "../../../src/model/cut-store.js";
import type { LlamaModel } from "../../../src/model/model.js";
import { fact, goldenRecords } from "../support.js";

const { records, templates } = goldenRecords as typeof goldenRecords & { records: { subject: string }[] };

/** The edit of golden record `i`, with its subject. */
export const located = (i: number): EditRequest => ({ ...fact(i), subject: records[i]?.subject as string });

/** The three templates of the golden folder. */
export const TEMPLATES = templates;

/** Surroundings of edits: an empty store at the edited layer, and two templates. */
export function romeSetting(
  model: LlamaModel,
  { cut }: Pick<PreparedMethod, "cut">,
  given: Partial<EditSetting> = {},
): EditSetting {
  const cuts = createCutStore(model, cut);
  return { model, cuts, templates: TEMPLATES.slice(0, 2), rng: createRng(0), assets: new Map(), ...given };
}

/** ROME for the tiny checkpoint, four passes an edit, and what its edits belong to. */
export async function prepareRome(
  model: LlamaModel,
  ...set: string[]
): Promise<EditOwner & { method: PreparedMethod; options: RomeOptions }> {
  const source = { preset: "tiny", set: ["v_num_grad_steps=4", ...set] };
  const method = await prepareNamed("rome", source, model.config);
  return { method, model, assets: new Map(), options: method.options as RomeOptions };
}
