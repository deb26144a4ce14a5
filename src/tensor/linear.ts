import { tf } from "./tf.js";

/*
 * Native TensorFlow copies a matrix that it is to transpose, however few rows are multiplied: [16, 2048] x [256, 2048]^T takes
 * 1.3 ms, with a transposed copy kept 0.17 ms, and as (W x^T)^T 0.25 ms (measured, AMD EPYC). Small matrices keep a copy.
 */

/** Entries of a matrix up to which a transposed copy is kept: 2 MB. */
export const COPIED_ENTRIES = 2 ** 19;

/** Rows for which (W x^T)^T is faster than x W^T. */
const [FEWEST, MOST] = [2, 96];

const copies = new WeakMap<tf.Tensor, tf.Tensor2D>();

/**
 * Keeps a transposed copy of a matrix of weights, where it pays: they are constants then.
 * @returns the copy, which the caller disposes with them; else null
 */
export function keepTransposed(w: tf.Tensor2D): tf.Tensor2D | null {
  if (tf.getBackend() !== "tensorflow" || w.size > COPIED_ENTRIES) return null;
  const copy: tf.Tensor2D = tf.transpose(w);
  copies.set(w, copy);
  return copy;
}

/** x W^T. x [n, in], w [out, in] -> [n, out]; differentiable in x, and in w where no copy of it is kept. */
export function timesTransposed(x: tf.Tensor2D, w: tf.Tensor2D): tf.Tensor2D {
  const copy = copies.get(w);
  if (copy !== undefined) return timesConstant(x, w, copy);
  const n = x.shape[0];
  if (tf.getBackend() !== "tensorflow" || n < FEWEST || n > MOST) return tf.matMul(x, w, false, true);
  return tf.tidy(() => tf.transpose(tf.matMul(w, x, false, true)) as tf.Tensor2D);
}

/** The same of constant weights: neither this product nor that of its gradient transposes them. */
function timesConstant(x: tf.Tensor2D, w: tf.Tensor2D, transposed: tf.Tensor2D): tf.Tensor2D {
  const product = tf.customGrad((...inputs) => {
    const [rows] = inputs as [tf.Tensor2D];
    return { value: tf.matMul(rows, transposed), gradFunc: (dy: tf.Tensor) => tf.matMul(dy as tf.Tensor2D, w) };
  });
  return product(x) as tf.Tensor2D;
}
