import { inPlaceOf } from "./in-place.js";
import { tf } from "./tf.js";
import { runsWgsl, runWgsl } from "./webgpu-kernels.js";

/** One step of plain SGD on W + delta. */
export interface SgdStep {
  /** W, of delta's shape; it is read where there is decay. */
  main: tf.Tensor2D;
  lr: number;
  /** Pulls all of W + delta towards zero, masked or not. */
  decay: number;
  /** Largest magnitude of an entry afterwards; null for none. */
  bound: number | null;
}

/**
 * clip(delta - lr (mask * gradient + decay (main + delta)), -bound, bound), entry by entry; one dispatch on WebGPU, with
 * the same bits. All tensors are of one shape, and stay.
 * @param mask of dtype bool; null where it is all ones
 */
export function maskedStep(
  ...[delta, gradient, mask, step]: [tf.Tensor2D, tf.Tensor2D, tf.Tensor2D | null, SgdStep]
): tf.Tensor2D {
  return runsWgsl() ? inOne(delta, gradient, mask, step) : stepByStep(delta, gradient, mask, step);
}

function inOne(...[delta, gradient, mask, step]: Parameters<typeof maskedStep>): tf.Tensor2D {
  const { main, lr, decay, bound } = step;
  const masked = mask === null ? "gradient[i]" : "f32(mask[i]) * gradient[i]";
  const direction = decay === 0 ? masked : `${masked} + rounded((weights[i] + delta[i]) * uniforms.decay)`;
  const moved = `delta[i] - rounded((${direction}) * uniforms.lr)`;
  return runWgsl({
    name: `step ${[mask && "masked", decay && "decayed", bound !== null && "bounded"].filter(Boolean)}`,
    inputs: { delta, gradient, ...(mask && { mask }), ...(decay && { weights: main }) },
    shape: delta.shape,
    value: bound === null ? moved : `bounded(${moved}, uniforms.bound)`,
    uniforms: { lr, decay, bound: bound ?? 0 },
  }) as tf.Tensor2D;
}

/** The same in operations of TensorFlow.js. */
export function stepByStep(...[delta, gradient, mask, step]: Parameters<typeof maskedStep>): tf.Tensor2D {
  const { main, lr, decay, bound } = step;
  return tf.tidy(() => {
    let direction = mask === null ? gradient.clone() : inPlaceOf(mask.toFloat(), (share) => tf.mul(share, gradient));
    if (decay !== 0) {
      const pull = inPlaceOf(tf.add(main, delta), (edited) => tf.mul(edited, decay));
      direction = inPlaceOf(direction, (masked) => tf.add(masked, pull));
      pull.dispose();
    }
    const way = inPlaceOf(direction, (x) => tf.mul(x, lr));
    const moved = inPlaceOf(way, (x) => tf.sub(delta, x));
    return bound === null ? moved : inPlaceOf(moved, (x) => tf.clipByValue(x, -bound, bound));
  });
}
