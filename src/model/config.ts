import { z } from "zod";
import { RefusedInput } from "../core/errors.js";
import { checked } from "./schema.js";

/** Configuration of a LLaMA, as the forward pass needs it, whichever version of Transformers wrote its config.json. */
export interface LlamaConfig {
  vocabSize: number;
  hiddenSize: number;
  intermediateSize: number;
  layers: number;
  heads: number;
  /** Key-value heads; divides `heads`. */
  kvHeads: number;
  headDim: number;
  rmsNormEps: number;
  ropeTheta: number;
  ropeScaling: Llama3RopeScaling | null;
  /** The output head is the embedding. */
  tiedEmbeddings: boolean;
  maxPositions: number;
  bosTokenId: number | null;
  eosTokenIds: number[];
  /** Precision the weights were saved in, where the file tells. */
  dtype: (typeof DTYPES)[number] | null;
}

/** The scaling of rotary frequencies that LLaMA 3.1 introduced. */
export interface Llama3RopeScaling {
  type: "llama3";
  factor: number;
  lowFreqFactor: number;
  highFreqFactor: number;
  originalMaxPositions: number;
}

/*
 * Defaults of fields that config.json leaves out, as Transformers' LlamaConfig and MistralConfig have them.
 * A Mistral without a sliding window is a LLaMA in every tensor and operation.
 */
const ARCHITECTURES = {
  LlamaForCausalLM: {
    model_type: "llama",
    intermediate_size: 11008,
    max_position_embeddings: 2048,
    num_key_value_heads: null,
  },
  MistralForCausalLM: {
    model_type: "mistral",
    intermediate_size: 14336,
    max_position_embeddings: 131072,
    num_key_value_heads: 8,
    sliding_window: 4096,
  },
} as const;

type Architecture = keyof typeof ARCHITECTURES;

/** Names of an architecture in files of early converters. */
const OLD_NAMES: Record<string, Architecture> = { LLaMAForCausalLM: "LlamaForCausalLM" };

const ARCHITECTURE_NAMES = Object.keys(ARCHITECTURES) as Architecture[];

const size = z.int({ error: "a whole number, 1 or more" }).positive({ error: "a whole number, 1 or more" });
const positive = z.number({ error: "a number above 0" }).positive({ error: "a number above 0" });
/** No LLaMA has more than 126; a damaged number must not become a list of a billion tensors. */
const MAX_LAYERS = 1000;
const layerCount = size.max(MAX_LAYERS, { error: `at most ${MAX_LAYERS}` });
const tokenId = z.int({ error: "a token id" }).nonnegative({ error: "a token id" });
const wholeHead = z.literal(1, { error: "1: the whole head is rotated" }).default(1);

const DEFAULT_THETA = 10000;
const rope = z.looseObject({ rope_type: z.string().optional(), type: z.string().optional() }).nullish();
const ropeKeys = {
  rope_type: z.string().optional(),
  type: z.string().optional(), // the name of rope_type until Transformers 4.43
  rope_theta: positive.optional(),
  partial_rotary_factor: wholeHead,
};
const defaultFields = z.strictObject(ropeKeys, { error: "an object with rope_type default and rope_theta, no more" });
const llama3Fields = z
  .object({
    ...ropeKeys,
    factor: z.number({ error: "a number, 1 or more" }).min(1, { error: "a number, 1 or more" }),
    low_freq_factor: positive,
    high_freq_factor: positive,
    original_max_position_embeddings: size,
  })
  .refine(({ low_freq_factor, high_freq_factor }) => high_freq_factor > low_freq_factor, {
    error: "high_freq_factor above low_freq_factor",
  });

