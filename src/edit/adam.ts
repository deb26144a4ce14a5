import { tf } from "../tensor/tf.js";

const BETA1 = 0.9;
const BETA2 = 0.999;
const EPSILON = 1e-8;

/** Adam with bias correction (Kingma and Ba 2015) over one tensor, as PyTorch has it. */
export interface Adam {
  /**
   * One step. The tensor handed in stays, and what is given back is the caller's.
   * @param gradient with whatever decay belongs to it
   * @param along Row q [1, m], the same at every step, where the gradient of x [n, m] is g' q: `gradient` is g [1, n] then.
   *   The moments are outer products with q and q^2, and only their vectors are kept.
   */
  step(x: tf.Tensor, gradient: tf.Tensor, along?: tf.Tensor2D): tf.Tensor;
  /** All that another one goes on from exactly; its tensors stay this one's. */
  state(): AdamState;
  dispose(): void;
}

/** Steps so far, and the moments of their gradients; null before the first. */
export interface AdamState {
  steps: number;
  moments: [mean: tf.Tensor, square: tf.Tensor] | null;
}

/**
 * Begins with moments of zero, or goes on.
 * @param lr size of a step
 * @param from its tensors are taken over
 */
export function createAdam(lr: number, from: AdamState = { steps: 0, moments: null }): Adam {
  let { steps, moments } = from;
  /** old beta + now (1 - beta); `old` goes. At full size a matrix takes a quarter of a gigabyte. */
  const blend = (old: tf.Tensor, now: () => tf.Tensor, beta: number): tf.Tensor => {
    const next = tf.keep(tf.tidy(() => tf.add(tf.mul(old, beta), tf.mul(now(), 1 - beta))));
    old.dispose();
    return next;
  };
  return {
    step(x, gradient, along) {
      const spread = (part: tf.Tensor, over: (along: tf.Tensor2D) => tf.Tensor2D): tf.Tensor =>
        along === undefined ? part : tf.matMul(part as tf.Tensor2D, over(along), true);
      steps += 1;
      const [m, v] = moments ?? [tf.zerosLike(gradient), tf.zerosLike(gradient)];
      const mean = blend(m, () => gradient, BETA1);
      const square = blend(v, () => tf.square(gradient), BETA2);
      moments = [mean, square];
      return tf.tidy(() => {
        const size = () => spread(tf.div(tf.sqrt(square), Math.sqrt(1 - BETA2 ** steps)), tf.abs);
        const scale = tf.tidy(() => tf.add(size(), EPSILON));
        const way = tf.tidy(() =>
          tf.div(
            spread(tf.mul(mean, lr / (1 - BETA1 ** steps)), (q) => q),
            scale,
          ),
        );
        scale.dispose();
        return tf.sub(x, way);
      });
    },
    state: () => ({ steps, moments }),
    dispose() {
      if (moments !== null) tf.dispose(moments);
    },
  };
}
