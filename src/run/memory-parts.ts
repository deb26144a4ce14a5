import type { LlamaConfig } from "../model/config.js";
import type { Workload } from "./workload.js";

/*
 * How many numbers the passes of a model hold at once, as they are written in model/llama.ts and edit/wise/step.ts: counted
 * there, and held against real passes by the test. D hidden size, M MLP inner size, V vocabulary, H query heads and K
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

/** Weights of the value matrix of a layer, [D, M]. */
export function valueWeights({ hiddenSize, intermediateSize }: LlamaConfig): number {
  return hiddenSize * intermediateSize;
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

/** One step of an edit: what the gradient needs of the layers after the value matrix, and the gradients themselves. */
export function stepNumbers(config: LlamaConfig, layer: number, edit: Workload["edit"]): number {
  const { D, M, Q, KV, H } = widths(config);
  const T = edit.longest;
  const rows = edit.sequences * T;
  const after = config.layers - 1 - layer;
  const between = Math.max(0, after - 1) * rows * (11 * M + 27 * D + 13.5 * (Q + KV) + 7 * H * T);
  const asked = (edit.sequences - 1) * edit.targetsOfOne; // the last layer runs the targets' rows; the others give keys and values
  const last = rows * (10 * D + 13.5 * KV) + asked * (11 * M + 27 * D + 13.5 * Q + 7 * H * T);
  const value = rows * (M + 15 * D); // inputs and outputs of the value matrix, and the routing distances
  return value + between + (after > 0 ? last : 0) + 7 * edit.targets * config.vocabSize;
}

/** One batch of scoring, under each of a number of memories in turn. */
export function scoreNumbers(
  config: LlamaConfig,
  layer: number,
  { score, memories }: { score: Workload["score"]; memories: number },
): number {
  const { D, M, Q, KV, H } = widths(config);
  const { padded, longest, answers } = score;
  const after = config.layers - 1 - layer;
  const asked = score.sequences * score.answersOfOne;
  const last = padded * (3 * D + 5 * KV) + asked * (5 * M + 5 * D + 5 * Q + 4 * H * longest);
  const running = Math.max(
    7 * padded * D, // routing distances
    after > 1 ? layerNumbers(config, padded, longest) : 0,
    after > 0 ? last : 0,
    2 * answers * config.vocabSize,
  );
  return padded * (M + (5.5 + memories) * D) + running; // inputs and outputs of the value matrix
}