const fields = z.looseObject(
  {
    architectures: z.array(z.string()).nullish(),
    model_type: z.string().optional(),
    vocab_size: size.default(32000),
    hidden_size: size.default(4096),
    intermediate_size: size.optional(),
    num_hidden_layers: layerCount.default(32),
    num_attention_heads: size.default(32),
    num_key_value_heads: size.nullish(),
    head_dim: size.nullish(),
    hidden_act: z.literal("silu", { error: "silu" }).default("silu"),
    rms_norm_eps: positive.default(1e-6),
    rope_theta: positive.optional(),
    rope_scaling: rope,
    rope_parameters: rope,
    partial_rotary_factor: wholeHead,
    tie_word_embeddings: z.boolean({ error: "true or false" }).default(false),
    max_position_embeddings: size.optional(),
    sliding_window: size.nullish(),
    attention_bias: z.literal(false, { error: "false: projections without bias" }).default(false),
    mlp_bias: z.literal(false, { error: "false: projections without bias" }).default(false),
    quantization_config: z.null({ error: "none: float32, float16 or bfloat16 weights" }).optional(),
    bos_token_id: tokenId.nullable().default(1),
    eos_token_id: z
      .union([tokenId, z.array(tokenId)], { error: "a token id or a list of them" })
      .nullable()
      .default(2),
    dtype: z.string().nullish(),
    torch_dtype: z.string().nullish(), // the name of dtype until Transformers 4.56
  },
  { error: "a JSON object" },
);
type Fields = z.output<typeof fields>;

/**
 * Reads the content of a config.json of old (rope_theta, rope_scaling, torch_dtype) or new (rope_parameters, dtype)
 * Transformers.
 * @param where the file's name, for messages
 * @throws {RefusedInput} for anything but a LLaMA, or a Mistral that never uses a sliding window; for biases, another
 *   activation, another rope scaling than llama3, quantised weights; for sizes that contradict each other
 */
export function parseLlamaConfig(json: unknown, where: string): LlamaConfig {
  refuseOtherArchitectures(json, where);
  const given = checked(fields, json, where);
  const defaults = ARCHITECTURES[architectureOf(given) as Architecture];
  const maxPositions = given.max_position_embeddings ?? defaults.max_position_embeddings;
  if ("sliding_window" in defaults) {
    refuseSlidingWindow(orDefault(given.sliding_window, defaults.sliding_window), maxPositions, where);
  }
  const eos = given.eos_token_id;
  return {
    vocabSize: given.vocab_size,
    hiddenSize: given.hidden_size,
    intermediateSize: given.intermediate_size ?? defaults.intermediate_size,
    layers: given.num_hidden_layers,
    ...headSizes(given, orDefault(given.num_key_value_heads, defaults.num_key_value_heads), where),
    rmsNormEps: given.rms_norm_eps,
    ...ropeOf(given, where),
    tiedEmbeddings: given.tie_word_embeddings,
    maxPositions,
    bosTokenId: given.bos_token_id,
    eosTokenIds: eos === null ? [] : typeof eos === "number" ? [eos] : eos,
    dtype: dtypeOf(given, where),
  };
}

/** A missing key has the default, an explicit null means none. */
function orDefault(value: number | null | undefined, fallback: number | null): number | null {
  return value === undefined ? fallback : value;
}

function architectureOf({ architectures, model_type }: { architectures?: unknown; model_type?: unknown }): unknown {
  if (Array.isArray(architectures)) return OLD_NAMES[architectures[0]] ?? architectures[0];
  return ARCHITECTURE_NAMES.find((name) => ARCHITECTURES[name].model_type === model_type) ?? model_type;
}

/** Before all else: complaints about single fields of another architecture would mislead. */
function refuseOtherArchitectures(json: unknown, where: string): void {
  const architecture = architectureOf((json ?? {}) as Record<string, unknown>);
  if (ARCHITECTURE_NAMES.some((name) => name === architecture)) return;
  throw new RefusedInput("this model architecture is not supported", {
    where: `${where}: architectures`,
    found: architecture,
    expected: `${ARCHITECTURE_NAMES.join(" or ")} (a Mistral without a sliding window is a LLaMA)`,
  });
}

