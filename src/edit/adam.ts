import { tf } from "../tensor/tf.js";

const BETA1 = 0.9;
const BETA2 = 0.999;
const EPSILON = 1e-8;

/** Adam with bias correction (Kingma and Ba 2015) over one tensor, as PyTorch has it. */
export interface Adam {
  /**
   * One step. The tensor handed in stays, and what is given back is the caller's.
   * @param gradient with whatever decay belongs to it
   */
  step(x: tf.Tensor, gradient: tf.Tensor): tf.Tensor;
  dispose(): void;
}

/** Begins with moments of zero. @param lr size of a step */
export function createAdam(lr: number): Adam {
  let steps = 0;
  let moments: [tf.Tensor, tf.Tensor] | null = null;
  return {
    step(x, gradient) {
      steps += 1;
      const [mean, square, moved] = tf.tidy(() => {
        const [m, v] = moments ?? [tf.zerosLike(gradient), tf.zerosLike(gradient)];
        const mean = tf.add(tf.mul(m, BETA1), tf.mul(gradient, 1 - BETA1));
        const square = tf.add(tf.mul(v, BETA2), tf.mul(tf.square(gradient), 1 - BETA2));
        const scale = tf.add(tf.div(tf.sqrt(square), Math.sqrt(1 - BETA2 ** steps)), EPSILON);
        return [mean, square, tf.sub(x, tf.div(tf.mul(mean, lr / (1 - BETA1 ** steps)), scale))];
      }) as [tf.Tensor, tf.Tensor, tf.Tensor];
      if (moments !== null) tf.dispose(moments);
      moments = [tf.keep(mean), tf.keep(square)]; // also within a tidy of the caller's
      return moved;
    },
    dispose() {
      if (moments !== null) tf.dispose(moments);
    },
  };
}
