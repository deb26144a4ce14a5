import type { LayerOps } from "./layer-ops.js";
import { tf } from "./tf.js";
import { runWgsl } from "./webgpu-kernels.js";

/** The number at `i` stands in row `i / width()`. */
const WIDTH = "fn width() -> i32 { return uniforms.outShape.y; }";

/** 1 / sqrt(mean + eps) of the row of the number at `i`. */
const INVERSE = "inverseSqrt(mean[i / width()] + uniforms.eps)";

/** silu and its slope, in the order in which `plain` rounds. */
const SILU = `
  fn sigmoid(x : f32) -> f32 { return 1.0 / (1.0 + exp(-1.0 * x)); }
  fn silu(x : f32) -> f32 { return rounded(x * sigmoid(x)); }
  fn slope(x : f32) -> f32 { return sigmoid(x) + (silu(x) - rounded(silu(x) * sigmoid(x))); }
`;

/** A half of x [B, heads, T, h] is paired with the other one; tables are [T, h], or one for each of B. */
const TURN = `
  fn paired(i : i32) -> i32 {
    let half = uniforms.outShape.w / 2;
    return select(i - half, i + half, i % uniforms.outShape.w < half);
  }
  fn side(i : i32) -> f32 { return select(1.0, -1.0, i % uniforms.outShape.w < uniforms.outShape.w / 2); }
  fn place(i : i32) -> i32 {
    let table = uniforms.outShape.z * uniforms.outShape.w;
    return i % table + i / (uniforms.outShape.y * table) * i32(uniforms.apart);
  }
`;

/** On WebGPU: fewer programs, and fewer numbers kept for the gradient; the same bits as `plain`. */
export const inWgsl: LayerOps = {
  unitRows(x, eps) {
    const units = tf.customGrad((...inputs) => {
      const [rows, save] = inputs as [tf.Tensor2D, tf.GradSaveFunc];
      const mean = tf.mean(tf.square(rows), 1, true); // [N, 1]
      const run = (name: string, given: { inputs: Record<string, tf.Tensor>; value: string }) =>
        runWgsl({ name, ...given, shape: rows.shape, functions: WIDTH, uniforms: { eps } });
      const unit = run("unit rows", { inputs: { x: rows, mean }, value: `x[i] * ${INVERSE}` }); // [N, D]
      save([unit, mean]);
      return {
        value: unit,
        gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => {
          const [unit, mean] = saved as [tf.Tensor, tf.Tensor];
          const along = tf.mean(tf.mul(dy, unit), 1, true); // [N, 1]
          const value = `(dy[i] - rounded(unit[i] * along[i / width()])) * ${INVERSE}`;
          return run("unit rows back", { inputs: { dy, unit, along, mean }, value });
        },
      };
    });
    return units(x) as tf.Tensor2D;
  },

  gated(gate, up) {
    const product = tf.customGrad((...inputs) => {
      const [g, u, save] = inputs as [tf.Tensor, tf.Tensor, tf.GradSaveFunc];
      save([g, u]);
      const run = (name: string, given: { inputs: Record<string, tf.Tensor>; value: string }) =>
        runWgsl({ name, ...given, shape: g.shape, functions: SILU });
      return {
        value: run("gated", { inputs: { g, u }, value: "silu(g[i]) * u[i]" }),
        gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => {
          const [g, u] = saved as [tf.Tensor, tf.Tensor];
          return [
            run("gated back to gate", { inputs: { dy, g, u }, value: "(dy[i] * u[i]) * slope(g[i])" }),
            run("gated back to up", { inputs: { dy, g }, value: "dy[i] * silu(g[i])" }),
          ];
        },
      };
    });
    return product(gate, up) as tf.Tensor2D;
  },

  turned(x, [cos, sin], direction) {
    const [, , T, h] = x.shape as [number, number, number, number];
    return runWgsl({
      name: "turned",
      inputs: { x, cos, sin },
      shape: x.shape,
      functions: TURN,
      value: "rounded(x[i] * cos[place(i)]) + rounded(uniforms.direction * side(i) * x[paired(i)] * sin[place(i)])",
      uniforms: { direction, apart: cos.size === T * h ? 0 : T * h },
    });
  },
};
