import type { Rng } from "../../core/rng.js";
import { batchCuts, type Cut, type CutBatch, logitsAt, type Spot } from "../../model/cut.js";
import type { LlamaModel } from "../../model/model.js";
import { siteName } from "../../model/patch.js";
import { tf } from "../../tensor/tf.js";
import { crossEntropy, oneHotTargets, targetsOf } from "../loss.js";
import type { TokenRow } from "../rows.js";
import { type Drop, type Layout, pairsOf, patchOf, separated } from "./factors.js";

/** Everything of one edit that is the same at each of its steps. */
export interface LoraProblem {
  model: LlamaModel;
  layout: Layout;
  batch: CutBatch;
  /** One for each target token. */
  spots: Spot[];
  targets: tf.Tensor2D; // [n, V]
  weights: tf.Tensor1D; // [n]
  dispose(): void;
}

/** Puts an edit on the device. */
export function createProblem(
  model: LlamaModel,
  layout: Layout,
  { row, cut }: { row: TokenRow; cut: Cut },
): LoraProblem {
  const { spots, ids, weights } = targetsOf([row]);
  const batch = batchCuts(model, [cut], [row.promptTokens]);
  const made = { targets: oneHotTargets(ids, model.config.vocabSize), weights: tf.tensor1d(weights) };
  return {
    model,
    layout,
    batch,
    spots,
    ...made,
    dispose: () => {
      batch.dispose();
      tf.dispose(made);
    },
  };
}

/** A term of the loss with its gradient with respect to the factors, [P]. The caller disposes both. */
export interface Term {
  value: tf.Scalar;
  gradient: tf.Tensor1D;
}

/** Mean of -log P over the target tokens, in nats, where the factors stand. */
export function targetTerm(problem: LoraProblem, vector: tf.Tensor1D, drop?: Drop): Term {
  const { model, layout, batch, spots, targets, weights } = problem;
  return termOf(vector, (at) => {
    const patch = patchOf(layout, pairsOf(layout, at), drop);
    return crossEntropy(logitsAt(model, batch, { patch, spots }), targets, weights);
  });
}

/** weight times the mean, over all A and B, of ||A A' - I|| and ||B' B - I|| (Zhang et al. 2023, eq. 4, without squares: PEFT). */
export function orthogonalTerm(layout: Layout, vector: tf.Tensor1D, weight: number): Term {
  return termOf(vector, (at) => {
    const rows = separated(layout, at).flatMap((factor, i) => {
      const name = layout.factors[i]?.name as string;
      if (name.endsWith("E")) return [];
      return [name.endsWith("A") ? factor : (tf.transpose(factor) as tf.Tensor2D)]; // [r, in] or [r, out]
    });
    return tf.mul(tf.mean(tf.stack(rows.map(fromOrthogonal))), weight);
  });
}

function termOf(vector: tf.Tensor1D, term: (at: tf.Tensor1D) => tf.Scalar): Term {
  const { value, grad } = tf.tidy(() => tf.valueAndGrad((at) => term(at as tf.Tensor1D))(vector));
  return { value: value as tf.Scalar, gradient: grad as tf.Tensor1D };
}

/** ||M M' - I||, Frobenius; where that is 0 it has no gradient, and 0 is taken. M [r, n] */
function fromOrthogonal(M: tf.Tensor2D): tf.Scalar {
  const distance = tf.customGrad((...inputs) => {
    const [rows, save] = inputs as [tf.Tensor2D, tf.GradSaveFunc];
    const off = tf.sub(tf.matMul(rows, rows, false, true), tf.eye(rows.shape[0])); // [r, r]
    const value = tf.sqrt(tf.sum(tf.square(off)));
    save([rows, off, value]);
    return {
      value,
      gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => {
        const [rows, off, value] = saved as [tf.Tensor2D, tf.Tensor2D, tf.Scalar];
        return tf.mul(tf.matMul(off, rows), tf.divNoNan(tf.mul(dy, 2), value));
      },
    };
  });
  return distance(M) as tf.Scalar;
}

/** Leaves a share of the entries out and makes up for them in the others; keyed by the matrix. */
export function dropout(share: number, rng: Rng): Drop {
  if (share === 0) return (x) => x;
  return (x, site) => {
    const own = rng.fork(siteName(site));
    const kept = new Float32Array(x.size);
    for (let i = 0; i < kept.length; i++) if (own.uniform() >= share) kept[i] = 1 / (1 - share);
    return tf.mul(x, tf.tensor2d(kept, x.shape));
  };
}
