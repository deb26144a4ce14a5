import { tf } from "../tensor/tf.js";
import { type Checkpoint, openCheckpoint } from "./checkpoint.js";
import type { LlamaConfig } from "./config.js";
import type { LlamaLayer, LlamaWeights } from "./llama.js";
import { loadTokenizer, type Tokenizer } from "./tokenizer.js";

/** A LLaMA in memory. Nothing ever changes its weights: an edit is an overlay beside them. */
export interface LlamaModel {
  /** The folder's base name. */
  name: string;
  folder: string;
  /** sha256 of the checkpoint's files. */
  sha256: string;
  config: LlamaConfig;
  tokenizer: Tokenizer;
  weights: LlamaWeights;
  /** Frees the weights. The model cannot be used afterwards. */
  dispose(): void;
}

/**
 * Loads a Hugging Face LLaMA folder: config.json, safetensors (one file or shards), tokenizer.json.
 * Weights become float32 tensors on the current backend; every name and shape is proved before the first is read.
 * @throws {RefusedInput} naming file, tensor, found and expected
 */
export async function loadModel(
  folder: string,
  options: { onProgress?: (done: number, total: number) => void } = {},
): Promise<LlamaModel> {
  const checkpoint = await openCheckpoint(folder);
  try {
    const tokenizer = await loadTokenizer(folder, checkpoint.config);
    const sha256 = await checkpoint.sha256();
    const weights = await loadWeights(checkpoint, options.onProgress);
    return {
      name: checkpoint.name,
      folder: checkpoint.folder,
      sha256,
      config: checkpoint.config,
      tokenizer,
      weights,
      dispose: () => tf.dispose(allTensors(weights)),
    };
  } finally {
    await checkpoint.close();
  }
}

async function loadWeights(
  checkpoint: Checkpoint,
  onProgress: (done: number, total: number) => void = () => {},
): Promise<LlamaWeights> {
  const { config } = checkpoint;
  const { hiddenSize: D, vocabSize: V } = config;
  const made: tf.Tensor[] = [];
  const matrix = (values: Float32Array, rows: number, columns: number) => {
    const tensor = tf.tensor2d(values, [rows, columns]);
    made.push(tensor);
    return tensor;
  };
  const vector = (values: Float32Array) => {
    const tensor = tf.tensor1d(values);
    made.push(tensor);
    return tensor;
  };
  try {
    const embedding = matrix(await checkpoint.embedding(), V, D);
    const layers: LlamaLayer[] = [];
    for (let i = 0; i < config.layers; i++) {
      const values = await checkpoint.layer(i);
      const query = config.heads * config.headDim;
      const keyValue = config.kvHeads * config.headDim;
      const M = config.intermediateSize;
      layers.push({
        inputNorm: vector(values.inputNorm),
        q: matrix(values.q, query, D),
        k: matrix(values.k, keyValue, D),
        v: matrix(values.v, keyValue, D),
        o: matrix(values.o, D, query),
        postNorm: vector(values.postNorm),
        gate: matrix(values.gate, M, D),
        up: matrix(values.up, M, D),
        down: matrix(values.down, D, M),
      });
      onProgress(i + 1, config.layers);
    }
    const finalNorm = vector(await checkpoint.finalNorm());
    const head = config.tiedEmbeddings ? embedding : matrix(await checkpoint.head(), V, D);
    return { embedding, layers, finalNorm, head: [head] };
  } catch (error) {
    tf.dispose(made);
    throw error;
  }
}

/** Every tensor of a model once, tied ones included only once. */
export function allTensors(weights: LlamaWeights): tf.Tensor[] {
  const all = [weights.embedding, weights.finalNorm, ...weights.head, ...weights.layers.flatMap(Object.values)];
  return [...new Set(all as tf.Tensor[])];
}
