import { type Change, deltaChange, lowRankChange, type Site, siteName } from "../../model/patch.js";
import { tf } from "../../tensor/tf.js";
import { type EditState, type StateTensor, stateTensor } from "../state.js";
import type { Factors } from "./update.js";

/** Change of one matrix by n target tokens: two factors, left [out, n] and right [in, n], or their product [out, in] alone. */
export type Delta = readonly [left: tf.Tensor2D, right: tf.Tensor2D] | readonly [product: tf.Tensor2D];

/** Sizes of a matrix, [out, in]. */
export type Shape = readonly [out: number, inner: number];

/** Numbers that the change by n tokens is kept as: its factors, until their product is smaller. */
export function deltaSize(n: number, [out, inner]: Shape): number {
  return Math.min(n * (out + inner), out * inner);
}

function isProduct(n: number, [out, inner]: Shape): boolean {
  return n * (out + inner) > out * inner;
}

/** A change with that of one batch more, in tensors of its own. @param before null for none */
export function withFactors(before: Delta | null, { n, left, right }: Factors): Delta {
  return tf.tidy((): tf.Tensor2D[] => {
    const columns = (rows: Float32Array) => tf.transpose(tf.tensor2d(rows, [n, rows.length / n])) as tf.Tensor2D;
    const [l, r] = [columns(left), columns(right)];
    if (before?.length === 1) return [tf.add(before[0], product(l, r))];
    const both = before === null ? ([l, r] as const) : ([joined(before[0], l), joined(before[1], r)] as const);
    return isProduct(both[0].shape[1], [left.length / n, right.length / n]) ? [product(...both)] : [...both];
  }) as unknown as Delta;
}

function product(left: tf.Tensor2D, right: tf.Tensor2D): tf.Tensor2D {
  return tf.matMul(left, right, false, true);
}

function joined(a: tf.Tensor2D, b: tf.Tensor2D): tf.Tensor2D {
  return tf.concat([a, b], 1);
}

export function changeOf(delta: Delta): Change {
  return delta.length === 1 ? deltaChange(delta[0]) : lowRankChange(...delta);
}

/** The change as one matrix in a tensor of its own, [out, in]. */
export function wholeOf(delta: Delta): tf.Tensor2D {
  return delta.length === 1 ? delta[0].clone() : product(...delta);
}

/** Tensors of a state that hold the change by n tokens, with their shapes. */
function partsOf(site: Site, n: number, [out, inner]: Shape): { name: string; shape: [number, number] }[] {
  const name = siteName(site);
  if (isProduct(n, [out, inner])) return [{ name, shape: [out, inner] }];
  return [
    { name: `${name}.left`, shape: [out, n] },
    { name: `${name}.right`, shape: [inner, n] },
  ];
}

/** A change as tensors of a state. @param of its matrix, and the tokens it is by */
export async function storedDelta(
  delta: Delta,
  of: { site: Site; n: number; shape: Shape },
): Promise<EditState["tensors"]> {
  const stored: Record<string, StateTensor> = {};
  for (const [i, { name, shape }] of partsOf(of.site, of.n, of.shape).entries()) {
    stored[name] = { shape, data: await (delta[i] as tf.Tensor2D).data<"float32">() };
  }
  return stored;
}

/**
 * Proves that a state holds a change by n tokens. @returns makes it
 * @throws {RefusedInput} for one that is not there, or in another shape
 */
export function loadedDelta(saved: EditState, of: { site: Site; n: number; shape: Shape }): () => Delta {
  const parts = partsOf(of.site, of.n, of.shape).map(({ name, shape }) => ({
    shape,
    data: stateTensor(saved, name, shape),
  }));
  return () => parts.map(({ shape, data }) => tf.tensor2d(data, shape)) as unknown as Delta;
}
