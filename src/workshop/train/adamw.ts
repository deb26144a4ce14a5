import { tf } from "../../tensor/tf.js";

/** Settings of AdamW (Loshchilov and Hutter 2019) that stay the same through a run. */
export interface AdamW {
  beta1: number;
  beta2: number;
  epsilon: number;
  /** Share of a weight that goes per step, times the learning rate. Vectors (norms) are not decayed. */
  weightDecay: number;
}

/** A weight with its running mean of gradients and of their squares, all of one shape. */
export interface Moving {
  weight: tf.Tensor;
  first: tf.Tensor;
  second: tf.Tensor;
}

/**
 * One step of AdamW: w (1 - lr decay) - lr m^ / (sqrt(v^) + epsilon), where m^ and v^ are corrected for their start at 0.
 * The corrections are folded into the factors, so that a step takes 13 operations.
 * @param at `step` counts from 1
 * @returns new tensors; the old ones stay
 */
export function adamwStep(
  { weight, first, second }: Moving,
  gradient: tf.Tensor,
  settings: AdamW,
  at: { step: number; learningRate: number },
): Moving {
  const { beta1, beta2, epsilon, weightDecay } = settings;
  const unbias1 = 1 - beta1 ** at.step;
  const unbias2 = Math.sqrt(1 - beta2 ** at.step);
  const kept = weight.rank > 1 ? 1 - at.learningRate * weightDecay : 1;
  return tf.tidy(() => {
    const m = tf.add(first, tf.mul(tf.sub(gradient, first), 1 - beta1));
    const v = tf.add(second, tf.mul(tf.sub(tf.square(gradient), second), 1 - beta2));
    const move = tf.div(tf.mul(m, (at.learningRate * unbias2) / unbias1), tf.add(tf.sqrt(v), epsilon * unbias2));
    return { weight: tf.sub(tf.mul(weight, kept), move), first: m, second: v };
  });
}

/** The factor, at most 1, that brings the norm of all gradients together down to `limit`. */
export function clipFactor(gradients: readonly tf.Tensor[], limit: number): tf.Scalar {
  return tf.tidy(() => {
    const norm = tf.sqrt(tf.addN(gradients.map((gradient) => tf.sum(tf.square(gradient)))));
    return tf.minimum(tf.div(limit, tf.add(norm, 1e-6)), 1) as tf.Scalar;
  });
}

/**
 * Learning rate at a step counted from 1: a straight rise over the warm-up, then half a cosine that would reach 0 one step
 * after the last.
 */
export function learningRateAt(
  step: number,
  { peakLearningRate, warmupSteps, steps }: { peakLearningRate: number; warmupSteps: number; steps: number },
): number {
  if (step <= warmupSteps) return (peakLearningRate * step) / warmupSteps;
  const done = (step - warmupSteps) / (steps + 1 - warmupSteps);
  return peakLearningRate * 0.5 * (1 + Math.cos(Math.PI * done));
}
