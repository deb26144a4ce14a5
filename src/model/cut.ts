import { RefusedInput, throwIfAborted } from "../core/errors.js";
import { tf } from "../tensor/tf.js";
import {
  type AskedRows,
  embed,
  headLogits,
  layerBeforeValue,
  layerForward,
  layerForwardAt,
  linear,
  type Positions,
  positions,
} from "./llama.js";
import type { LlamaModel } from "./model.js";

/*
 * The forward pass cut at one layer's value matrix.
 *
 * Everything before that matrix's input is the same at every step of every edit: the frozen part. It runs once per
 * prompt and leaves a `Cut`, a plain value that can be reused, batched and written to disk. The edited part takes a
 * batch of cuts and any output of the value matrix, and gives logits at chosen positions only.
 */

/** The frozen part of one sequence: T tokens up to the input of the value matrix of `layer`. */
export interface Cut {
  layer: number;
  tokens: readonly number[];
  /** The stream after attention, row-major [T, D]. */
  residual: Float32Array;
  /** The value matrix's input a_t, row-major [T, M]. */
  mlpIn: Float32Array;
}

/** Cuts put together for the edited part. Right-padded; `shares` is 1 / length on tokens and 0 on padding. */
export interface CutBatch {
  /** Tokens of each of the B sequences; T is the longest, N = B T. */
  lengths: number[];
  residual: tf.Tensor2D; // [N, D]
  mlpIn: tf.Tensor2D; // [N, M]
  shares: tf.Tensor2D; // [B, T]
  at: Positions;
  dispose(): void;
}

/** One position of one sequence of a batch. */
export interface Spot {
  row: number;
  position: number;
}

// Tokens, padding included, that go through the frozen part together: bounds its memory, not its result.
const FROZEN_BATCH_TOKENS = 4096;

/**
 * Runs the frozen part over sequences of token ids, in batches, and reads it back.
 * @returns one cut per sequence, in order
 */
export async function runFrozen(
  model: LlamaModel,
  sequences: readonly (readonly number[])[],
  options: { layer: number; signal?: AbortSignal | undefined },
): Promise<Cut[]> {
  const { layer, signal } = options;
  requireLayer(model, layer);
  for (const tokens of sequences) requireTokens(model, tokens);
  const cuts: Cut[] = [];
  for (const [start, end] of batchesOf(sequences)) {
    throwIfAborted(signal, "the frozen part of the model");
    cuts.push(...(await frozenBatch(model, sequences.slice(start, end), layer)));
  }
  return cuts;
}

async function frozenBatch(
  model: LlamaModel,
  sequences: readonly (readonly number[])[],
  layer: number,
): Promise<Cut[]> {
  const { hiddenSize: D, intermediateSize: M } = model.config;
  const T = Math.max(...sequences.map((tokens) => tokens.length));
  const { residual, mlpIn } = tf.tidy(() => {
    const at = positions(model.config, T);
    let x = embed(padTokens(sequences, T), model.weights); // [N, D]
    for (const weights of model.weights.layers.slice(0, layer)) x = layerForward(x, weights, model.config, at);
    return layerBeforeValue(x, layerOf(model, layer), model.config, at);
  });
  try {
    const [residuals, inputs] = await Promise.all([residual.data<"float32">(), mlpIn.data<"float32">()]);
    return sequences.map((tokens, row) => ({
      layer,
      tokens,
      residual: residuals.slice(row * T * D, (row * T + tokens.length) * D),
      mlpIn: inputs.slice(row * T * M, (row * T + tokens.length) * M),
    }));
  } finally {
    tf.dispose([residual, mlpIn]);
  }
}

/** Puts cuts of one layer into tensors. The caller disposes the batch. */
export function batchCuts(model: LlamaModel, cuts: readonly Cut[]): CutBatch {
  const { hiddenSize: D, intermediateSize: M } = model.config;
  const B = cuts.length;
  const lengths = cuts.map((cut) => cut.tokens.length);
  const T = Math.max(...lengths);
  const residual = new Float32Array(B * T * D);
  const mlpIn = new Float32Array(B * T * M);
  const shares = new Float32Array(B * T);
  cuts.forEach((cut, row) => {
    residual.set(cut.residual, row * T * D);
    mlpIn.set(cut.mlpIn, row * T * M);
    shares.fill(1 / cut.tokens.length, row * T, row * T + cut.tokens.length);
  });
  const batch = {
    lengths,
    residual: tf.tensor2d(residual, [B * T, D]),
    mlpIn: tf.tensor2d(mlpIn, [B * T, M]),
    shares: tf.tensor2d(shares, [B, T]),
    at: positions(model.config, T),
  };
  return {
    ...batch,
    dispose: () => tf.dispose([batch.residual, batch.mlpIn, batch.shares, batch.at.cos, batch.at.sin, batch.at.causal]),
  };
}

/** What the untouched value matrix gives for a batch: o_t = W a_t (tap `layers.N.mlpOut`). [N, D] */
export function mainOutput(model: LlamaModel, batch: CutBatch, layer: number): tf.Tensor2D {
  return linear(batch.mlpIn, layerOf(model, layer).down);
}

