import { RefusedInput } from "../../core/errors.js";
import { batchCuts, type CutBatch, logitsAt, type Spot } from "../../model/cut.js";
import type { LlamaModel } from "../../model/model.js";
import { deltaChange, type Patch, type Site } from "../../model/patch.js";
import { encodeQuestion, PLAIN } from "../../model/prompt.js";
import type { Tokenizer } from "../../model/tokenizer.js";
import { tf } from "../../tensor/tf.js";
import type { EditRequest, EditSetting } from "../contract.js";
import { crossEntropy, oneHotTargets } from "../loss.js";
import { forcedRow, type TokenRow } from "../rows.js";
import type { FtLOptions, FtObjective, FtOptions } from "./options.js";

/** An edit in tokens. */
export interface FtExample {
  /** Tokens that run. */
  row: TokenRow;
  /** Positions of the row that predict, each with the tokens that it shall predict, as likely as each other. */
  predicted: { position: number; tokens: number[] }[];
}

/**
 * Tokens of an edit (methods-tune.md "FT-L, FT-M"). target_new: prompt and target run, and each target token is predicted
 * one position before it stands. prompt_last: the prompt alone runs, and its last position predicts all of them.
 * @throws {RefusedInput} for an empty target
 */
export function exampleOf(
  objective: FtObjective,
  request: Pick<EditRequest, "prompt" | "target">,
  { tokenizer, options }: { tokenizer: Tokenizer; options: Partial<FtLOptions> },
): FtExample {
  const forced = forcedRow(request, tokenizer);
  if (objective === "target_new") return forcedExample(forced);
  const tokens = forced.ids.slice(forced.promptTokens);
  const ids = encodeQuestion(tokenizer, request.prompt, PLAIN);
  const opening = options.bos_in_targets ? [beginOfText(tokenizer)] : [];
  return {
    row: { ids, promptTokens: ids.length },
    predicted: [{ position: ids.length - 1, tokens: [...opening, ...tokens] }],
  };
}

/** The tokens of target_new: each target token is predicted one position before it stands. */
export function forcedExample(row: TokenRow): FtExample {
  const tokens = row.ids.slice(row.promptTokens);
  return { row, predicted: tokens.map((token, i) => ({ position: row.promptTokens - 1 + i, tokens: [token] })) };
}

function beginOfText({ bosId }: Tokenizer): number {
  if (bosId !== null) return bosId;
  throw new RefusedInput("targets cannot begin with begin-of-text", {
    where: "option bos_in_targets",
    found: "a tokenizer without that token",
    expected: "false for this model",
  });
}

/** Everything of one edit that is the same at each of its steps. */
export interface FtProblem {
  model: LlamaModel;
  /** Matrices that are trained. */
  sites: readonly Site[];
  /** The row, cut before the lowest of them. */
  batch: CutBatch;
  spots: Spot[];
  /** Distribution over the vocabulary that each spot shall predict, [n, V]. */
  targets: tf.Tensor2D;
  /** Weight of each spot in the loss, 1 / n, [n]. */
  weights: tf.Tensor1D;
  dispose(): void;
}

/** Puts an edit on the device. The problem takes the batch over. */
export function createProblem(
  model: LlamaModel,
  options: Pick<FtOptions, "layers">,
  { predicted }: Pick<FtExample, "predicted">,
  batch: CutBatch,
): FtProblem {
  const n = predicted.length;
  const likelihoods = (tokens: readonly number[]): tf.Tensor2D => {
    return tf.mean(oneHotTargets(tokens, model.config.vocabSize), 0, true);
  };
  const targets = tf.tidy(() => tf.concat(predicted.map(({ tokens }) => likelihoods(tokens))));
  const weights = tf.fill<tf.Rank.R1>([n], 1 / n);
  return {
    model,
    sites: sitesOf(options),
    batch,
    spots: predicted.map(({ position }) => ({ row: 0, position })),
    targets,
    weights,
    dispose: () => {
      batch.dispose();
      tf.dispose([targets, weights]);
    },
  };
}

/** An edit on the device, its row brought through the frozen part. The caller disposes the problem. */
export async function problemOf(
  { model, cuts }: Pick<EditSetting, "model" | "cuts">,
  options: Pick<FtOptions, "layers">,
  { row, predicted }: FtExample,
  signal?: AbortSignal,
): Promise<FtProblem> {
  const found = await cuts.get([row.ids], signal);
  return createProblem(model, options, { predicted }, batchCuts(model, found, [row.promptTokens]));
}

/** The value matrices that are trained, in the order of `layers`. */
export function sitesOf({ layers }: Pick<FtOptions, "layers">): Site[] {
  return layers.map((layer) => ({ layer, matrix: "down" }));
}

/** W + delta at each site. deltas [D, M] each */
export function patchOf(sites: readonly Site[], deltas: readonly tf.Tensor2D[]): Patch {
  return sites.map((site, i) => ({ site, change: deltaChange(deltas[i] as tf.Tensor2D) }));
}

/**
 * Mean of -log P over the target tokens at W + delta, in nats, with its gradients with respect to the deltas, [D, M] each,
 * in the order of the sites. The caller disposes both.
 * @param look sees the logits of that pass, [n, V]
 */
export function lossAndGradients(
  { model, sites, batch, spots, targets, weights }: FtProblem,
  deltas: readonly tf.Tensor2D[],
  look: (logits: tf.Tensor2D) => void = () => {},
): { loss: tf.Scalar; gradients: tf.Tensor2D[] } {
  return tf.tidy(() => {
    const { value, grads } = tf.valueAndGrads((...at) => {
      const logits = logitsAt(model, batch, { patch: patchOf(sites, at as tf.Tensor2D[]), spots });
      look(logits);
      return crossEntropy(logits, targets, weights);
    })([...deltas]);
    return { loss: value as tf.Scalar, gradients: grads as tf.Tensor2D[] };
  });
}
