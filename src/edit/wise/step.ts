import { type CutBatch, logitsAt, type Spot, valueInput } from "../../model/cut.js";
import { distinctRows } from "../../model/distinct.js";
import type { LlamaModel } from "../../model/model.js";
import type { Change } from "../../model/patch.js";
import { linear } from "../../model/weight.js";
import { maskedStep } from "../../tensor/masked-step.js";
import { tf } from "../../tensor/tf.js";
import { crossEntropy, oneHotTargets, targetsOf } from "../loss.js";
import { sequencesOfRows, type TokenRow } from "../rows.js";
import type { StepReport } from "../steps.js";
import type { WiseOptions } from "./options.js";
import { meanOverTokens, tokenDistances } from "./routing.js";

/** Margins of the replay losses (paper, appendix B.3). */
const PAST_EDIT_MARGIN = 5;
const CURRENT_EDIT_MARGIN = 20;

/** A past edit seen again during replay: its template rows on the device. */
export interface ReplayRows {
  batch: CutBatch;
  main: tf.Tensor2D; // [R T, D]
}

/** Everything of one edit that is the same at each of its steps. */
export interface EditProblem {
  options: WiseOptions;
  /** R template rows, then the irrelevant prompt. */
  batch: CutBatch;
  /** Inputs a of the value matrix, a row for each distinct prefix of the rows (distinct.ts), [U, M]. */
  inputs: tf.Tensor2D;
  /** o = W a, [U, D]. */
  main: tf.Tensor2D;
  /** Ones where a position of the batch has its prefix, [(R + 1) T, U]. */
  spread: tf.Tensor2D;
  /** Share of each prefix in the mean over the tokens of a row, [R + 1, U]. */
  shares: tf.Tensor2D;
  /** Logits at the spots, [n, V], from the value matrix's outputs, [U, D]; differentiable in them. */
  logits(edited: tf.Tensor2D): tf.Tensor2D;
  /** Spots at which the target tokens are predicted: one spot per target token. */
  spots: Spot[];
  /** One-hot target tokens, [n, V]. */
  targets: tf.Tensor2D;
  /** Weight of each target token in the loss, [n]. */
  weights: tf.Tensor1D;
  dispose(): void;
}

/**
 * Puts an edit on the device.
 * @param rows the template rows, then the irrelevant prompt
 */
export function createProblem(
  model: LlamaModel,
  options: WiseOptions,
  batch: CutBatch,
  rows: readonly TokenRow[],
): EditProblem {
  // released: the label mask reaches one position too far, so the mean of a row divides by n + 1 (WISE.py, __cal_ft_loss)
  const { spots, ids, weights } = targetsOf(rows, options.label_mean_extra ? 1 : 0);
  const made = {
    ...distinctInputs(model, batch, rows),
    targets: oneHotTargets(ids, model.config.vocabSize),
    weights: tf.tensor1d(weights),
  };
  const site = { layer: options.layer, matrix: "down" } as const;
  const { spread } = made;
  return {
    options,
    batch,
    spots,
    ...made,
    logits(edited) {
      const change: Change = (_x, _own, pick) => tf.matMul(pick(spread), edited);
      return logitsAt(model, batch, { patch: [{ site, change }], spots });
    },
    dispose: () => {
      batch.dispose();
      tf.dispose(made);
    },
  };
}

/** Inputs and outputs of the value matrix for the rows, once for each distinct prefix. */
function distinctInputs(
  model: LlamaModel,
  batch: CutBatch,
  rows: readonly TokenRow[],
): Pick<EditProblem, "inputs" | "main" | "spread" | "shares"> {
  const { length: T } = batch.at;
  const { firsts, places } = distinctRows(sequencesOfRows(rows), T);
  const [B, U] = [rows.length, firsts.length];
  const spread = new Float32Array(B * T * U);
  const shares = new Float32Array(B * U);
  for (const [b, { ids }] of rows.entries()) {
    for (let t = 0; t < ids.length; t++) {
      const place = places[b * T + t] as number;
      spread[(b * T + t) * U + place] = 1;
      shares[b * U + place] = 1 / ids.length; // a sequence has each of its prefixes once
    }
  }
  const inputs = tf.tidy(() => tf.gather(valueInput(batch), tf.tensor1d(firsts, "int32")));
  const down = model.weight({ layer: batch.point.layer, matrix: "down" });
  return {
    inputs,
    main: linear(inputs, down),
    spread: tf.tensor2d(spread, [B * T, U]),
    shares: tf.tensor2d(shares, [B, U]),
  };
}

/** One forward pass with its gradient. The caller disposes both tensors. */
export interface Step {
  /** Gradient of the loss with respect to W', before masking, [D, M]. */
  gradient: tf.Tensor2D;
  report(): Promise<StepReport>;
  dispose(): void;
}

