import type { LlamaConfig } from "../../model/config.js";
import { BOS_ID, EOS_ID } from "./tokenizer-files.js";

/** The size of a model. Embeddings are tied. */
export interface Shape {
  /** Tokens of the vocabulary at most; a small text gives fewer. */
  vocabSize: number;
  hiddenSize: number;
  intermediateSize: number;
  layers: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  ropeTheta: number;
  maxPositions: number;
}

/** Recipe of a model: all that makes it, but for its world and its seed. */
export interface Recipe {
  shape: Shape;
  steps: number;
  /** Lines per step. */
  lines: number;
  /** Share of lines with a random prefix. */
  prefixShare: number;
  /** Weight of the loss on tokens of prefix and question, against 1 on the answer. */
  questionWeight: number;
  /** Positions per packed row. */
  rowLength: number;
  peakLearningRate: number;
  warmupSteps: number;
  beta1: number;
  beta2: number;
  epsilon: number;
  weightDecay: number;
  maxGradientNorm: number;
}

/**
 * The recipe of the model that comes with the project: 7.3 million weights, most of them in few MLPs that are wide, so
 * that the value matrix has room for many edits. The vocabulary is so small that a name takes about three tokens, as an
 * answer of zsRE does with LLaMA's tokenizer.
 */
export const LAB_RECIPE: Recipe = {
  shape: {
    vocabSize: 1024,
    hiddenSize: 256,
    intermediateSize: 2048,
    layers: 4,
    heads: 4,
    kvHeads: 2,
    headDim: 64,
    ropeTheta: 10_000,
    maxPositions: 128,
  },
  steps: 1000,
  lines: 160,
  prefixShare: 0.35,
  questionWeight: 0.3,
  rowLength: 64,
  peakLearningRate: 1.5e-3,
  warmupSteps: 50,
  beta1: 0.9,
  beta2: 0.95,
  epsilon: 1e-8,
  weightDecay: 0.1,
  maxGradientNorm: 1,
};

const RMS_NORM_EPS = 1e-5;

/** The model's configuration for a vocabulary of `vocabSize` tokens. */
export function configOf(shape: Shape, vocabSize: number): LlamaConfig {
  return {
    ...shape,
    vocabSize,
    rmsNormEps: RMS_NORM_EPS,
    ropeScaling: null,
    tiedEmbeddings: true,
    bosTokenId: BOS_ID,
    eosTokenIds: [EOS_ID],
    dtype: "bfloat16",
  };
}
