import { LabFailure } from "../../core/errors.js";
import type { Rng } from "../../core/rng.js";
import { batchCuts, logitsAt } from "../../model/cut.js";
import type { CutStore } from "../../model/cut-store.js";
import type { LlamaModel } from "../../model/model.js";
import { tf } from "../../tensor/tf.js";
import type { Adam } from "../adam.js";
import type { GradientFactors } from "../factors.js";
import { crossEntropy } from "../loss.js";
import type { TokenRow } from "../rows.js";
import { changeOf } from "./changes.js";
import { type MendExample, spotsOf } from "./example.js";
import { aimOf, editGradient } from "./gradient.js";
import { EDIT_LRS, type NetworkTensors, type Slot, trainedShapes, updateOf } from "./network.js";
import type { MendOptions } from "./options.js";
import { type AllStatistics, observe, type Statistics, statisticsTensors } from "./statistics.js";

/*
 * Training of the network (Mitchell et al. 2022, section 3.2; released: trainer/EDITTrainer.py): after an edit its target
 * shall be answered, and an unrelated question as before. The factors of the first gradient are constants, so that the
 * second pass alone is differentiated, and in nothing but the network.
 */

/** An edit to train on, in tokens. */
export interface TrainingExample {
  /** The edit whose gradient is taken. */
  edit: MendExample;
  /** The question that must be answered with the target afterwards. */
  outer: MendExample;
  /** An unrelated question with its answer, and the positions at which its predictions shall stay. */
  kept: { row: TokenRow; positions: number[] };
}

/** The loss of an example in its parts, in nats. */
export interface ExampleLoss {
  total: number;
  edit: number;
  loc: number;
}

/** A network as it begins: v normal, scale 1, all else 0. The caller disposes it. */
export function newNetwork(
  slots: readonly Slot[],
  { rank, edit_lr }: Pick<MendOptions, "rank" | "edit_lr">,
  rng: Rng,
): Record<string, tf.Tensor> {
  const made = [...trainedShapes(slots, rank)].map(([name, shape]) => {
    const size = shape.reduce((product, extent) => product * extent, 1);
    const drawn = rng.fork(name);
    const part = name.split(".").at(-1);
    const value = { [EDIT_LRS]: () => edit_lr, v: drawn.normal, scale: () => 1 }[part as string] ?? (() => 0);
    return [name, tf.tensor(Float32Array.from({ length: size }, value), shape)] as const;
  });
  return Object.fromEntries(made);
}

/** Surroundings of a training. */
export interface TrainingPlace {
  model: LlamaModel;
  cuts: CutStore;
  slots: readonly Slot[];
  options: Pick<MendOptions, "cedit" | "cloc">;
}

/**
 * The loss of one example and its gradient in the network, in the order of the network's names. Takes the factors of the
 * edit into the statistics first, matrix by matrix. The caller disposes the gradients.
 */
export async function exampleGradient(
  place: TrainingPlace,
  network: NetworkTensors,
  { example, statistics }: { example: TrainingExample; statistics: AllStatistics },
): Promise<{ loss: ExampleLoss; gradients: tf.Tensor[] }> {
  const { model, cuts, slots } = place;
  const { edit, outer, kept } = example;
  const [own, ...after] = await cuts.get([edit.row.ids, outer.row.ids, kept.row.ids]);
  const batch = batchCuts(model, [own as NonNullable<typeof own>]);
  const { loss, factors } = await editGradient(model, { example: edit, batch, slots, standing: [] });
  tf.dispose(loss);
  batch.dispose();
  const normal: NetworkTensors[] = [];
  for (const { shape, index } of slots) {
    const own = statistics.get(shape) as Statistics;
    await observe(own, factors[index] as GradientFactors);
    normal.push(statisticsTensors(shape, own));
  }
  const both = batchCuts(model, after);
  try {
    return await afterGradient(place, network, { outer, kept, batch: both, factors, normal });
  } finally {
    both.dispose();
    tf.dispose([normal, factors.map(({ x, delta }) => [x, delta])]);
  }
}

