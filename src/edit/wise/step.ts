import type { CutBatch, Spot } from "../../model/cut.js";
import { logitsAt, mainOutput } from "../../model/cut.js";
import { linear } from "../../model/llama.js";
import type { LlamaModel } from "../../model/model.js";
import { tf } from "../../tensor/tf.js";
import type { EditStep } from "../trace.js";
import type { WiseOptions } from "./hparams.js";
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
  /** o = W a for all rows, [(R + 1) T, D]. */
  main: tf.Tensor2D;
  /** Logits at the spots, [n, V], from the value matrix's output for all rows, [(R + 1) T, D]; differentiable in it. */
  logits(edited: tf.Tensor2D): tf.Tensor2D;
  /** Where the target tokens are predicted: one spot per target token. */
  spots: Spot[];
  /** One-hot target tokens, [n, V]. */
  targets: tf.Tensor2D;
  /** Weight of each target token in the loss, [n]. */
  weights: tf.Tensor1D;
  dispose(): void;
}

/** Losses and distances of one forward pass, read back. */
export type StepReport = Omit<EditStep, "step">;

/**
 * Puts an edit on the device.
 * @param rows tokens of the template rows with the start of their target
 */
export function createProblem(
  model: LlamaModel,
  options: WiseOptions,
  batch: CutBatch,
  rows: readonly { ids: readonly number[]; promptTokens: number }[],
): EditProblem {
  const spots: Spot[] = [];
  const targetIds: number[] = [];
  const shares: number[] = [];
  rows.forEach(({ ids, promptTokens }, row) => {
    const count = ids.length - promptTokens;
    // released: the label mask reaches one position too far, so the mean of a row divides by n + 1 (WISE.py, __cal_ft_loss)
    const divisor = options.lossDividesByTargetsPlusOne ? count + 1 : count;
    for (let position = promptTokens; position < ids.length; position++) {
      spots.push({ row, position: position - 1 });
      targetIds.push(ids[position] as number);
      shares.push(1 / (divisor * rows.length));
    }
  });
  const made = tf.tidy(() => ({
    main: mainOutput(model, batch, options.layer),
    residual: tf.slice(batch.residual, [0, 0], [rows.length * batch.at.length, -1]),
    targets: tf.oneHot(tf.tensor1d(targetIds, "int32"), model.config.vocabSize).toFloat() as tf.Tensor2D,
    weights: tf.tensor1d(shares),
  }));
  const edge = { residual: made.residual, at: batch.at };
  const templatesOf = (edited: tf.Tensor2D) => tf.slice(edited, [0, 0], made.residual.shape); // [R T, D]
  return {
    options,
    batch,
    spots,
    ...made,
    logits: (edited) => logitsAt(model, edge, templatesOf(edited), { layer: options.layer, spots }),
    dispose: () => {
      batch.dispose();
      tf.dispose(made);
    },
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
      const [ft, act, replayLoss, loss, inScope, outOfScope] = await numbers.data<"float32">();
      return { ft, act, replay: replayLoss, loss, inScope, outOfScope } as StepReport;
    },
    dispose: () => tf.dispose([gradient, numbers]),
  };
}

/** What one step replays: one past edit of each merged group, and one edit of the current group. */
export interface ReplayPair {
  merged: readonly ReplayRows[];
  current: ReplayRows;
}

function lossTerms(problem: EditProblem, delta: tf.Tensor2D, replay: ReplayPair | null) {
  const { options, batch, main } = problem;
  const R = batch.lengths.length - 1;
  const change = linear(batch.mlpIn, delta); // [(R + 1) T, D]
  const edited: tf.Tensor2D = tf.add(main, change);
  const ft = targetLoss(problem.logits(edited), problem.targets, problem.weights);

  const activation = meanOverTokens(tokenDistances(main, change, options), batch.shares); // [R + 1]
  const inScope = tf.slice(activation, [0], [R]); // Delta(x_e) under each template
  const outOfScope = tf.slice(activation, [R], [1]); // Delta(x_i)
  const act = tf.addN([
    positiveMean(tf.add(tf.sub(outOfScope, inScope), options.gamma)),
    positiveMean(tf.sub(outOfScope, options.alpha)),
    positiveMean(tf.sub(options.beta, inScope)),
  ]);
  const replayLoss = replay === null ? tf.scalar(0) : replayTerms(replay, delta, options);
  const loss = tf.addN([ft, act, replayLoss]) as tf.Scalar;
  return { loss, numbers: [ft, act, replayLoss, loss, tf.mean(inScope), tf.squeeze(outOfScope)] };
}

/**
 * Weighted cross entropy, with its own gradient weights (softmax(logits) - targets): at full size, TensorFlow.js' own takes
 * a third of a step's memory. logits, targets [n, V], weights [n] -> scalar
 */
function targetLoss(logits: tf.Tensor2D, targets: tf.Tensor2D, weights: tf.Tensor1D): tf.Tensor {
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
  return entropy(logits);
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
    meanOverTokens(tokenDistances(main, linear(batch.mlpIn, delta), options), batch.shares);
  const past = replay.merged.map((rows) => positiveMean(tf.sub(activation(rows), PAST_EDIT_MARGIN)));
  const current = positiveMean(tf.sub(CURRENT_EDIT_MARGIN, activation(replay.current)));
  return tf.add(tf.div(tf.addN(past), past.length), current);
}

/**
 * Plain SGD on W' = W + delta, then the clamp of each entry to W +/- norm_constraint:
 * delta - lr (mask * gradient + wd W'), with wd on all entries, masked or not, as released. mask is of dtype bool.
 */
export function descend(
  delta: tf.Tensor2D,
  gradient: tf.Tensor2D,
  mask: tf.Tensor2D,
  setting: { main: tf.Tensor2D; options: WiseOptions },
): tf.Tensor2D {
  const { lr, weightDecay, normConstraint } = setting.options;
  return tf.tidy(() => {
    let direction = inPlaceOf(mask.toFloat(), (share) => tf.mul(share, gradient));
    if (weightDecay !== 0) {
      const decay = inPlaceOf(tf.add(setting.main, delta), (edited) => tf.mul(edited, weightDecay));
      direction = inPlaceOf(direction, (masked) => tf.add(masked, decay));
      decay.dispose();
    }
    const way = inPlaceOf(direction, (x) => tf.mul(x, lr));
    const moved = inPlaceOf(way, (x) => tf.sub(delta, x));
    if (normConstraint === null) return moved;
    return inPlaceOf(moved, (x) => tf.clipByValue(x, -normConstraint, normConstraint));
  });
}

/** What is made of x, which goes: at full size each of these takes a quarter of a gigabyte. */
function inPlaceOf(x: tf.Tensor2D, make: (x: tf.Tensor2D) => tf.Tensor2D): tf.Tensor2D {
  const made = make(x);
  x.dispose();
  return made;
}
