import type { LlamaModel } from "../../model/model.js";
import { cutBefore, type Site } from "../../model/patch.js";
import { PLAIN } from "../../model/prompt.js";
import { inPlaceOf } from "../../tensor/in-place.js";
import { tf } from "../../tensor/tf.js";
import { defineMethod, type EditSession, type EditSetting } from "../contract.js";
import { forcedRow, type TokenRow } from "../rows.js";
import type { EditState } from "../state.js";
import { type EwcOptions, ewcCheck, ewcOptions, ewcPresets, ewcVariants } from "./ewc-options.js";
import { type FtProblem, forcedExample, lossAndGradients, problemOf } from "./objective.js";
import { startTuning, type Tuning, type TuningEdit, type TuningStart, tuningBytes } from "./tuning.js";

/** Matrices that an edit holds beside those of every way of fine-tuning: the Fisher information, and the anchor. */
const BESIDE = 2;

/** FT-EWC: fine-tuning that is held back where past edits need the matrix (methods-tune.md "FT-EWC"). */
export const ftEwc = defineMethod<EwcOptions>({
  name: "ft-ewc",
  title: "FT-EWC",
  algName: "FT-EWC",
  about: "trains one value matrix, held back where the loss of past edits is steep",
  source: "Kirkpatrick et al. 2017, arXiv 1612.00796; as an editor Hartvigsen et al. 2023, arXiv 2211.11031",
  options: ewcOptions,
  variants: ewcVariants,
  presets: ewcPresets,
  stepLimit: "num_steps",
  targetTerm: "ce",
  terms: { ce: "fine-tuning", penalty: "consolidation" },
  check: ewcCheck,
  plan: (options, config) => ({
    cut: cutBefore([siteOf(options)]),
    sites: options.fisher_sum === "running" ? [siteOf(options)] : [],
    needs: { templates: null, irrelevant: false, subject: false, assets: [] },
    style: PLAIN,
    together: 1,
    rows: (request, { tokenizer }) => [forcedRow(request, tokenizer)],
    bytes: () => tuningBytes({ layers: [options.layer] }, config, BESIDE),
  }),
  start: startEwc,
});

function siteOf({ layer }: Pick<EwcOptions, "layer">): Site {
  return { layer, matrix: "down" };
}

/** Edits with FT-EWC, from the untouched model or from a state. */
export function startEwc(options: EwcOptions, setting: EditSetting, saved?: EditState): EditSession {
  const tuning: Tuning = {
    options: { ...options, layers: [options.layer] },
    remembers: options.fisher_mem,
    example: (request) => forcedExample(forcedRow(request, setting.model.tokenizer)),
    begin: (start) => beginEwc(start, options, setting),
  };
  return startTuning(tuning, setting, saved);
}

/** CE + ewc_lambda sum F (W - anchor)^2, until the target is the likeliest continuation. */
async function beginEwc(start: TuningStart, options: EwcOptions, setting: EditSetting): Promise<TuningEdit> {
  const { problem } = start;
  const held = await consolidationOf(start, options, setting);
  return {
    async pass(deltas) {
      let right: tf.Tensor | undefined;
      const { loss, gradients } = lossAndGradients(problem, deltas, (logits) => {
        right = tf.keep(isLikeliest(logits, problem));
      });
      const [delta] = deltas as [tf.Tensor2D];
      const [steep] = gradients as [tf.Tensor2D];
      const { penalty, gradient } = penalised({ delta, steep }, held, options);
      const [ce, pull, done] = await Promise.all([loss, penalty, right as tf.Tensor].map((x) => x.data()));
      tf.dispose([loss, penalty, right as tf.Tensor, steep]);
      const terms = { ce: ce?.[0] as number, penalty: pull?.[0] as number };
      const report = { loss: terms.ce + terms.penalty, terms, numbers: { right: done?.[0] as number } };
      return { report, gradients: [gradient] };
    },
    settled: ({ numbers }) => numbers.right === 1,
    hint: "a smaller lr keeps it finite",
    dispose: () => tf.dispose(held === null ? [] : [held.fisher, held.anchor]),
  };
}

/** True where every target token is the likeliest one after those before it. */
function isLikeliest(logits: tf.Tensor2D, { targets }: FtProblem): tf.Tensor {
  return tf.tidy(() => tf.all(tf.equal(tf.argMax(logits, 1), tf.argMax(targets, 1))));
}

