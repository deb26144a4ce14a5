import type { Patch, Site } from "../model/patch.js";
import { tf } from "../tensor/tf.js";

/** The gradient of a matrix W in two factors: it is delta^T x. */
export interface GradientFactors {
  /** Input of the matrix, a row for each position it was computed at, [n, in]. */
  x: tf.Tensor2D;
  /** Gradient of the loss with respect to its output there, [n, out]. */
  delta: tf.Tensor2D;
}

/**
 * The loss under a patch that changes nothing and looks at each of the matrices once, with the factors of their gradients,
 * in the order of the sites. The caller disposes all of it.
 * @param loss the forward pass under that patch, laid over whatever stands already
 */
export function gradientFactors(
  sites: readonly Site[],
  loss: (patch: Patch) => tf.Scalar,
): { loss: tf.Scalar; factors: GradientFactors[] } {
  const inputs: tf.Tensor2D[] = [];
  const gradients: tf.Tensor2D[] = [];
  const value = tf.tidy(() => {
    const { value } = tf.valueAndGrad((nothing) =>
      loss(
        sites.map((site, i) => ({
          site,
          change: (x, own) => {
            inputs[i] = tf.keep(x.clone());
            // The sum makes the output depend on what the gradient is asked for.
            const output = tf.customGrad((y) => ({
              value: (y as tf.Tensor).clone(),
              gradFunc: (dy: tf.Tensor) => {
                gradients[i] = tf.keep(dy.clone()) as tf.Tensor2D;
                return dy;
              },
            }));
            return output(tf.add(own(), nothing)) as tf.Tensor2D;
          },
        })),
      ),
    )(tf.scalar(0));
    return value as tf.Scalar;
  });
  return {
    loss: value,
    factors: sites.map((_, i) => ({ x: inputs[i] as tf.Tensor2D, delta: gradients[i] as tf.Tensor2D })),
  };
}