/**
 * Runs the edited part: the given output of the value matrix, the layers after it, final norm and head. The last layer
 * computes the spots alone; its other positions only give keys and values.
 * @param mlpOut output of the value matrix or of what replaces it, [N, D]
 * @returns logits at the spots, in order, [n, V]; differentiable in `mlpOut`
 */
export function logitsAt(
  model: LlamaModel,
  batch: Pick<CutBatch, "residual" | "at">,
  mlpOut: tf.Tensor2D,
  { layer, spots }: { layer: number; spots: readonly Spot[] },
): tf.Tensor2D {
  return tf.tidy(() => {
    const start: tf.Tensor2D = tf.add(batch.residual, mlpOut);
    const { x, rows } = spotRows(model, { x: start, at: batch.at }, { layer, spots });
    return headLogits(tf.gather(x, tf.tensor1d(rows, "int32")), model.weights, model.config);
  });
}

/** The stream after the last layer, and the row of it that each spot is. */
function spotRows(
  model: LlamaModel,
  stream: { x: tf.Tensor2D; at: Positions },
  { layer, spots }: { layer: number; spots: readonly Spot[] },
): { x: tf.Tensor2D; rows: number[] } {
  const { weights, config } = model;
  const { at } = stream;
  const last = weights.layers.length - 1;
  if (layer === last) return { x: stream.x, rows: spots.map(({ row, position }) => row * at.length + position) };
  let { x } = stream;
  for (const between of weights.layers.slice(layer + 1, last)) x = layerForward(x, between, config, at);
  const { asked, places } = askFor(spots, at, x.shape[0] / at.length);
  return { x: layerForwardAt(x, layerOf(model, last), config, { at, asked }), rows: places };
}

/**
 * Lays spots out as equally many rows per sequence, as the attention of the last layer takes them; sequences with fewer
 * spots are filled up with their first position, whose output nobody reads.
 * @returns the rows, and the place of each spot among them
 */
function askFor(spots: readonly Spot[], at: Positions, B: number): { asked: AskedRows; places: number[] } {
  const perRow: number[][] = Array.from({ length: B }, () => []);
  const columns = spots.map(({ row, position }) => (perRow[row] as number[]).push(position) - 1);
  const P = Math.max(...columns) + 1;
  const positionsAsked = perRow.flatMap((own) => Array.from({ length: P }, (_, i) => own[i] ?? 0));
  const index = tf.tensor1d(positionsAsked, "int32");
  const pick = (table: tf.Tensor) => tf.gather(table, index).reshape([B, 1, P, table.shape[1] as number]);
  const rows = positionsAsked.map((position, i) => Math.floor(i / P) * at.length + position);
  return {
    asked: {
      rows: tf.tensor1d(rows, "int32"),
      at: { length: P, cos: pick(at.cos), sin: pick(at.sin), causal: pick(at.causal) },
    },
    places: spots.map(({ row }, i) => row * P + (columns[i] as number)),
  };
}

/** The layer's weights. @throws {RefusedInput} when the model has no such layer. */
export function layerOf(model: LlamaModel, layer: number) {
  requireLayer(model, layer);
  return model.weights.layers[layer] as LlamaModel["weights"]["layers"][number];
}

function requireLayer(model: LlamaModel, layer: number): void {
  const layers = model.weights.layers.length;
  if (Number.isInteger(layer) && layer >= 0 && layer < layers) return;
  throw new RefusedInput(`${model.name} has no layer ${layer}`, {
    where: "layer",
    found: layer,
    expected: `a whole number from 0 to ${layers - 1}`,
  });
}

function requireTokens(model: LlamaModel, tokens: readonly number[]): void {
  const { vocabSize, maxPositions } = model.config;
  if (tokens.length === 0 || tokens.length > maxPositions) {
    throw new RefusedInput("a prompt does not fit the model", {
      where: "number of tokens",
      found: tokens.length,
      expected: `1 to ${maxPositions}, the model's max_position_embeddings`,
    });
  }
  const bad = tokens.find((id) => !Number.isInteger(id) || id < 0 || id >= vocabSize);
  if (bad !== undefined) {
    throw new RefusedInput("a token id is outside the vocabulary", {
      where: "token id",
      found: bad,
      expected: `a whole number from 0 to ${vocabSize - 1}`,
    });
  }
}

/** Token ids of right-padded sequences, [N]. */
function padTokens(sequences: readonly (readonly number[])[], T: number): tf.Tensor1D {
  const ids = new Int32Array(sequences.length * T); // padding is token 0: any id does, nothing real sees it
  sequences.forEach((tokens, row) => {
    ids.set(tokens, row * T);
  });
  return tf.tensor1d(ids, "int32");
}

/** Splits sequences, in order, into runs whose padded size stays within the batch limit. */
export function* batchesOf(
  sequences: readonly { readonly length: number }[],
  limit = FROZEN_BATCH_TOKENS,
): Generator<[start: number, end: number]> {
  let start = 0;
  let longest = 0;
  for (let end = 0; end < sequences.length; end++) {
    const length = (sequences[end] as { length: number }).length;
    if (end > start && Math.max(longest, length) * (end - start + 1) > limit) {
      yield [start, end];
      start = end;
      longest = 0;
    }
    longest = Math.max(longest, length);
  }
  if (start < sequences.length) yield [start, sequences.length];
}
