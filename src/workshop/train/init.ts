import type { Rng } from "../../core/rng.js";
import { layerTensorNames, tensorShapes } from "../../model/checkpoint.js";
import type { LlamaConfig } from "../../model/config.js";
import type { LlamaLayer, LlamaWeights } from "../../model/llama.js";
import { tf } from "../../tensor/tf.js";

/** All weights of a model by their names in Hugging Face files, in the order of `tensorShapes`. */
export type NamedTensors = Record<string, tf.Tensor>;

/** Standard deviation of new weights, LLaMA's `initializer_range`. */
export const INITIAL_DEVIATION = 0.02;

/** Projections that write into the stream: 2 per layer, scaled so that their sum keeps its size (GPT-2). */
const WRITES_TO_STREAM = /(o_proj|down_proj)\.weight$/;

/** New weights: normal values, norms 1. Each tensor has its own random stream, so that none depends on another's size. */
export function initialWeights(config: LlamaConfig, rng: Rng): NamedTensors {
  const weights: NamedTensors = {};
  for (const [name, shape] of tensorShapes(config)) {
    const values = new Float32Array(tf.util.sizeFromShape(shape));
    if (shape.length === 1) values.fill(1);
    else {
      const deviation = INITIAL_DEVIATION / (WRITES_TO_STREAM.test(name) ? Math.sqrt(2 * config.layers) : 1);
      const own = rng.fork(name);
      for (let i = 0; i < values.length; i++) values[i] = deviation * own.normal();
    }
    weights[name] = tf.tensor(values, shape);
  }
  return weights;
}

/** Named weights as the forward pass takes them. Tied: the head is the embedding. */
export function modelWeights(named: Readonly<NamedTensors>, config: LlamaConfig): LlamaWeights {
  const embedding = named["model.embed_tokens.weight"] as tf.Tensor2D;
  const layers = Array.from({ length: config.layers }, (_, index) => {
    const names = Object.entries(layerTensorNames(index));
    return Object.fromEntries(
      names.map(([ours, theirs]) => [ours, named[theirs]]),
    ) as unknown as LlamaLayer<tf.Tensor2D>;
  });
  return {
    embedding,
    layers,
    finalNorm: named["model.norm.weight"] as tf.Tensor1D,
    head: [config.tiedEmbeddings ? embedding : (named["lm_head.weight"] as tf.Tensor2D)],
  };
}