function refuseSlidingWindow(window: number | null, maxPositions: number, where: string): void {
  if (window === null || window >= maxPositions) return;
  throw new RefusedInput("attention with a sliding window is not supported", {
    where: `${where}: sliding_window`,
    found: `${window} of ${maxPositions} positions`,
    expected: "null, or no fewer than max_position_embeddings",
  });
}

function headSizes(given: Fields, kvHeads: number | null, where: string) {
  const heads = given.num_attention_heads;
  const headDim = given.head_dim ?? given.hidden_size / heads;
  const sizes = { heads, kvHeads: kvHeads ?? heads, headDim };
  if (headDim % 2 !== 0 || heads % sizes.kvHeads !== 0) {
    throw new RefusedInput("the attention heads do not divide evenly", {
      where: `${where}: num_attention_heads, num_key_value_heads, head_dim`,
      found: `${heads} heads of ${headDim}, ${sizes.kvHeads} key-value heads`,
      expected: "heads of one even whole size, their number a multiple of the key-value heads",
    });
  }
  return sizes;
}

type Rope = Pick<LlamaConfig, "ropeTheta" | "ropeScaling">;

function ropeOf(given: Fields, where: string): Rope {
  const present = (["rope_parameters", "rope_scaling"] as const).filter((field) => given[field]);
  const [rope, other] = present.map((field) => ropeFrom(given, field, where));
  if (other && JSON.stringify(other) !== JSON.stringify(rope)) {
    throw new RefusedInput("the rotary embedding is described twice", {
      where: `${where}: rope_parameters, rope_scaling`,
      found: "two that differ",
      expected: "one of them, or two that agree",
    });
  }
  return rope ?? { ropeTheta: given.rope_theta ?? DEFAULT_THETA, ropeScaling: null };
}

function ropeFrom(given: Fields, field: "rope_parameters" | "rope_scaling", where: string): Rope {
  const type = given[field]?.rope_type ?? given[field]?.type ?? "default";
  if (type !== "default" && type !== "llama3") {
    throw new RefusedInput("this rope scaling is not supported", {
      where: `${where}: ${field}.rope_type`,
      found: type,
      expected: "default or llama3",
    });
  }
  const place = `${where}: ${field}`;
  const fallback = given.rope_theta ?? DEFAULT_THETA;
  if (type === "default") {
    const { rope_theta = fallback } = checked(defaultFields, given[field], place);
    return { ropeTheta: rope_theta, ropeScaling: null };
  }
  const { rope_theta = fallback, ...scaling } = checked(llama3Fields, given[field], place);
  return {
    ropeTheta: rope_theta,
    ropeScaling: {
      type,
      factor: scaling.factor,
      lowFreqFactor: scaling.low_freq_factor,
      highFreqFactor: scaling.high_freq_factor,
      originalMaxPositions: scaling.original_max_position_embeddings,
    },
  };
}

const DTYPES = ["float32", "float16", "bfloat16", "float64"] as const;

function dtypeOf(given: Fields, where: string): LlamaConfig["dtype"] {
  const name = given.dtype ?? given.torch_dtype ?? null;
  if (name === "auto") return null; // as the weights are
  const dtype = DTYPES.find((known) => known === name) ?? null;
  if (dtype === name) return dtype;
  throw new RefusedInput("this precision of the weights is not supported", {
    where: `${where}: ${given.dtype ? "dtype" : "torch_dtype"}`,
    found: name,
    expected: DTYPES.join(", "),
  });
}

/** From this hidden size on oneDNN's kernels gain more time than they take to set up (measured). */
const LARGE_PRODUCTS = 1024;

/** True for a model whose products keep several threads busy. */
export function hasLargeProducts({ hiddenSize }: Pick<LlamaConfig, "hiddenSize">): boolean {
  return hiddenSize >= LARGE_PRODUCTS;
}
