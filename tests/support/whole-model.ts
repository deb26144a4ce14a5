import { forward, type LlamaLayer, positions } from "../../src/model/llama.js";
import type { LlamaModel } from "../../src/model/model.js";
import { tf } from "../../src/tensor/tf.js";

/** All that a whole float32 model holds, as `forward` takes it. */
export function weightsOf(model: LlamaModel) {
  const layers = Array.from({ length: model.config.layers }, (_, i) => model.layer(i) as LlamaLayer<tf.Tensor2D>);
  return { layers, finalNorm: model.output.finalNorm, head: model.output.head as tf.Tensor2D[] };
}

/** Every tensor of a whole float32 model. */
export function tensorsOf(model: LlamaModel): tf.Tensor[] {
  const { layers, finalNorm, head } = weightsOf(model);
  return [finalNorm, ...head, ...layers.flatMap((layer) => Object.values(layer) as tf.Tensor[])];
}

/** Logits of the uncut pass at every position of sequences of one length, [B T, V]. The caller disposes them. */
export async function wholeLogits(
  model: LlamaModel,
  sequences: readonly ArrayLike<number>[],
  at = positions(model.config, (sequences[0] as ArrayLike<number>).length),
): Promise<tf.Tensor2D> {
  const x = await model.embed(sequences.flatMap((ids) => Array.from(ids)));
  const logits = forward(x, weightsOf(model), model.config, at);
  tf.dispose([x, at.cos, at.sin, at.causal]);
  return logits;
}
