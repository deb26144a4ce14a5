import { layerOps } from "../tensor/layer-ops.js";
import { tf } from "../tensor/tf.js";
import type { LlamaConfig } from "./config.js";
import type { Change, MatrixName, PickRows } from "./patch.js";
import { linear, type Shard, type Weight } from "./weight.js";

/*
 * The LLaMA forward pass as pure functions of tensors.
 *
 * Shapes: B sequences of T positions (right-padded), N = B T rows, D hidden size, M MLP inner size, V vocabulary,
 * H query heads in G groups of one key-value head each (H = K G), h head size. The stream is one matrix [N, D]: only
 * attention looks at B and T. Matrices keep the layout of Hugging Face files, [out, in], so y = x W^T.
 *
 * Sequences are padded on the right: under the causal mask a real position never sees a padded one, so padding needs
 * no mask of its own and cannot change a number.
 */

/** Weights of one decoder layer. */
export interface LlamaLayer<W extends Weight = Weight> {
  inputNorm: tf.Tensor1D; // [D]
  q: W; // [H h, D]
  k: W; // [K h, D]
  v: W; // [K h, D]
  o: W; // [D, H h]
  postNorm: tf.Tensor1D; // [D]
  gate: W; // [M, D]
  up: W; // [M, D]
  down: W; // [D, M], the value matrix
}

/** Weights behind the last layer. */
export interface OutputWeights<W extends Shard = Shard> {
  finalNorm: tf.Tensor1D; // [D]
  /** The output head in row shards, V rows in all. For tied embeddings these are rows of the embedding. */
  head: readonly W[];
}

/** All weights of a model, each a tensor of its own, as training takes them. */
export interface LlamaWeights extends OutputWeights<tf.Tensor2D> {
  embedding: tf.Tensor2D; // [V, D]
  layers: readonly LlamaLayer<tf.Tensor2D>[];
}

/** Rotary tables and the causal mask for sequences of T positions. */
export interface Positions {
  length: number;
  cos: tf.Tensor; // [T, h]
  sin: tf.Tensor; // [T, h]
  causal: tf.Tensor; // [T, S] or, one per sequence, [B, 1, T, S]: 0 where a query may look, MASKED elsewhere; S = T without a past
}

/** The rows of a stream that has a row for each distinct prefix of its sequences, N = U, and none for padding (distinct.ts). */
export interface SharedRows {
  /** Row of each position, [B T], int32. */
  places: tf.Tensor1D;
  /** A position of each row, [U], int32. */
  firsts: tf.Tensor1D;
}

/** Keys and values of the S positions of each sequence that a layer has seen. */
export interface KeyValues {
  k: tf.Tensor4D; // [B, K, S, h]
  v: tf.Tensor4D; // [B, K, S, h]
}

/** Memory of a layer between passes: a pass also looks at what was seen before it, and leaves its own positions behind. */
export interface Past {
  seen: KeyValues | null;
  /** It does: a pass leaves nothing behind. */
  stays?: true;
}

/** Some rows of a batch whose outputs alone are wanted, P per sequence. */
export interface AskedRows {
  /** Their rows of the stream, [B P], int32. */
  rows: tf.Tensor1D;
  /** Positions of these rows: length P; cos, sin [B, 1, P, h]; causal [B, 1, P, T]. */
  at: Positions;
}

// Large enough that softmax gives exactly 0, small enough that adding scores to it stays finite in float32.
export const MASKED = -1e9;

/** x / sqrt(mean(x^2) + eps) * weight, row by row. x [N, D], weight [D] -> [N, D]. */
export function rmsNorm(x: tf.Tensor2D, weight: tf.Tensor1D, eps: number): tf.Tensor2D {
  return tf.tidy(() => tf.mul(layerOps().unitRows(x, eps), weight));
}

/** x * sigmoid(x). */
export function silu<T extends tf.Tensor>(x: T): T {
  return tf.tidy(() => tf.mul(x, tf.sigmoid(x)) as T);
}

/** Rotary angles and mask for `length` positions. */
export function positions(config: LlamaConfig, length: number): Positions {
  const { cos, sin } = rotaryTables(
    config,
    Array.from({ length }, (_, t) => t),
  );
  const causal = new Float32Array(length * length);
  for (let t = 0; t < length; t++) causal.fill(MASKED, t * length + t + 1, (t + 1) * length);
  return {
    length,
    cos: tf.tensor2d(cos, [length, config.headDim]),
    sin: tf.tensor2d(sin, [length, config.headDim]),
    causal: tf.tensor2d(causal, [length, length]),
  };
}

