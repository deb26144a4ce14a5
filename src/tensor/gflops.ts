import { tf } from "./tf.js";

const MEASURED_MS = 500;

/**
 * Speed of the chosen backend in GFLOP/s (1e9 floating point operations a second), measured on float32 products of
 * [n, k] and [k, m] matrices for half a second: the best of them, so that a busy machine disturbs it least.
 */
export async function measureMatmul(n: number, k = n, m = n): Promise<number> {
  const a = tf.randomNormal([n, k]);
  const b = tf.randomNormal([k, m]);
  try {
    await multiply(a, b); // the first one also sets up
    let best = Number.POSITIVE_INFINITY;
    const until = performance.now() + MEASURED_MS;
    do {
      const started = performance.now();
      await multiply(a, b);
      best = Math.min(best, performance.now() - started);
    } while (performance.now() < until);
    return (2 * n * k * m) / (best * 1e6);
  } finally {
    tf.dispose([a, b]);
  }
}

/** Waits for the whole product by reading one element of it. */
async function multiply(a: tf.Tensor, b: tf.Tensor): Promise<void> {
  const corner = tf.tidy(() => tf.matMul(a, b).slice([0, 0], [1, 1]));
  await corner.data();
  corner.dispose();
}
