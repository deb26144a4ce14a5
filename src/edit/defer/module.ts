import type { Rng } from "../../core/rng.js";
import type { LlamaConfig } from "../../model/config.js";
import type { Change } from "../../model/patch.js";
import { tf } from "../../tensor/tf.js";
import { type EditState, type StateTensor, stateTensor } from "../state.js";

/*
 * The module beside a value matrix reads its input q at the last token of a sequence: its gate is sigmoid(a . q + b), its value
 * A q + c. It is held as one matrix, [A c; a b], which multiplies [q 1]: one product gives value and gate.
 */

/** The parts of a module. */
export interface Module {
  a: Float32Array; // [1, M]
  b: Float32Array; // [1, 1]
  A: Float32Array; // [D, M]
  c: Float32Array; // [1, D]
}

/** Their names, in the order in which they are drawn. */
export const PARTS = ["a", "b", "A", "c"] as const;

type Sizes = Pick<LlamaConfig, "hiddenSize" | "intermediateSize">;

/** Shapes of the parts. */
export function shapesOf({ hiddenSize: D, intermediateSize: M }: Sizes): Record<keyof Module, [number, number]> {
  return { a: [1, M], b: [1, 1], A: [D, M], c: [1, D] };
}

/** Start of the parts: uniform within 1 / sqrt(M) of 0. */
export function drawModule(sizes: Sizes, rng: Rng): Module {
  const bound = 1 / Math.sqrt(sizes.intermediateSize);
  const shapes = shapesOf(sizes);
  const draw = (part: keyof Module) => {
    const own = rng.fork("module", part);
    const [rows, columns] = shapes[part];
    return Float32Array.from({ length: rows * columns }, () => bound * (2 * own.uniform() - 1));
  };
  return { a: draw("a"), b: draw("b"), A: draw("A"), c: draw("c") };
}

/** The matrix of a module, [D + 1, M + 1]. */
export function moduleMatrix({ a, b, A, c }: Module, { hiddenSize: D, intermediateSize: M }: Sizes): tf.Tensor2D {
  const values = new Float32Array((D + 1) * (M + 1));
  for (let row = 0; row < D; row++) {
    values.set(A.subarray(row * M, (row + 1) * M), row * (M + 1));
    values[row * (M + 1) + M] = c[row] as number;
  }
  values.set(a, D * (M + 1));
  values.set(b, values.length - 1);
  return tf.tensor2d(values, [D + 1, M + 1]);
}

/** The parts of a state. @throws {RefusedInput} for a state of other sizes */
export function moduleOfState(state: EditState, sizes: Sizes): Module {
  const shapes = shapesOf(sizes);
  const part = (name: keyof Module) => stateTensor(state, name, shapes[name]);
  return { a: part("a"), b: part("b"), A: part("A"), c: part("c") };
}

/** The parts as they are saved. */
export async function storedModule(matrix: tf.Tensor2D): Promise<Record<keyof Module, StateTensor>> {
  const [D, M] = [matrix.shape[0] - 1, matrix.shape[1] - 1];
  const shapes = shapesOf({ hiddenSize: D, intermediateSize: M });
  const values = await matrix.data<"float32">();
  const A = new Float32Array(D * M);
  for (let row = 0; row < D; row++) A.set(values.subarray(row * (M + 1), row * (M + 1) + M), row * M);
  return {
    a: { shape: shapes.a, data: values.slice(D * (M + 1), -1) },
    b: { shape: shapes.b, data: values.slice(-1) },
    A: { shape: shapes.A, data: A },
    c: { shape: shapes.c, data: Float32Array.from({ length: D }, (_, row) => values[row * (M + 1) + M] as number) },
  };
}

/** Inputs as the matrix multiplies them, [q 1]: [B, M] -> [B, M + 1]. */
export function withOne(q: tf.Tensor2D): tf.Tensor2D {
  return tf.tidy(() => tf.concat([q, tf.ones([q.shape[0], 1])], 1) as tf.Tensor2D);
}

/** Outputs of a module for B sequences. */
export interface ModuleOutput {
  gates: tf.Tensor2D; // [B, 1]
  values: tf.Tensor2D; // [B, D]
}

/** Gates and values in the product of a module, [B, D + 1]; differentiable in it. */
export function moduleOutput(product: tf.Tensor2D): ModuleOutput {
  const [values, gates] = tf.split(product, [product.shape[1] - 1, 1], 1) as [tf.Tensor2D, tf.Tensor2D];
  return { values, gates: tf.sigmoid(gates) };
}

/** Change while the module is trained, of one sequence: at every position g value + (1 - g) output. */
export function mixedChange({ gates, values }: ModuleOutput): Change {
  return (_x, own) => tf.add(tf.mul(gates, values), tf.mul(tf.sub(1, gates), own()));
}

/** Change where the module answers: the value of each sequence at all of its T positions. values [B, D] */
export function answeringChange(values: tf.Tensor2D, T: number): Change {
  return (_x, _own, pick) => {
    const [B, D] = values.shape;
    return pick(tf.tile(values.reshape([B, 1, D]), [1, T, 1]).reshape([B * T, D]) as tf.Tensor2D);
  };
}