/** Cosines and sines of the rotary angles at some positions, row-major [n, h]. Frequencies are computed in float64; llama3 scaling as in LLaMA 3.1. */
export function rotaryTables(config: LlamaConfig, places: readonly number[]): { cos: Float32Array; sin: Float32Array } {
  const half = config.headDim / 2;
  const cos = new Float32Array(places.length * config.headDim);
  const sin = new Float32Array(places.length * config.headDim);
  for (let j = 0; j < half; j++) {
    const frequency = ropeFrequency(config, j);
    for (const [row, place] of places.entries()) {
      for (const column of [j, j + half]) {
        cos[row * config.headDim + column] = Math.cos(place * frequency);
        sin[row * config.headDim + column] = Math.sin(place * frequency);
      }
    }
  }
  return { cos, sin };
}

function ropeFrequency(config: LlamaConfig, pair: number): number {
  const frequency = config.ropeTheta ** ((-2 * pair) / config.headDim);
  const scaling = config.ropeScaling;
  if (scaling === null) return frequency;
  const wavelength = (2 * Math.PI) / frequency;
  const longest = scaling.originalMaxPositions / scaling.lowFreqFactor;
  const shortest = scaling.originalMaxPositions / scaling.highFreqFactor;
  if (wavelength < shortest) return frequency;
  if (wavelength > longest) return frequency / scaling.factor;
  const smooth =
    (scaling.originalMaxPositions / wavelength - scaling.lowFreqFactor) /
    (scaling.highFreqFactor - scaling.lowFreqFactor);
  return ((1 - smooth) * frequency) / scaling.factor + smooth * frequency;
}

/** Rotates x [B, heads, T, h] by its positions; halves are paired, not neighbours. */
function rotate(x: tf.Tensor4D, at: Positions): tf.Tensor4D {
  const turn = tf.customGrad((...inputs) => {
    const [rows, save] = inputs as [tf.Tensor, tf.GradSaveFunc];
    save([at.cos, at.sin]); // tables made inside a gradient do not outlive the forward pass by themselves
    const { turned } = layerOps();
    return {
      value: turned(rows, [at.cos, at.sin], 1),
      gradFunc: (dy: tf.Tensor, tables: tf.Tensor[]) => turned(dy, tables as [tf.Tensor, tf.Tensor], -1), // turning back
    };
  });
  return turn(x) as tf.Tensor4D;
}

/** Options of a pass through one layer. */
export interface LayerPass {
  at: Positions;
  /** Left out where there is a row for each position, padding included. Not together with `asked`. */
  shared?: SharedRows | undefined;
  /** The rows whose outputs alone are wanted: the others give keys and values. All, when left out. */
  asked?: AskedRows | undefined;
  /** Earlier positions of the sequences; `at.causal` then has a column for each of the S positions. None, when left out. */
  past?: Past | undefined;
  /** Changes to the products of this layer, in order. */
  changes?: Partial<Record<MatrixName, readonly Change[]>> | undefined;
  /** The rows of the stream, in a tensor with a row for each row of the batch; as they are, when left out. */
  pick?: PickRows | undefined;
}

/** Takes every row. */
export const asTheyAre: PickRows = (perRow) => perRow;

/** The rows that a layer gives when some are asked for. */
function pickAsked(asked: AskedRows | undefined, pick: PickRows = asTheyAre): PickRows {
  return asked === undefined ? pick : (perRow) => tf.gather(pick(perRow), asked.rows);
}

/** y = x W^T of one matrix under its changes. x [n, in] -> [n, out] */
function product(
  x: tf.Tensor2D,
  matrix: MatrixName,
  { layer, changes, pick }: { layer: Partial<LlamaLayer>; changes: LayerPass["changes"]; pick: PickRows },
): tf.Tensor2D {
  let y = () => linear(x, layer[matrix] as Weight);
  for (const change of changes?.[matrix] ?? []) {
    const before = y;
    y = () => change(x, before, pick);
  }
  return y();
}

/** Adds positions to a memory, or to what it holds where that stays. @returns both */
function remember(past: Past, now: KeyValues): KeyValues {
  const before = past.seen;
  const join = (name: "k" | "v") => (before === null ? now[name] : tf.concat([before[name], now[name]], 2));
  if (past.stays) return { k: join("k"), v: join("v") };
  const seen = { k: tf.keep(join("k")), v: tf.keep(join("v")) };
  past.seen = seen;
  if (before !== null) tf.dispose([before.k, before.v]);
  return seen;
}

/**
 * Causal self-attention with grouped queries: P queries and T new keys per sequence, S keys with those of the past.
 * @param x the stream after its norm, [N, D]
 * @returns [B P, D] or, where rows are shared, [U, D]
 */
