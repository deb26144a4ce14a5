import type { LayerOps } from "./layer-ops.js";
import { tf } from "./tf.js";

/** In operations of TensorFlow.js, on any backend; its own gradients of them take four times as many kernel calls. */
export const plain: LayerOps = {
  unitRows(x, eps) {
    const units = tf.customGrad((...inputs) => {
      const [rows, save] = inputs as [tf.Tensor2D, tf.GradSaveFunc];
      const inverse = tf.rsqrt(tf.add(tf.mean(tf.square(rows), 1, true), eps)); // [N, 1]
      const unit = tf.mul(rows, inverse); // [N, D]
      save([unit, inverse]);
      return {
        value: unit,
        gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => {
          const [unit, inverse] = saved as [tf.Tensor, tf.Tensor];
          const along = tf.mean(tf.mul(dy, unit), 1, true); // [N, 1]
          return tf.mul(tf.sub(dy, tf.mul(unit, along)), inverse);
        },
      };
    });
    return units(x) as tf.Tensor2D;
  },

  gated(gate, up) {
    const product = tf.customGrad((...inputs) => {
      const [g, u, save] = inputs as [tf.Tensor, tf.Tensor, tf.GradSaveFunc];
      const sigmoid = tf.sigmoid(g);
      const active = tf.mul(g, sigmoid);
      save([u, sigmoid, active]);
      return {
        value: tf.mul(active, u),
        gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => {
          const [u, sigmoid, active] = saved as [tf.Tensor, tf.Tensor, tf.Tensor];
          // d silu(g) / dg = sigmoid + silu (1 - sigmoid)
          const slope = tf.add(sigmoid, tf.sub(active, tf.mul(active, sigmoid)));
          return [tf.mul(tf.mul(dy, u), slope), tf.mul(dy, active)];
        },
      };
    });
    return product(gate, up) as tf.Tensor2D;
  },

  turned(x, [cos, sin], direction) {
    const [first, second] = tf.split(x, 2, 3) as [tf.Tensor, tf.Tensor];
    const quarter = direction === 1 ? tf.concat([tf.neg(second), first], 3) : tf.concat([second, tf.neg(first)], 3);
    return tf.add(tf.mul(x, cos), tf.mul(quarter, sin));
  },
};
