import { type Bf16Matrix, isBf16Matrix, linearBf16 } from "../tensor/bf16.js";
import { timesTransposed } from "../tensor/linear.js";
import { tf } from "../tensor/tf.js";

/** A matrix of weights, or a shard of its rows, [out, in]: float32, or packed as bf16 and unpacked when used. */
export type Shard = tf.Tensor2D | Bf16Matrix;

/** A matrix of weights, whole or in row shards: a card may take less in one tensor. */
export type Weight = Shard | readonly Shard[];

export function isSharded(w: Weight): w is readonly Shard[] {
  return Array.isArray(w);
}

/** y = x W^T. x [N, in], w [out, in] -> [N, out]. Differentiable in x, and in w where that is a tensor. */
export function linear(x: tf.Tensor2D, w: Weight): tf.Tensor2D {
  if (!isSharded(w)) return isBf16Matrix(w) ? linearBf16(x, w) : timesTransposed(x, w);
  return tf.tidy(() =>
    tf.concat(
      w.map((shard) => linear(x, shard)),
      1,
    ),
  ); // each output is of one row
}