function attention(x: tf.Tensor2D, layer: LlamaLayer, config: LlamaConfig, pass: LayerPass): tf.Tensor2D {
  const { at, asked, shared, past, changes, pick = asTheyAre } = pass;
  const { heads: H, kvHeads: K, headDim: h } = config;
  const all = { layer, changes, pick };
  const own = { layer, changes, pick: pickAsked(asked, pick) };
  const T = at.length;
  const B = (shared?.places.size ?? x.shape[0]) / T;
  const asking = asked?.at ?? at;
  const P = asking.length;
  const spread = (y: tf.Tensor2D) => (shared === undefined ? y : tf.gather(y, shared.places));
  const split = (y: tf.Tensor2D, length: number, n: number) =>
    tf.transpose(spread(y).reshape([B, length, n, h]), [0, 2, 1, 3]) as tf.Tensor4D; // [B, n, length, h]
  const queries = asked === undefined ? x : tf.gather(x, asked.rows); // [B P, D]
  const groups = H / K;
  // The G query heads of a group share one key-value head: fold them into the row axis instead of copying keys.
  const q = rotate(split(product(queries, "q", own), P, H), asking).reshape([B, K, groups * P, h]); // [B, K, G P, h]
  const now = { k: rotate(split(product(x, "k", all), T, K), at), v: split(product(x, "v", all), T, K) }; // [B, K, T, h]
  const { k, v } = past === undefined ? now : remember(past, now); // [B, K, S, h]
  const S = k.shape[2];
  const scores = tf.mul(tf.matMul(q, k, false, true), 1 / Math.sqrt(h)).reshape([B, H, P, S]);
  const weights = tf.softmax(tf.add(scores, asking.causal)).reshape([B, K, groups * P, S]);
  const mixed = tf.matMul(weights, v).reshape([B, H, P, h]); // [B, H, P, h]
  const joined: tf.Tensor2D = tf.transpose(mixed, [0, 2, 1, 3]).reshape([B * P, H * h]);
  return product(shared === undefined ? joined : tf.gather(joined, shared.firsts), "o", own);
}

/** A layer at the input of its value matrix. */
export interface BeforeValue {
  /** The stream after attention, to which the MLP's output is added. [n, D] */
  stream: tf.Tensor2D;
  /** The value matrix's input a_t = silu(gate) * up (tap `layers.N.mlpIn`). [n, M] */
  mlpIn: tf.Tensor2D;
}

/** Runs one layer up to the input of its value matrix, for all rows or those asked for. x [N, D] */
export function layerBeforeValue(x: tf.Tensor2D, layer: LlamaLayer, config: LlamaConfig, pass: LayerPass): BeforeValue {
  return tf.tidy(() => {
    const { asked, changes } = pass;
    const normed = rmsNorm(x, layer.inputNorm, config.rmsNormEps);
    const own = asked === undefined ? x : tf.gather(x, asked.rows);
    const stream: tf.Tensor2D = tf.add(own, attention(normed, layer, config, pass));
    const inner = rmsNorm(stream, layer.postNorm, config.rmsNormEps);
    const at = { layer, changes, pick: pickAsked(asked, pass.pick) };
    return { stream, mlpIn: layerOps().gated(product(inner, "gate", at), product(inner, "up", at)) };
  }) as unknown as BeforeValue;
}

/** Runs the rest of a layer: its value matrix. -> [n, D] */
export function layerFromValue(
  { stream, mlpIn }: BeforeValue,
  layer: Pick<LlamaLayer, "down">,
  { changes, pick = asTheyAre }: Pick<LayerPass, "changes" | "pick"> = {},
): tf.Tensor2D {
  return tf.tidy(() => tf.add(stream, product(mlpIn, "down", { layer, changes, pick })));
}

/** Runs one whole layer, for all rows or those asked for. x [N, D] -> [n, D] */
export function layerForward(x: tf.Tensor2D, layer: LlamaLayer, config: LlamaConfig, pass: LayerPass): tf.Tensor2D {
  return tf.tidy(() => {
    const before = layerBeforeValue(x, layer, config, pass);
    return layerFromValue(before, layer, { changes: pass.changes, pick: pickAsked(pass.asked, pass.pick) });
  });
}

/** Final norm and output head. x [n, D] -> logits [n, V]. */
export function headLogits(x: tf.Tensor2D, output: OutputWeights, config: LlamaConfig): tf.Tensor2D {
  return tf.tidy(() => {
    const normed = rmsNorm(x, output.finalNorm, config.rmsNormEps);
    return linear(normed, output.head);
  });
}

/** Token embeddings. tokens [N] int32, embedding [V, D] -> [N, D]. */
export function embed(tokens: tf.Tensor1D, embedding: tf.Tensor2D): tf.Tensor2D {
  return tf.gather(embedding, tokens);
}

/** The whole model. Embeddings x [N, D] of B sequences of T -> logits at every position [N, V]. */
export function forward(
  x: tf.Tensor2D,
  weights: OutputWeights & { layers: readonly LlamaLayer[] },
  config: LlamaConfig,
  at: Positions,
): tf.Tensor2D {
  return tf.tidy(() => {
    let stream = x;
    for (const layer of weights.layers) stream = layerForward(stream, layer, config, { at });
    return headLogits(stream, weights, config);
  });
}
