import { createRng } from "../../../src/core/rng.js";
import type { EditSetting, PreparedMethod } from "../../../src/edit/contract.js";
import { prepareNamed } from "../../../src/edit/registry.js";
import { forcedRow } from "../../../src/edit/rows.js";
import type { EditOwner } from "../../../src/edit/state.js";
import type { UltraeditOptions } from "../../../src/edit/ultraedit/options.js";
import { createCutStore } from "../../../src/model/cut-store.js";
import type { LlamaModel } from "../../../src/model/model.js";
import { facts } from "../support.js";

/** UltraEdit for the tiny checkpoint, and what its edits belong to. */
export async function prepareUltraedit(
  model: LlamaModel,
  ...set: string[]
): Promise<EditOwner & { method: PreparedMethod; options: UltraeditOptions }> {
  const method = await prepareNamed("ultraedit", { preset: "tiny", set }, model.config);
  return { method, model, assets: new Map(), options: method.options as UltraeditOptions };
}

/** Surroundings of edits: a store that computes the golden facts together, as a run does with those of its records. */
export function ultraeditSetting(model: LlamaModel, { cut }: Pick<PreparedMethod, "cut">): EditSetting {
  const together = [facts.map((request) => forcedRow(request, model.tokenizer).ids)];
  return {
    model,
    cuts: createCutStore(model, cut, { together }),
    templates: ["{}"],
    rng: createRng(0),
    assets: new Map(),
  };
}

/** Numbers of a normal distribution. */
export function normal(seed: number, length: number, scale = 1): Float32Array {
  const rng = createRng(seed);
  return Float32Array.from({ length }, () => scale * rng.normal());
}
