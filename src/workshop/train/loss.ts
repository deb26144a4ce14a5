import { tf } from "../../tensor/tf.js";

/**
 * -log p(target), position by position, with its own gradient softmax(logits) - onehot(target).
 * logits [N, V], targets [N] int32 -> [N].
 */
export function crossEntropy(logits: tf.Tensor2D, targets: tf.Tensor1D): tf.Tensor1D {
  const entropy = tf.customGrad((...inputs) => {
    const [scores, save] = inputs as [tf.Tensor2D, tf.GradSaveFunc];
    const wanted = tf.oneHot(targets, scores.shape[1]).toFloat(); // [N, V]; the wasm kernel ignores a dtype asked for
    const logProbabilities = tf.sub(scores, tf.logSumExp(scores, 1, true)); // [N, V]
    save([logProbabilities, wanted]);
    return {
      value: tf.neg(tf.sum(tf.mul(logProbabilities, wanted), 1)),
      gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => {
        const [logProbabilities, wanted] = saved as [tf.Tensor, tf.Tensor];
        return tf.mul(tf.sub(tf.exp(logProbabilities), wanted), tf.expandDims(dy, 1));
      },
    };
  });
  return entropy(logits) as tf.Tensor1D;
}
