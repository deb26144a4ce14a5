import { join } from "node:path";
import { RefusedInput } from "../../core/errors.js";
import { writeFileAtomic } from "../../core/files.js";
import { tensorShapes } from "../../model/checkpoint.js";
import type { LlamaConfig } from "../../model/config.js";
import { writeSafetensors } from "../../model/safetensors-file.js";
import type { TensorToWrite } from "../../model/safetensors-write.js";
import { INITIAL_DEVIATION } from "./init.js";
import type { TrainingState } from "./trainer.js";

/** Limit on the weights of a model that stands in the repository. */
const MAX_WEIGHTS_BYTES = 24e6;

/** @throws {RefusedInput} when a model of this configuration is too large to stand in the repository */
export function requireSmall(config: LlamaConfig): void {
  const weights = [...tensorShapes(config).values()].map((shape) =>
    shape.reduce((product, extent) => product * extent),
  );
  const bytes = 2 * weights.reduce((sum, count) => sum + count);
  if (bytes <= MAX_WEIGHTS_BYTES) return;
  throw new RefusedInput("a model of this shape is too large to be shipped", {
    where: "shape",
    found: `${bytes} bytes in BF16`,
    expected: `at most ${MAX_WEIGHTS_BYTES}`,
  });
}

/** Writes config.json, generation_config.json and model.safetensors (BF16) beside the tokenizer's files. */
export async function exportWeights(folder: string, state: TrainingState, config: LlamaConfig): Promise<void> {
  const tensors: Record<string, TensorToWrite> = {};
  for (const [name, { weight }] of Object.entries(state.moving)) {
    tensors[name] = { dtype: "BF16", shape: weight.shape, data: await weight.data<"float32">() };
  }
  await writeJson(join(folder, "config.json"), configJson(config));
  await writeJson(join(folder, "generation_config.json"), {
    bos_token_id: config.bosTokenId,
    do_sample: false,
    eos_token_id: config.eosTokenIds[0],
  });
  await writeSafetensors(join(folder, "model.safetensors"), tensors, { format: "pt" });
}

/** config.json for Transformers before 5 (rope_theta, torch_dtype) and from 5 on (rope_parameters, dtype). */
function configJson(config: LlamaConfig) {
  return {
    architectures: ["LlamaForCausalLM"],
    attention_bias: false,
    attention_dropout: 0,
    bos_token_id: config.bosTokenId,
    dtype: "bfloat16",
    eos_token_id: config.eosTokenIds[0],
    head_dim: config.headDim,
    hidden_act: "silu",
    hidden_size: config.hiddenSize,
    initializer_range: INITIAL_DEVIATION,
    intermediate_size: config.intermediateSize,
    max_position_embeddings: config.maxPositions,
    mlp_bias: false,
    model_type: "llama",
    num_attention_heads: config.heads,
    num_hidden_layers: config.layers,
    num_key_value_heads: config.kvHeads,
    pad_token_id: null,
    pretraining_tp: 1,
    rms_norm_eps: config.rmsNormEps,
    rope_parameters: { rope_theta: config.ropeTheta, rope_type: "default" },
    rope_theta: config.ropeTheta,
    tie_word_embeddings: config.tiedEmbeddings,
    torch_dtype: "bfloat16",
    use_cache: true,
    vocab_size: config.vocabSize,
  };
}

async function writeJson(path: string, value: unknown): Promise<void> {
  await writeFileAtomic(path, `${JSON.stringify(value, null, 2)}\n`);
}
