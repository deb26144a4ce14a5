import { tf } from "./tf.js";

/**
 * Rows for which native TensorFlow is faster with the matrix on the left: it copies a matrix that it is to transpose, however
 * few rows are multiplied. [16, 2048] x [256, 2048]^T: 1.3 ms as it stands, 0.25 ms so; even at some 150 rows (measured, AMD EPYC).
 */
const [FEWEST, MOST] = [2, 96];

/** x W^T. x [n, in], w [out, in] -> [n, out]; differentiable in both. */
export function timesTransposed(x: tf.Tensor2D, w: tf.Tensor2D): tf.Tensor2D {
  const n = x.shape[0];
  if (tf.getBackend() !== "tensorflow" || n < FEWEST || n > MOST) return tf.matMul(x, w, false, true);
  return tf.tidy(() => tf.transpose(tf.matMul(w, x, false, true)) as tf.Tensor2D);
}