/** The penalty that holds the matrix back during one edit. */
export interface Consolidation {
  /** F, [D, M]. */
  fisher: tf.Tensor2D;
  /** The anchor less W of the checkpoint, [D, M]. */
  anchor: tf.Tensor2D;
}

/**
 * F = mean of the squared gradients of the past edits' losses at the weights this edit begins with, which are the anchor.
 * `fisher_sum: running`: squares of running sums of gradients, the edit's own first; F and anchor are divided by fisher_mem,
 * however few the edits are. The caller disposes it; null where no edit is behind.
 */
export async function consolidationOf(
  { row, past, deltas, signal }: Pick<TuningStart, "row" | "past" | "deltas" | "signal">,
  { layer, fisher_sum, fisher_mem }: EwcOptions,
  setting: EditSetting,
): Promise<Consolidation | null> {
  const running = fisher_sum === "running";
  const rows = (running ? [row, ...past] : past).slice(0, fisher_mem);
  if (rows.length === 0) return null;
  const divisor = running ? fisher_mem : rows.length;
  const [start] = deltas as [tf.Tensor2D];
  let fisher: tf.Tensor2D = tf.zerosLike(start);
  let sum: tf.Tensor2D | null = null;
  try {
    for (const each of rows) {
      const gradient = await gradientOf(each, { layer, start, setting, signal });
      const before: tf.Tensor2D[] = [gradient, fisher, ...(sum === null ? [] : [sum])];
      const added: tf.Tensor2D = running && sum !== null ? tf.add(sum, gradient) : gradient.clone();
      fisher = tf.tidy(() => tf.add(fisher, tf.div(tf.square(added), divisor)) as tf.Tensor2D);
      sum = added;
      tf.dispose(before);
    }
  } catch (error) {
    fisher.dispose();
    throw error;
  } finally {
    sum?.dispose();
  }
  const share = running ? rows.length / fisher_mem : 1;
  return { fisher, anchor: anchorOf(start, { layer, share, model: setting.model }) };
}

/** share (W + start) - W; the weights themselves where the share is 1. [D, M] */
function anchorOf(
  start: tf.Tensor2D,
  { layer, share, model }: { layer: number; share: number; model: LlamaModel },
): tf.Tensor2D {
  if (share === 1) return start.clone();
  const main = model.matrix(siteOf({ layer }));
  return tf.tidy(() => tf.add(tf.mul(start, share), tf.mul(main, share - 1)));
}

/** Gradient of an edit's cross entropy with respect to the matrix, [D, M]. */
async function gradientOf(
  row: TokenRow,
  {
    layer,
    start,
    setting,
    signal,
  }: { layer: number; start: tf.Tensor2D; setting: EditSetting; signal: AbortSignal | undefined },
): Promise<tf.Tensor2D> {
  const problem = await problemOf(setting, { layers: [layer] }, forcedExample(row), signal);
  const { loss, gradients } = lossAndGradients(problem, [start]);
  loss.dispose();
  problem.dispose();
  return gradients[0] as tf.Tensor2D;
}

/** The penalty, and the gradient of the whole loss. steep: that of its cross entropy, [D, M] */
function penalised(
  { delta, steep }: { delta: tf.Tensor2D; steep: tf.Tensor2D },
  held: Consolidation | null,
  { ewc_lambda }: Pick<EwcOptions, "ewc_lambda">,
): { penalty: tf.Scalar; gradient: tf.Tensor2D } {
  if (held === null) return { penalty: tf.scalar(0), gradient: steep.clone() };
  return tf.tidy(() => {
    const away: tf.Tensor2D = tf.sub(delta, held.anchor);
    const pull = inPlaceOf(tf.mul(held.fisher, away), (x) => tf.mul(x, ewc_lambda));
    const penalty = tf.tidy(() => tf.sum(tf.mul(pull, away)) as tf.Scalar);
    away.dispose();
    const gradient = inPlaceOf(
      inPlaceOf(pull, (x) => tf.mul(x, 2)),
      (x) => tf.add(x, steep),
    );
    return { penalty, gradient };
  }) as unknown as { penalty: tf.Scalar; gradient: tf.Tensor2D };
}
