import { type Change, deltaChange, lowRankChange, type Patch, type Site } from "../../model/patch.js";
import { tf } from "../../tensor/tf.js";
import { type EditState, stateTensor } from "../state.js";

/** A change of rank one: W <- W + left right^T. */
export interface Update {
  left: Float32Array; // [out]
  right: Float32Array; // [in]
}

/** Sizes of the changed matrix, [out, in]. */
export type MatrixShape = readonly [out: number, inner: number];

/** All updates of a matrix as one change. `dispose` frees it. No updates give the empty patch. */
export function patchOf(site: Site, updates: readonly Update[]): { patch: Patch; dispose(): void } {
  const [first] = updates;
  if (first === undefined) return { patch: [], dispose: () => {} };
  const [out, inner, n] = [first.left.length, first.right.length, updates.length];
  const factors = tf.tidy(() => {
    const columns = (rows: Float32Array, size: number) => tf.transpose(tf.tensor2d(rows, [n, size])) as tf.Tensor2D;
    const left = columns(joined(updates, "left"), out);
    const right = columns(joined(updates, "right"), inner);
    return isDense(n, [out, inner]) ? [tf.matMul(left, right, false, true) as tf.Tensor2D] : [left, right];
  });
  const [left, right] = factors as [tf.Tensor2D, tf.Tensor2D | undefined];
  const change: Change = right === undefined ? deltaChange(left) : lowRankChange(left, right);
  return { patch: [{ site, change }], dispose: () => tf.dispose(factors) };
}

/** True if the sum of n updates takes less memory than they do. */
function isDense(n: number, [out, inner]: MatrixShape): boolean {
  return n * (out + inner) > out * inner;
}

/** Bytes of n updates, and of their change on the device. */
export function updateBytes(n: number, [out, inner]: MatrixShape): { kept: number; onDevice: number } {
  const factors = 4 * n * (out + inner);
  return { kept: factors, onDevice: Math.min(factors, 4 * out * inner) };
}

/** Updates under each other: tensors of a state, `NAME.left` [n, out] and `NAME.right` [n, in]. */
export function storedUpdates(name: string, updates: readonly Update[]): EditState["tensors"] {
  const n = updates.length;
  if (n === 0) return {};
  const stored = (side: keyof Update) => ({
    shape: [n, updates[0]?.[side].length as number],
    data: joined(updates, side),
  });
  return { [`${name}.left`]: stored("left"), [`${name}.right`]: stored("right") };
}

/** The same updates again. @throws {RefusedInput} for a state of other sizes */
export function loadedUpdates(name: string, saved: EditState, [out, inner]: MatrixShape): Update[] {
  const n = saved.edits;
  if (n === 0) return [];
  const left = stateTensor(saved, `${name}.left`, [n, out]);
  const right = stateTensor(saved, `${name}.right`, [n, inner]);
  return Array.from({ length: n }, (_, i) => ({
    left: left.slice(i * out, (i + 1) * out),
    right: right.slice(i * inner, (i + 1) * inner),
  }));
}

function joined(updates: readonly Update[], side: keyof Update): Float32Array {
  const size = updates[0]?.[side].length as number;
  const data = new Float32Array(updates.length * size);
  updates.forEach((update, i) => {
    data.set(update[side], i * size);
  });
  return data;
}
