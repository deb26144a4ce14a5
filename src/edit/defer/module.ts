import type { Rng } from "../../core/rng.js";
import type { LlamaConfig } from "../../model/config.js";
import type { Change } from "../../model/patch.js";
import { linear } from "../../model/weight.js";
import { tf } from "../../tensor/tf.js";
import { type EditState, type StateTensor, stateTensor } from "../state.js";

/** The module beside a value matrix, for its input q at the last token of a sequence: gate sigmoid(a . q + b), value A q + c. */
export interface Module<T = tf.Tensor2D> {
  a: T; // [1, M]
  b: T; // [1, 1]
  A: T; // [D, M]
  c: T; // [1, D]
}

/** Its tensors in the order in which they are trained and drawn. */
export const PARTS = ["a", "b", "A", "c"] as const;

type Sizes = Pick<LlamaConfig, "hiddenSize" | "intermediateSize">;

/** Shapes of the parts. */
export function shapesOf({ hiddenSize: D, intermediateSize: M }: Sizes): Module<[number, number]> {
  return { a: [1, M], b: [1, 1], A: [D, M], c: [1, D] };
}

/** A module of tensors, in the order of `PARTS`. */
export function moduleOf(parts: readonly tf.Tensor2D[]): Module {
  const [a, b, A, c] = parts as [tf.Tensor2D, tf.Tensor2D, tf.Tensor2D, tf.Tensor2D];
  return { a, b, A, c };
}

/** Start of the parts: uniform within 1 / sqrt(M) of 0. */
export function drawModule(sizes: Sizes, rng: Rng): Module<Float32Array> {
  const bound = 1 / Math.sqrt(sizes.intermediateSize);
  const shapes = shapesOf(sizes);
  const draw = (part: (typeof PARTS)[number]) => {
    const own = rng.fork("module", part);
    const [rows, columns] = shapes[part];
    return Float32Array.from({ length: rows * columns }, () => bound * (2 * own.uniform() - 1));
  };
  return { a: draw("a"), b: draw("b"), A: draw("A"), c: draw("c") };
}

/** The parts as tensors, in the order of `PARTS`. */
export function loadedModule(values: Module<Float32Array>, sizes: Sizes): tf.Tensor2D[] {
  const shapes = shapesOf(sizes);
  return PARTS.map((part) => tf.tensor2d(values[part], shapes[part]));
}

/** The parts of a state. @throws {RefusedInput} for a state of other sizes */
export function moduleOfState(state: EditState, sizes: Sizes): Module<Float32Array> {
  const shapes = shapesOf(sizes);
  const part = (name: (typeof PARTS)[number]) => stateTensor(state, name, shapes[name]);
  return { a: part("a"), b: part("b"), A: part("A"), c: part("c") };
}

/** The parts as they are saved. */
export async function storedModule(parts: readonly tf.Tensor2D[]): Promise<Record<string, StateTensor>> {
  const stored = parts.map(async (part, i) => {
    return [PARTS[i] as string, { shape: part.shape, data: await part.data<"float32">() }] as const;
  });
  return Object.fromEntries(await Promise.all(stored));
}

/** The gate of each sequence for the inputs at its last token, [B, M] -> [B, 1]. */
export function gateOf(q: tf.Tensor2D, { a, b }: Module): tf.Tensor2D {
  return tf.tidy(() => tf.sigmoid(tf.add(linear(q, a), b)) as tf.Tensor2D);
}

/** The value of each sequence, [B, M] -> [B, D]. */
export function answerOf(q: tf.Tensor2D, { A, c }: Module): tf.Tensor2D {
  return tf.tidy(() => tf.add(linear(q, A), c) as tf.Tensor2D);
}

/** While it is trained, of one sequence: at every position g value + (1 - g) output. q [1, M] */
export function mixedChange(module: Module, q: tf.Tensor2D): Change {
  return (_x, own) => {
    const gate = gateOf(q, module);
    return tf.add(tf.mul(gate, answerOf(q, module)), tf.mul(tf.sub(1, gate), own()));
  };
}

/** When it answers: the value of each sequence at all of its T positions. values [B, D] */
export function answeringChange(values: tf.Tensor2D, T: number): Change {
  return (_x, _own, pick) => {
    const [B, D] = values.shape;
    return pick(tf.tile(values.reshape([B, 1, D]), [1, T, 1]).reshape([B * T, D]) as tf.Tensor2D);
  };
}