/** loss = ft + act (+ replay) at W' = W + delta, with its gradient (paper eq. 4 and 6). */
export function runStep(problem: EditProblem, delta: tf.Tensor2D, replay: ReplayPair | null): Step {
  const { gradient, numbers } = tf.tidy(() => {
    let kept: tf.Tensor1D | undefined;
    const { value, grad } = tf.valueAndGrad((x) => {
      const terms = lossTerms(problem, x as tf.Tensor2D, replay);
      kept = tf.keep(tf.stack(terms.numbers) as tf.Tensor1D);
      return terms.loss;
    })(delta);
    value.dispose();
    return { gradient: grad as tf.Tensor2D, numbers: kept as tf.Tensor1D };
  });
  return {
    gradient,
    async report() {
      const [ft, act, loss, in_scope, out_of_scope, ...replayed] = [...(await numbers.data<"float32">())] as number[];
      const terms = { ft, act, ...(replay === null ? {} : { replay: replayed[0] }) };
      return { loss, terms, numbers: { in_scope, out_of_scope } } as StepReport;
    },
    dispose: () => tf.dispose([gradient, numbers]),
  };
}

/** Rows that one step replays: one past edit of each merged group, and one edit of the current group. */
export interface ReplayPair {
  merged: readonly ReplayRows[];
  current: ReplayRows;
}

function lossTerms(problem: EditProblem, delta: tf.Tensor2D, replay: ReplayPair | null) {
  const { options, inputs, main, shares } = problem;
  const R = shares.shape[0] - 1;
  const [alpha, beta, gamma] = options.act_margin;
  const change = linear(inputs, delta); // [U, D]
  const edited: tf.Tensor2D = tf.add(main, change);
  const ft = crossEntropy(problem.logits(edited), problem.targets, problem.weights);

  const distances = tf.expandDims(tokenDistances(main, change, options), 1) as tf.Tensor2D; // [U, 1]
  const activation: tf.Tensor1D = tf.squeeze(tf.matMul(shares, distances), [1]); // [R + 1]
  const inScope = tf.slice(activation, [0], [R]); // Delta(x_e) under each template
  const outOfScope = tf.slice(activation, [R], [1]); // Delta(x_i)
  const act = tf.addN([
    positiveMean(tf.add(tf.sub(outOfScope, inScope), gamma)),
    positiveMean(tf.sub(outOfScope, alpha)),
    positiveMean(tf.sub(beta, inScope)),
  ]);
  const replayed = replay === null ? [] : [replayTerms(replay, delta, options)];
  const loss = tf.addN([ft, act, ...replayed]) as tf.Scalar;
  return { loss, numbers: [ft, act, loss, tf.mean(inScope), tf.squeeze(outOfScope), ...replayed] };
}

/** Mean of the positive entries, 0 when there is none (wise.md: h). [n] -> scalar */
function positiveMean(x: tf.Tensor): tf.Tensor {
  const h = tf.customGrad((...inputs) => {
    const [values, save] = inputs as [tf.Tensor, tf.GradSaveFunc];
    const positive = tf.step(values);
    const share = tf.div(positive, tf.maximum(tf.sum(positive), 1));
    save([share]);
    return {
      value: tf.sum(tf.mul(values, share)),
      gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => tf.mul(saved[0] as tf.Tensor, dy),
    };
  });
  return h(x);
}

function replayTerms(replay: ReplayPair, delta: tf.Tensor2D, options: WiseOptions): tf.Tensor {
  const activation = ({ batch, main }: ReplayRows) =>
    meanOverTokens(tokenDistances(main, linear(valueInput(batch), delta), options), batch.shares);
  const past = replay.merged.map((rows) => positiveMean(tf.sub(activation(rows), PAST_EDIT_MARGIN)));
  const current = positiveMean(tf.sub(CURRENT_EDIT_MARGIN, activation(replay.current)));
  return tf.add(tf.div(tf.addN(past), past.length), current);
}

/**
 * Plain SGD on W' = W + delta, then the clamp of each entry to W +/- norm_constraint:
 * delta - lr (mask * gradient + wd W'), with wd on all entries, masked or not, as released.
 * @param mask of dtype bool; null where it is all ones
 */
export function descend(
  delta: tf.Tensor2D,
  gradient: tf.Tensor2D,
  mask: tf.Tensor2D | null,
  setting: { main: tf.Tensor2D; options: WiseOptions },
): tf.Tensor2D {
  const { edit_lr: lr, weight_decay: decay, norm_constraint: bound } = setting.options;
  return maskedStep(delta, gradient, mask, { main: setting.main, lr, decay, bound });
}
