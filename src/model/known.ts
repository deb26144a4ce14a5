import { RefusedInput } from "../core/errors.js";

/** Features of a published model that its stand-in copies. */
export interface StandInModel {
  /** Name of the real one on the Hugging Face hub. */
  source: string;
  /** The content of its config.json. */
  config: HuggingFaceConfig;
  /** A file of weights ends before a tensor that would make it larger than this. */
  maxShardBytes: number;
  /** Special tokens of its vocabulary, and the place of the 256 bytes in it. */
  vocabulary: VocabularyPlan;
}

/** The fields of a config.json that a stand-in reads itself; the rest is handed through. */
export interface HuggingFaceConfig {
  vocab_size: number;
  num_hidden_layers: number;
  max_position_embeddings: number;
  initializer_range: number;
  bos_token_id: number;
  eos_token_id: number;
  torch_dtype: "bfloat16" | "float16";
  [field: string]: unknown;
}

export interface VocabularyPlan {
  bos: string;
  eos: string;
  /** Id of the first of the 256 bytes. */
  firstByte: number;
}

/** Tokens are written out from 0 on, the special ones behind them. */
const LLAMA_3_VOCABULARY: VocabularyPlan = { bos: "<|begin_of_text|>", eos: "<|end_of_text|>", firstByte: 0 };
/** Three special tokens, the bytes, then everything else. */
const SENTENCEPIECE_VOCABULARY: VocabularyPlan = { bos: "<s>", eos: "</s>", firstByte: 3 };

const COMMON = {
  attention_dropout: 0,
  hidden_act: "silu",
  initializer_range: 0.02,
  rms_norm_eps: 1e-5,
  use_cache: true,
} as const;

const LLAMA = {
  ...COMMON,
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  attention_bias: false,
  mlp_bias: false,
  pretraining_tp: 1,
} as const;

const LLAMA_3 = {
  ...LLAMA,
  bos_token_id: 128000,
  eos_token_id: 128001,
  num_attention_heads: 32,
  num_key_value_heads: 8,
  rope_theta: 500000,
  torch_dtype: "bfloat16",
  vocab_size: 128256,
} as const;

/** Published models that can be stood in for, by the name of their hyperparameters where those come with the project. */
export const STAND_INS = {
  "llama-3-8b": {
    source: "meta-llama/Meta-Llama-3-8B",
    config: {
      ...LLAMA_3,
      hidden_size: 4096,
      intermediate_size: 14336,
      max_position_embeddings: 8192,
      num_hidden_layers: 32,
      rope_scaling: null,
      tie_word_embeddings: false,
    },
    maxShardBytes: 5e9,
    vocabulary: LLAMA_3_VOCABULARY,
  },
  "llama-3.2-1b": {
    source: "meta-llama/Llama-3.2-1B",
    config: {
      ...LLAMA_3,
      head_dim: 64,
      hidden_size: 2048,
      intermediate_size: 8192,
      max_position_embeddings: 131072,
      num_hidden_layers: 16,
      rope_scaling: {
        factor: 32,
        high_freq_factor: 4,
        low_freq_factor: 1,
        original_max_position_embeddings: 8192,
        rope_type: "llama3",
      },
      tie_word_embeddings: true,
    },
    maxShardBytes: 5e9,
    vocabulary: LLAMA_3_VOCABULARY,
  },
  // Its real files also carry rotary frequencies, 4096 bytes that every loader leaves aside.
  "llama-2-7b": {
    source: "meta-llama/Llama-2-7b-hf",
    config: {
      ...LLAMA,
      bos_token_id: 1,
      eos_token_id: 2,
      hidden_size: 4096,
      intermediate_size: 11008,
      max_position_embeddings: 4096,
      num_attention_heads: 32,
      num_hidden_layers: 32,
      num_key_value_heads: 32,
      rope_scaling: null,
      tie_word_embeddings: false,
      torch_dtype: "float16",
      vocab_size: 32000,
    },
    maxShardBytes: 10e9,
    vocabulary: SENTENCEPIECE_VOCABULARY,
  },
  // Version 0.1 attends through a sliding window, which this project's forward pass does not; 0.2 has the same shapes.
  "mistral-7b": {
    source: "mistralai/Mistral-7B-Instruct-v0.2",
    config: {
      ...COMMON,
      architectures: ["MistralForCausalLM"],
      model_type: "mistral",
      bos_token_id: 1,
      eos_token_id: 2,
      hidden_size: 4096,
      intermediate_size: 14336,
      max_position_embeddings: 32768,
      num_attention_heads: 32,
      num_hidden_layers: 32,
      num_key_value_heads: 8,
      rope_theta: 1000000,
      sliding_window: null,
      tie_word_embeddings: false,
      torch_dtype: "bfloat16",
      vocab_size: 32000,
    },
    maxShardBytes: 5e9,
    vocabulary: SENTENCEPIECE_VOCABULARY,
  },
} as const satisfies Record<string, StandInModel>;

export type StandInName = keyof typeof STAND_INS;

/**
 * Plan of the stand-in for a published model.
 * @param layers keep only so many of its layers, for a quick trial
 * @throws {RefusedInput} for more layers than it has
 */
export function standInFor(name: StandInName, { layers }: { layers?: number } = {}): StandInModel {
  const model: StandInModel = STAND_INS[name];
  const all = model.config.num_hidden_layers;
  if (layers === undefined) return model;
  if (Number.isInteger(layers) && layers >= 1 && layers <= all) {
    return { ...model, config: { ...model.config, num_hidden_layers: layers } };
  }
  throw new RefusedInput("a stand-in cannot have so many layers", {
    where: "layers",
    found: layers,
    expected: `1 to ${all}, the layers of ${name}`,
  });
}
