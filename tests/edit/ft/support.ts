import { createRng } from "../../../src/core/rng.js";
import type { EditRequest, EditSetting } from "../../../src/edit/contract.js";
import { createProblem, exampleOf, type FtProblem, lossAndGradients, sitesOf } from "../../../src/edit/ft/objective.js";
import type { FtLOptions, FtObjective } from "../../../src/edit/ft/options.js";
import { batchCuts } from "../../../src/model/cut.js";
import { createCutStore } from "../../../src/model/cut-store.js";
import type { LlamaModel } from "../../../src/model/model.js";
import { cutBefore } from "../../../src/model/patch.js";
import { tf } from "../../../src/tensor/tf.js";
import { optionsOf } from "../support.js";

export const METHODS = ["ft-l", "ft-m"] as const;
export type FtName = (typeof METHODS)[number];

export const OBJECTIVE: Readonly<Record<FtName, FtObjective>> = { "ft-l": "prompt_last", "ft-m": "target_new" };

/** The options of a method for the tiny checkpoint, three steps an edit, with settings "key=value" on top. */
export async function ftOptions(name: FtName, ...set: string[]): Promise<FtLOptions> {
  return (await optionsOf(name, "num_steps=3", ...set)) as FtLOptions;
}

/** Surroundings of edits of these layers. */
export function ftSetting(model: LlamaModel, layers: readonly number[]): EditSetting {
  const cuts = createCutStore(model, cutBefore(sitesOf({ layers })));
  return { model, cuts, templates: ["{}"], rng: createRng(0), assets: new Map() };
}

/** An edit on the device. */
export async function problemOf(
  name: FtName,
  options: FtLOptions,
  { model, request }: { model: LlamaModel; request: EditRequest },
): Promise<FtProblem> {
  const example = exampleOf(OBJECTIVE[name], request, { tokenizer: model.tokenizer, options });
  const cuts = await ftSetting(model, options.layers).cuts.get([example.row.ids]);
  return createProblem(model, options, example, batchCuts(model, cuts, [example.row.promptTokens]));
}

/** Loss and gradients at deltas, as plain arrays. */
export async function evaluate(problem: FtProblem, deltas: readonly Float32Array[], shape: [number, number]) {
  const at = deltas.map((delta) => tf.tensor2d(delta, shape));
  const { loss, gradients } = lossAndGradients(problem, at);
  const values = await Promise.all([loss, ...gradients].map((tensor) => tensor.data<"float32">()));
  tf.dispose([...at, loss, ...gradients]);
  return { loss: values[0]?.[0] as number, gradients: values.slice(1) };
}
