import { tf } from "../tensor/tf.js";
import type { LlamaConfig } from "./config.js";

/*
 * The LLaMA forward pass as pure functions of tensors.
 *
 * Shapes: B sequences, T positions (right-padded), D hidden size, M MLP inner size, V vocabulary,
 * H query heads in G groups of one key-value head each (H = K * G), h head size.
 * Matrices keep the layout of Hugging Face files: [out, in], so y = x W^T.
 * Sequences are padded on the right: under the causal mask a real position never sees a padded one,
 * so padding needs no mask of its own and cannot change a number.
 */

/** Weights of one decoder layer. */
export interface LlamaLayer {
  inputNorm: tf.Tensor1D; // [D]
  q: tf.Tensor2D; // [H h, D]
  k: tf.Tensor2D; // [K h, D]
  v: tf.Tensor2D; // [K h, D]
  o: tf.Tensor2D; // [D, H h]
  postNorm: tf.Tensor1D; // [D]
  gate: tf.Tensor2D; // [M, D]
  up: tf.Tensor2D; // [M, D]
  down: tf.Tensor2D; // [D, M], the value matrix
}

/** All weights of a model. */
export interface LlamaWeights {
  embedding: tf.Tensor2D; // [V, D]
  layers: LlamaLayer[];
  finalNorm: tf.Tensor1D; // [D]
  /** The output head in row shards, V rows in all. For tied embeddings this is the embedding. */
  head: tf.Tensor2D[];
}

/** Rotary tables and the causal mask for sequences of up to T positions. */
export interface Positions {
  cos: tf.Tensor2D; // [T, h]
  sin: tf.Tensor2D; // [T, h]
  causal: tf.Tensor2D; // [T, T], 0 where a query may look, a large negative number elsewhere
}

// Large enough that softmax gives exactly 0, small enough that adding scores to it stays finite in float32.
const MASKED = -1e9;

/** y = x W^T over the last axis. x [..., in], w [out, in] -> [..., out]. */
export function linear<T extends tf.Tensor>(x: T, w: tf.Tensor2D): T {
  const [outSize, inSize] = w.shape;
  const rows = x.reshape([-1, inSize]) as tf.Tensor2D; // [N, in]
  return tf.matMul(rows, w, false, true).reshape([...x.shape.slice(0, -1), outSize]) as T;
}

/** x / sqrt(mean(x^2) + eps) * weight, over the last axis. */
export function rmsNorm<T extends tf.Tensor>(x: T, weight: tf.Tensor1D, eps: number): T {
  const meanSquare = tf.mean(tf.square(x), -1, true); // [..., 1]
  return tf.mul(tf.mul(x, tf.rsqrt(tf.add(meanSquare, eps))), weight) as T;
}

/** x * sigmoid(x). */
export function silu<T extends tf.Tensor>(x: T): T {
  return tf.mul(x, tf.sigmoid(x)) as T;
}

/** Rotary angles and mask for `length` positions. Frequencies are computed in float64; llama3 scaling as in LLaMA 3.1. */
export function positions(config: LlamaConfig, length: number): Positions {
  const half = config.headDim / 2;
  const cos = new Float32Array(length * config.headDim);
  const sin = new Float32Array(length * config.headDim);
  for (let j = 0; j < half; j++) {
    const frequency = ropeFrequency(config, j);
    for (let t = 0; t < length; t++) {
      for (const column of [j, j + half]) {
        cos[t * config.headDim + column] = Math.cos(t * frequency);
        sin[t * config.headDim + column] = Math.sin(t * frequency);
      }
    }
  }
  const causal = new Float32Array(length * length);
  for (let t = 0; t < length; t++) causal.fill(MASKED, t * length + t + 1, (t + 1) * length);
  return {
    cos: tf.tensor2d(cos, [length, config.headDim]),
    sin: tf.tensor2d(sin, [length, config.headDim]),
    causal: tf.tensor2d(causal, [length, length]),
  };
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
  const [first, second] = tf.split(x, 2, 3) as [tf.Tensor4D, tf.Tensor4D];
  const turned = tf.concat([tf.neg(second), first], 3);
  return tf.add(tf.mul(x, at.cos), tf.mul(turned, at.sin));
}

