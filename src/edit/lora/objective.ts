import type { Rng } from "../../core/rng.js";
import { batchCuts, type Cut, type CutBatch, logitsAt, type Spot } from "../../model/cut.js";
import type { LlamaModel } from "../../model/model.js";
import { siteName } from "../../model/patch.js";
import { tf } from "../../tensor/tf.js";
import { crossEntropy, oneHotTargets, targetsOf } from "../loss.js";
import type { TokenRow } from "../rows.js";
import { type Drop, type Group, type Layout, pairsOf, patchOf, separated } from "./factors.js";

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

/** Stands in for a distance of 0. */
const TINY = 1e-30;

/** A term of the loss with its gradient with respect to the factors, end to end [P] or one of them. The caller disposes both. */
export interface Term<G extends tf.Tensor = tf.Tensor1D> {
  value: tf.Scalar;
  gradient: G;
}

/** Mean of -log P over the target tokens, in nats, where the factors stand. */
export function targetTerm(problem: LoraProblem, vector: tf.Tensor1D, drop?: Drop): Term {
  const { model, layout, batch, spots, targets, weights } = problem;
  return termOf(vector, (at) => {
    const patch = patchOf(layout, pairsOf(layout, at), drop);
    return crossEntropy(logitsAt(model, batch, { patch, spots }), targets, weights);
  });
}

/**
 * weight times the mean, over all A and B, of ||A A' - I|| and ||B' B - I||, Frobenius (Zhang et al. 2023, eq. 4; without
 * squares as PEFT has it). The gradient is written out: the tape would take four times as many kernels.
 */
export function orthogonalTerm(layout: Layout, vector: tf.Tensor1D, weight: number): Term {
  const counted = layout.factors.filter(({ kind }) => kind !== "E").length;
  return tf.tidy(() => {
    const terms = separated(layout, vector).map((group, i): Term<tf.Tensor3D> => {
      const { kind } = layout.groups[i] as Group;
      if (kind === "E") return { value: tf.scalar(0), gradient: tf.zerosLike(group) };
      return fromOrthogonal(group, kind === "A" ? "rows" : "columns", weight / counted);
    });
    return {
      value: tf.addN(terms.map(({ value }) => value)),
      gradient: tf.concat(terms.map(({ gradient }) => gradient.flatten())),
    };
  }) as unknown as Term;
}

/** Sum over L of weight ||M M' - I|| or, of columns, weight ||M' M - I||. Where one is 0 it has no gradient, and 0 is taken. */
function fromOrthogonal(M: tf.Tensor3D, of: "rows" | "columns", weight: number): Term<tf.Tensor3D> {
  return tf.tidy(() => {
    const gram: tf.Tensor3D = tf.matMul(M, M, of === "columns", of === "rows");
    const off: tf.Tensor3D = tf.sub(gram, tf.eye(gram.shape[1])); // symmetric, [L, r, r]
    const distances = tf.sqrt(tf.sum(tf.square(off), [1, 2], true)); // [L, 1, 1]
    const along = of === "rows" ? tf.matMul(off, M) : tf.matMul(M, off);
    const slopes = tf.div(2 * weight, tf.maximum(distances, TINY));
    return { value: tf.mul(tf.sum(distances), weight), gradient: tf.mul(along, slopes) };
  }) as unknown as Term<tf.Tensor3D>;
}

function termOf(vector: tf.Tensor1D, term: (at: tf.Tensor1D) => tf.Scalar): Term {
  const { value, grad } = tf.tidy(() => tf.valueAndGrad((at) => term(at as tf.Tensor1D))(vector));
  return { value: value as tf.Scalar, gradient: grad as tf.Tensor1D };
}

/** Leaves a share of the entries out and makes up for them in the others; keyed by the matrix. */
export function dropout(share: number, rng: Rng): Drop {
  if (share === 0) return (x) => x;
  return (x, site) => {
    const own = rng.fork(siteName(site));
    const kept = new Float32Array(x.size);
    for (let i = 0; i < kept.length; i++) if (own.uniform() >= share) kept[i] = 1 / (1 - share);
    return tf.tidy(() => tf.mul(x, tf.tensor2d(kept, x.shape)));
  };
}
