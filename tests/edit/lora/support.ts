import { createRng } from "../../../src/core/rng.js";
import type { EditRequest, EditSetting } from "../../../src/edit/contract.js";
import { type Layout, layoutOf } from "../../../src/edit/lora/factors.js";
import { createProblem, type LoraProblem } from "../../../src/edit/lora/objective.js";
import type { LoraOptions } from "../../../src/edit/lora/options.js";
import { forcedRow } from "../../../src/edit/rows.js";
import type { Cut } from "../../../src/model/cut.js";
import { createCutStore } from "../../../src/model/cut-store.js";
import type { LlamaModel } from "../../../src/model/model.js";
import { cutBefore, MATRICES } from "../../../src/model/patch.js";
import { optionsOf } from "../support.js";

/** The options of the tiny checkpoint, three steps an edit, with settings "key=value" on top. */
export async function loraTiny(...set: string[]): Promise<LoraOptions> {
  return (await optionsOf("lora", "num_steps=3", ...set)) as LoraOptions;
}

/** Surroundings of edits with factors laid out like this. */
export function loraSetting(model: LlamaModel, { sites }: Pick<Layout, "sites">, seed = 0): EditSetting {
  const cuts = createCutStore(model, cutBefore(sites));
  return { model, cuts, templates: ["{}"], rng: createRng(seed), assets: new Map() };
}

/** An edit on the device. */
export async function problemOf(model: LlamaModel, options: LoraOptions, request: EditRequest): Promise<LoraProblem> {
  const layout = layoutOf(options, model.config);
  const row = forcedRow(request, model.tokenizer);
  const [cut] = (await loraSetting(model, layout).cuts.get([row.ids])) as [Cut];
  return createProblem(model, layout, { row, cut });
}

/** A setting: factors of every matrix. */
export const ALL_MODULES = `target_modules=[${MATRICES.map((matrix) => `${matrix}_proj`)}]`;