/** Causal self-attention with grouped queries. x [B, T, D] (already normed) -> [B, T, D]. */
function attention(x: tf.Tensor3D, layer: LlamaLayer, config: LlamaConfig, at: Positions): tf.Tensor3D {
  const [B, T] = x.shape;
  const { heads: H, kvHeads: K, headDim: h } = config;
  const split = (w: tf.Tensor2D, n: number) =>
    tf.transpose(linear(x, w).reshape([B, T, n, h]), [0, 2, 1, 3]) as tf.Tensor4D; // [B, n, T, h]
  const groups = H / K;
  // The G query heads of a group share one key-value head: fold them into the row axis instead of copying keys.
  const q = rotate(split(layer.q, H), at).reshape([B, K, groups * T, h]); // [B, K, G T, h]
  const k = rotate(split(layer.k, K), at); // [B, K, T, h]
  const v = split(layer.v, K); // [B, K, T, h]
  const scores = tf.mul(tf.matMul(q, k, false, true), 1 / Math.sqrt(h)).reshape([B, H, T, T]);
  const weights = tf.softmax(tf.add(scores, at.causal)).reshape([B, K, groups * T, T]);
  const mixed = tf.matMul(weights, v).reshape([B, H, T, h]); // [B, H, T, h]
  const joined: tf.Tensor3D = tf.transpose(mixed, [0, 2, 1, 3]).reshape([B, T, H * h]);
  return linear(joined, layer.o);
}

/** A layer up to its value matrix: the taps of the cut. */
export type BeforeValue = {
  /** The stream after attention, to which the MLP's output is added. [B, T, D] */
  residual: tf.Tensor3D;
  /** The value matrix's input a_t = silu(gate) * up (tap `layers.N.mlpIn`). [B, T, M] */
  mlpIn: tf.Tensor3D;
};

/** Runs one layer from the stream x [B, T, D] up to the input of its value matrix. */
export function layerBeforeValue(
  x: tf.Tensor3D,
  layer: LlamaLayer,
  config: LlamaConfig,
  at: Positions,
): BeforeValue {
  const attended = attention(rmsNorm(x, layer.inputNorm, config.rmsNormEps), layer, config, at);
  const residual = tf.add(x, attended) as tf.Tensor3D;
  const normed = rmsNorm(residual, layer.postNorm, config.rmsNormEps);
  return { residual, mlpIn: tf.mul(silu(linear(normed, layer.gate)), linear(normed, layer.up)) as tf.Tensor3D };
}

/** Runs one whole layer. x [B, T, D] -> [B, T, D]. */
export function layerForward(x: tf.Tensor3D, layer: LlamaLayer, config: LlamaConfig, at: Positions): tf.Tensor3D {
  const { residual, mlpIn } = layerBeforeValue(x, layer, config, at);
  return tf.add(residual, linear(mlpIn, layer.down)) as tf.Tensor3D;
}

/** Final norm and output head. x [n, D] -> logits [n, V]. */
export function headLogits(x: tf.Tensor2D, weights: LlamaWeights, config: LlamaConfig): tf.Tensor2D {
  const normed = rmsNorm(x, weights.finalNorm, config.rmsNormEps);
  const parts = weights.head.map((shard) => linear(normed, shard));
  return parts.length === 1 ? (parts[0] as tf.Tensor2D) : tf.concat(parts, 1);
}

/** Token embeddings. tokens [B, T] int32 -> [B, T, D]. */
export function embed(tokens: tf.Tensor2D, weights: LlamaWeights): tf.Tensor3D {
  return tf.gather<tf.Tensor>(weights.embedding, tokens) as tf.Tensor3D;
}

/** The whole model. tokens [B, T] int32 -> logits at every position [B, T, V]. Differentiable in all weights. */
export function forward(tokens: tf.Tensor2D, weights: LlamaWeights, config: LlamaConfig, at: Positions): tf.Tensor3D {
  const [B, T] = tokens.shape;
  let x = embed(tokens, weights); // [B, T, D]
  for (const layer of weights.layers) x = layerForward(x, layer, config, at);
  const rows: tf.Tensor2D = x.reshape([B * T, config.hiddenSize]);
  return headLogits(rows, weights, config).reshape([B, T, -1]);
}
