import { plain } from "./layer-plain.js";
import { inWgsl } from "./layer-wgsl.js";
import type { tf } from "./tf.js";
import { runsWgsl } from "./webgpu-kernels.js";

/** Operations of a layer with gradients of their own, of which WebGPU makes fewer programs, to the same bits. */
export interface LayerOps {
  /** x / sqrt(mean(x^2) + eps), row by row. [N, D] */
  unitRows(x: tf.Tensor2D, eps: number): tf.Tensor2D;
  /** silu(gate) * up, element by element. */
  gated(gate: tf.Tensor2D, up: tf.Tensor2D): tf.Tensor2D;
  /**
   * Rotates the last axis of x [B, heads, T, h] by angles, or back; halves are paired, not neighbours. It has no gradient.
   * @param tables cosines and sines, [T, h] or [B, 1, T, h]
   */
  turned(x: tf.Tensor, tables: readonly [cos: tf.Tensor, sin: tf.Tensor], direction: 1 | -1): tf.Tensor;
}

/** Those of the current backend. */
export function layerOps(): LayerOps {
  return runsWgsl() ? inWgsl : plain;
}
