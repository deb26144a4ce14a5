import type { Spot } from "../model/cut.js";
import { inPlaceOf } from "../tensor/in-place.js";
import { tf } from "../tensor/tf.js";
import type { TokenRow } from "./rows.js";

/** The target tokens of rows: where each is predicted, and its weight in the loss. */
export interface Targets {
  spots: Spot[];
  ids: number[];
  weights: number[];
}

/**
 * The target tokens of rows, one position before they stand. The loss is the mean over the tokens of a row, then over
 * the rows that have a target.
 * @param extra added to the number of tokens that the mean of a row divides by
 */
export function targetsOf(rows: readonly TokenRow[], extra = 0): Targets {
  const targets: Targets = { spots: [], ids: [], weights: [] };
  const counted = rows.filter(({ ids, promptTokens }) => ids.length > promptTokens).length;
  rows.forEach(({ ids, promptTokens }, row) => {
    for (let position = promptTokens; position < ids.length; position++) {
      targets.spots.push({ row, position: position - 1 });
      targets.ids.push(ids[position] as number);
      targets.weights.push(1 / ((ids.length - promptTokens + extra) * counted));
    }
  });
  return targets;
}

/** Target tokens as rows of ones and zeros, [n, V]. */
export function oneHotTargets(ids: readonly number[], vocabSize: number): tf.Tensor2D {
  return tf.tidy(() => tf.oneHot(tf.tensor1d([...ids], "int32"), vocabSize).toFloat() as tf.Tensor2D);
}

/**
 * Weighted cross entropy, with its own gradient weights (softmax(logits) - targets): at full size, TensorFlow.js' own takes
 * a third of a step's memory. logits, targets [n, V], weights [n] -> scalar, in nats
 */
export function crossEntropy(logits: tf.Tensor2D, targets: tf.Tensor2D, weights: tf.Tensor1D): tf.Scalar {
  const entropy = tf.customGrad((...inputs) => {
    const [scores, save] = inputs as [tf.Tensor2D, tf.GradSaveFunc];
    const total = tf.logSumExp(scores, 1, true); // [n, 1]
    const logLikelihood = tf.sub(tf.sum(tf.mul(scores, targets), 1, true), total); // [n, 1]
    save([scores, total]);
    return {
      value: tf.neg(tf.sum(tf.mul(tf.squeeze(logLikelihood, [1]), weights))),
      gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => {
        const [scores, total] = saved as [tf.Tensor2D, tf.Tensor2D];
        const logProbability: tf.Tensor2D = tf.sub(scores, total);
        const probability = inPlaceOf(logProbability, tf.exp);
        const away = inPlaceOf(probability, (x) => tf.sub(x, targets));
        return inPlaceOf(away, (x) => tf.mul(x, tf.mul(dy, tf.expandDims(weights, 1))));
      },
    };
  });
  return entropy(logits) as tf.Scalar;
}
