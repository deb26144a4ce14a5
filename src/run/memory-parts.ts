import type { LlamaConfig } from "../model/config.js";
import type { CutPoint, MatrixName } from "../model/patch.js";
import type { Workload } from "./workload.js";

/*
 * Counts of the numbers that the passes of a model hold at once, taken from the code of model/llama.ts and of the steps
 * of edits. The test holds them against real passes. D hidden size, M MLP inner size, V vocabulary, H query heads and K
 * key-value heads of size h; rows are tokens, padding included; T is the longest sequence.
 */

/** Widths of one row. */
function widths({ hiddenSize: D, intermediateSize: M, heads, kvHeads, headDim }: LlamaConfig) {
  return { D, M, Q: heads * headDim, KV: kvHeads * headDim, H: heads };
}

/** Weights of the matrices of one layer. */
export function layerWeights(config: LlamaConfig): number {
  const { D, M, Q, KV } = widths(config);
  return 2 * D * (Q + KV) + 3 * D * M + 2 * D;
}

/** Weights of one matrix of a layer. */
export function matrixWeights(config: LlamaConfig, matrix: MatrixName): number {
  const { D, M, Q, KV } = widths(config);
  return { q: D * Q, k: D * KV, v: D * KV, o: D * Q, gate: D * M, up: D * M, down: D * M }[matrix];
}

/** Layers that run in full after a cut. */
export function layersAfter({ layers }: LlamaConfig, { layer, at }: CutPoint): number {
  return layers - layer - (at === "mlpIn" ? 1 : 0);
}

/** Numbers of a cut, for one token. */
export function cutNumbers({ hiddenSize: D, intermediateSize: M }: LlamaConfig, { at }: CutPoint): number {
  return at === "mlpIn" ? D + M : D;
}

/** Weights of the output head, [V, D], and the final norm. */
export function headWeights({ hiddenSize, vocabSize }: LlamaConfig): number {
  return hiddenSize * (vocabSize + 1);
}

/** Numbers of one whole layer while it runs over rows, its output among them: no gradient is asked for. */
function layerNumbers(config: LlamaConfig, rows: number, T: number): number {
  const { D, M, Q, KV, H } = widths(config);
  return rows * (5 * M + 4 * D + 5 * (Q + KV) + 4 * H * T);
}

/** The frozen part: one layer over one batch, beside the batch itself. */
export function frozenNumbers(config: LlamaConfig, { batch, longest }: Workload["frozen"]): number {
  return layerNumbers(config, batch, longest) + batch * config.hiddenSize;
}

/** One step of an edit: what the gradient needs of the layers after the cut, and the gradients themselves. */
export function stepNumbers(config: LlamaConfig, cut: CutPoint, edit: Workload["edit"]): number {
  const { D, M, Q, KV, H } = widths(config);
  const T = edit.longest;
  const rows = edit.sequences * T;
  const after = layersAfter(config, cut);
  const between = Math.max(0, after - 1) * rows * (11 * M + 27 * D + 13.5 * (Q + KV) + 7 * H * T);
  const asked = edit.sequences * edit.targetsOfOne; // the last layer runs the targets' rows; the others give keys and values
  const last = rows * (10 * D + 13.5 * KV) + asked * (11 * M + 27 * D + 13.5 * Q + 7 * H * T);
  const value = rows * (M + 15 * D); // inputs and outputs of the value matrix, and what is measured of them
  return value + between + (after > 0 ? last : 0) + 7 * edit.targets * config.vocabSize;
}

/** Free answers under the untouched model and a number of variants: keys and values of all positions, and the prompts' pass. */
export function writtenNumbers(
  config: LlamaConfig,
  { written, variants }: { written: NonNullable<Workload["written"]>; variants: number },
): number {
  const { D, M, KV } = widths(config);
  const { sequences, longest, tokens } = written;
  const threads = sequences * (1 + variants);
  const remembered = 2 * KV * (longest + tokens) * threads;
  const prompts = sequences * longest;
  const reading =
    prompts * (M + (5.5 + variants) * D) + Math.max(layerNumbers(config, prompts, longest), 7 * prompts * D);
  return remembered * (config.layers + 1) + reading + 2 * threads * config.vocabSize; // one layer is joined at a time
}

/** One batch of scoring, under each of a number of variants in turn. */
export function scoreNumbers(
  config: LlamaConfig,
  cut: CutPoint,
  { score, variants }: { score: Workload["score"]; variants: number },
): number {
  const { D, M, Q, KV, H } = widths(config);
  const { padded, longest, answers } = score;
  const after = layersAfter(config, cut);
  const asked = score.sequences * score.answersOfOne;
  const last = padded * (3 * D + 5 * KV) + asked * (5 * M + 5 * D + 5 * Q + 4 * H * longest);
  const running = Math.max(
    7 * padded * D, // what a router measures
    after > 1 ? layerNumbers(config, padded, longest) : 0,
    after > 0 ? last : 0,
    2 * answers * config.vocabSize,
  );
  return padded * (M + (5.5 + variants) * D) + running; // inputs and outputs of the value matrix
}
