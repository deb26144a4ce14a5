import { tf } from "../tensor/tf.js";
import {
  type AskedRows,
  headLogits,
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
 * prompt (frozen.ts) and leaves a `Cut`, a plain value that can be reused, batched and written to disk. The edited part
 * takes a batch of cuts and any output of the value matrix, and gives logits at chosen positions only.
 */

/** Sequences of token ids. */
export type Sequences = readonly (readonly number[])[];

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
  return linear(batch.mlpIn, model.valueMatrix(layer));
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
    return headLogits(tf.gather(x, tf.tensor1d(rows, "int32")), model.output, model.config);
  });
}

/** The stream after the last layer, and the row of it that each spot is. */
function spotRows(
  model: LlamaModel,
  stream: { x: tf.Tensor2D; at: Positions },
  { layer, spots }: { layer: number; spots: readonly Spot[] },
): { x: tf.Tensor2D; rows: number[] } {
  const { config } = model;
  const { at } = stream;
  const last = config.layers - 1;
  if (layer === last) return { x: stream.x, rows: spots.map(({ row, position }) => row * at.length + position) };
  let { x } = stream;
  for (let between = layer + 1; between < last; between++) x = layerForward(x, model.layer(between), config, at);
  const { asked, places } = askFor(spots, at, x.shape[0] / at.length);
  return { x: layerForwardAt(x, model.layer(last), config, { at, asked }), rows: places };
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
