import { createRng } from "../../../src/core/rng.js";
import type { EditRecord } from "../../../src/data/records.js";
import type { EditSetting } from "../../../src/edit/contract.js";
import { NETWORK } from "../../../src/edit/mend/archive.js";
import { type NetworkValues, networkShapes, type Slot, slotsOf } from "../../../src/edit/mend/network.js";
import { type MendOptions, sitesOf } from "../../../src/edit/mend/options.js";
import { createCutStore } from "../../../src/model/cut-store.js";
import type { LlamaModel } from "../../../src/model/model.js";
import { cutBefore } from "../../../src/model/patch.js";
import { tf } from "../../../src/tensor/tf.js";
import { goldenRecords, optionsOf } from "../support.js";

/** Matrices of four shapes, two of which are there twice, in an order of their own. */
export const MIXED =
  "inner_params=[model.layers.3.self_attn.q_proj.weight, model.layers.2.mlp.down_proj.weight, model.layers.2.self_attn.q_proj.weight, model.layers.3.self_attn.k_proj.weight, model.layers.3.mlp.up_proj.weight, model.layers.3.mlp.down_proj.weight]";

/** The options for the tiny checkpoint, with settings "key=value" on top. */
export const mendOptions = async (...set: string[]): Promise<MendOptions> =>
  (await optionsOf("mend", ...set)) as MendOptions;

/** Mean and deviation of parts that are not spread around 0. */
const SPREAD: Readonly<Record<string, readonly [mean: number, deviation: number]>> = {
  edit_lrs: [0.01, 0.002],
  u_std: [1, 0.1],
  v_std: [1, 0.1],
  scale: [1, 0.2],
};

/** A network in which every part does something. */
export function someNetwork(slots: readonly Slot[], rank: number, seed = 0): NetworkValues {
  const shapes = [...networkShapes(slots, rank)];
  return Object.fromEntries(
    shapes.map(([name, shape]) => {
      const rng = createRng(seed, [name]);
      const size = shape.reduce((product, extent) => product * extent, 1);
      const [middle, spread] = SPREAD[name.split(".").at(-1) as string] ?? [0, 0.2];
      return [name, { shape, data: Float32Array.from({ length: size }, () => middle + spread * rng.normal()) }];
    }),
  );
}

/** The same on the device. */
export function onDevice(values: NetworkValues): Record<string, tf.Tensor> {
  const tensors = Object.entries(values).map(([name, { data, shape }]) => [name, tf.tensor(data, [...shape])] as const);
  return Object.fromEntries(tensors);
}

/** Surroundings of edits with a network, by default one in which every part does something. */
export function mendSetting(model: LlamaModel, options: MendOptions, network?: NetworkValues): EditSetting {
  const value = network ?? someNetwork(slotsOf(options, model.config), options.rank);
  return {
    model,
    cuts: createCutStore(model, cutBefore(sitesOf(options))),
    templates: ["{}"],
    rng: createRng(0),
    assets: new Map([[NETWORK, { sha256: "", value }]]),
  };
}

/** The six made-up facts of the golden folder, each with a question that it does not touch. */
export const records: EditRecord[] = goldenRecords.records.map(
  ({ src, rephrase, subject, alt, loc, loc_ans }, index) => ({
    index,
    subject,
    prompt: src,
    target: alt,
    rephrase,
    locality: [{ prompt: loc, answer: loc_ans }],
    portability: [],
    oodRephrase: null,
    groundTruth: null,
  }),
);