/** The loss after the edit, and its gradients. Row 0 of the batch is `outer`, and row 1 `kept`. */
async function afterGradient(
  { model, slots, options }: TrainingPlace,
  network: NetworkTensors,
  {
    outer,
    kept,
    batch,
    factors,
    normal,
  }: Pick<TrainingExample, "outer" | "kept"> & {
    batch: ReturnType<typeof batchCuts>;
    factors: readonly GradientFactors[];
    /** Statistics at the time of each matrix. */
    normal: readonly NetworkTensors[];
  },
): Promise<{ loss: ExampleLoss; gradients: tf.Tensor[] }> {
  const names = Object.keys(network);
  const spots = [...spotsOf(outer.positions, 0), ...spotsOf(kept.positions, 1)];
  const before = logitsAt(model, batch, { spots: spotsOf(kept.positions, 1) });
  const { targets, weights } = aimOf(outer, model.config.vocabSize);
  const parts: tf.Scalar[] = [];
  const { total, gradients } = tf.tidy(() => {
    const { value, grads } = tf.valueAndGrads((...tensors) => {
      const named = Object.fromEntries(names.map((name, i) => [name, tensors[i] as tf.Tensor]));
      const patch = slots.map((slot) => {
        const own = { ...named, ...normal[slot.index] };
        return { site: slot.site, change: changeOf(updateOf(own, slot, factors[slot.index] as GradientFactors)) };
      });
      const logits = logitsAt(model, batch, { patch, spots });
      const n = outer.positions.length;
      const edit = crossEntropy(tf.slice(logits, 0, n), targets, weights);
      const loc = divergence(before, tf.slice(logits, n));
      parts.push(tf.keep(edit.clone()), tf.keep(loc.clone()));
      return tf.add(tf.mul(edit, options.cedit), tf.mul(loc, options.cloc));
    })(Object.values(network));
    return { total: value, gradients: grads };
  }) as { total: tf.Scalar; gradients: tf.Tensor[] };
  const read = async (one: tf.Scalar | undefined) => ((await one?.data<"float32">())?.[0] ?? Number.NaN) as number;
  const loss = { total: await read(total), edit: await read(parts[0]), loc: await read(parts[1]) };
  tf.dispose([total, parts, before, targets, weights]);
  return { loss, gradients };
}

/**
 * Mean over rows of KL(before || after), in nats. [n, V] both. Each entry is p log(p / q) - p + q, whose last parts add up to
 * nothing: it is never below 0, so that what is left of two distributions that are nearly one is not their rounding.
 */
function divergence(before: tf.Tensor2D, after: tf.Tensor2D): tf.Scalar {
  return tf.tidy(() => {
    const [was, is] = [tf.logSoftmax(before), tf.logSoftmax(after)];
    const [p, q] = [tf.exp(was), tf.exp(is)];
    const entries = tf.add(tf.mul(p, tf.sub(was, is)), tf.sub(q, p));
    return tf.div(tf.sum(entries), before.shape[0]) as tf.Scalar;
  });
}

/** Mean gradient of some examples, and their losses. The caller disposes the gradients. */
export async function meanGradient(
  place: TrainingPlace,
  network: NetworkTensors,
  { examples, statistics }: { examples: readonly TrainingExample[]; statistics: AllStatistics },
): Promise<{ losses: ExampleLoss[]; gradients: tf.Tensor[] }> {
  const losses: ExampleLoss[] = [];
  let sums: tf.Tensor[] = Object.values(network).map((tensor) => tf.zerosLike(tensor));
  for (const example of examples) {
    const { loss, gradients } = await exampleGradient(place, network, { example, statistics });
    losses.push(loss);
    const next = sums.map((sum, i) => {
      return tf.tidy(() => tf.add(sum, tf.div(gradients[i] as tf.Tensor, examples.length)));
    });
    tf.dispose([sums, gradients]);
    sums = next;
    if (Number.isFinite(loss.total)) continue;
    tf.dispose(sums);
    const said = `the loss of a training became ${loss.total} (edit ${loss.edit}, loc ${loss.loc})`;
    throw new LabFailure(`${said}: a smaller lr or edit_lr keeps it finite`);
  }
  return { losses, gradients: sums };
}

/**
 * One step of Adam, the gradient no longer than `limit`. The network and the gradients go.
 * @returns the network after it, and the norm of the gradient before it was cut
 */
export async function stepped(
  network: NetworkTensors,
  { gradients, adams, limit }: { gradients: readonly tf.Tensor[]; adams: readonly Adam[]; limit: number },
): Promise<{ network: Record<string, tf.Tensor>; norm: number }> {
  const length = tf.tidy(() => tf.sqrt(tf.addN(gradients.map((gradient) => tf.sum(tf.square(gradient))))));
  const norm = (await length.data<"float32">())[0] as number;
  const factor = Math.min(1, limit / (norm + 1e-6));
  const moved = Object.entries(network).map(([name, tensor], i) => {
    const cut = tf.mul(gradients[i] as tf.Tensor, factor);
    const next = (adams[i] as Adam).step(tensor, cut);
    cut.dispose();
    return [name, next] as const;
  });
  tf.dispose([length, network, ...gradients]);
  return { network: Object.fromEntries(moved), norm };
}
