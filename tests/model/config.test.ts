import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { parseLlamaConfig } from "../../src/model/config.js";
import { golden } from "../support/shared.js";
import { refusal } from "./support.js";

/** LLaMA-3.1-8B as Transformers 4 wrote it. */
const OLD = {
  architectures: ["LlamaForCausalLM"],
  attention_bias: false,
  bos_token_id: 128000,
  eos_token_id: [128001, 128008, 128009],
  hidden_act: "silu",
  hidden_size: 4096,
  intermediate_size: 14336,
  max_position_embeddings: 131072,
  mlp_bias: false,
  model_type: "llama",
  num_attention_heads: 32,
  num_hidden_layers: 32,
  num_key_value_heads: 8,
  pretraining_tp: 1,
  rms_norm_eps: 1e-5,
  rope_scaling: {
    factor: 8,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 8192,
    rope_type: "llama3",
  },
  rope_theta: 500000,
  tie_word_embeddings: false,
  torch_dtype: "bfloat16",
  vocab_size: 128256,
};

function without(key: keyof typeof OLD) {
  const { [key]: _, ...rest } = OLD;
  return rest;
}

test("LLaMA 3.1 as Transformers 4 and as Transformers 5 write it is the same model", () => {
  const { rope_scaling, rope_theta, torch_dtype, ...shared } = OLD;
  const renewed = { ...shared, head_dim: 128, dtype: torch_dtype, rope_parameters: { ...rope_scaling, rope_theta } };
  const config = parseLlamaConfig(OLD, "config.json");
  expect(parseLlamaConfig(renewed, "config.json")).toEqual(config);
  expect(parseLlamaConfig({ ...renewed, rope_scaling, rope_theta }, "config.json")).toEqual(config);
  expect(config).toEqual({
    vocabSize: 128256,
    hiddenSize: 4096,
    intermediateSize: 14336,
    layers: 32,
    heads: 32,
    kvHeads: 8,
    headDim: 128,
    rmsNormEps: 1e-5,
    ropeTheta: 500000,
    ropeScaling: { type: "llama3", factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalMaxPositions: 8192 },
    tiedEmbeddings: false,
    maxPositions: 131072,
    bosTokenId: 128000,
    eosTokenIds: [128001, 128008, 128009],
    dtype: "bfloat16",
  });
});

test("the golden checkpoints", async () => {
  const parse = async (model: string) => {
    const path = join(golden, model, "config.json");
    return parseLlamaConfig(JSON.parse(await readFile(path, "utf8")), path);
  };
  expect(await parse("tiny-llama3")).toMatchObject({
    ropeScaling: null,
    ropeTheta: 5e5,
    headDim: 16,
    eosTokenIds: [1],
  });
  expect(await parse("tiny-llama3-tied")).toMatchObject({
    tiedEmbeddings: true,
    ropeTheta: 5e5,
    ropeScaling: { factor: 32, originalMaxPositions: 128 },
  });
});

test("what is left out is what Transformers' LlamaConfig has: LLaMA-1 7B", () => {
  expect(parseLlamaConfig({ architectures: ["LlamaForCausalLM"] }, "config.json")).toEqual({
    vocabSize: 32000,
    hiddenSize: 4096,
    intermediateSize: 11008,
    layers: 32,
    heads: 32,
    kvHeads: 32,
    headDim: 128,
    rmsNormEps: 1e-6,
    ropeTheta: 10000,
    ropeScaling: null,
    tiedEmbeddings: false,
    maxPositions: 2048,
    bosTokenId: 1,
    eosTokenIds: [2],
    dtype: null,
  });
});

test("explicit nulls mean none; a head size of its own; the architecture by model_type", () => {
  const config = parseLlamaConfig(
    {
      model_type: "llama",
      hidden_size: 96,
      num_attention_heads: 4,
      head_dim: 32,
      bos_token_id: null,
      eos_token_id: null,
    },
    "config.json",
  );
  expect(config).toMatchObject({ headDim: 32, bosTokenId: null, eosTokenIds: [] });
});

test("a Mistral is read as a LLaMA as long as its sliding window cannot matter", async () => {
  const mistral = { architectures: ["MistralForCausalLM"], model_type: "mistral", max_position_embeddings: 32768 };
  expect(parseLlamaConfig({ ...mistral, sliding_window: null }, "config.json")).toMatchObject({
    kvHeads: 8,
    headDim: 128,
  });
  expect(parseLlamaConfig({ ...mistral, sliding_window: 32768 }, "config.json")).toMatchObject({
    intermediateSize: 14336,
  });
  for (const window of [{ sliding_window: 4096 }, {}]) {
    const refused = await refusal(() => parseLlamaConfig({ ...mistral, ...window }, "config.json"));
    expect(refused).toMatchObject({ where: "config.json: sliding_window", found: "4096 of 32768 positions" });
  }
  // A LLaMA pays no attention to the key, in Transformers either.
  expect(parseLlamaConfig({ ...OLD, sliding_window: 4096 }, "config.json").layers).toBe(32);
});

describe("refused, with field, found and expected", () => {
  test.each([
    ["another architecture", { ...OLD, architectures: ["GPT2LMHeadModel"] }, "architectures", /GPT2.*LlamaForCausalLM/],
    ["another head", { ...OLD, architectures: ["LlamaForSequenceClassification"] }, "architectures", /Sequence/],
    ["another model type", { model_type: "qwen3" }, "architectures", /qwen3/],
    ["no object", [1, 2], "architectures", /nothing/],
    ["null", null, "architectures", /nothing/],
    ["another activation", { ...OLD, hidden_act: "gelu" }, "hidden_act", /gelu.*silu/],
    ["bias in the attention", { ...OLD, attention_bias: true }, "attention_bias", /true.*false/],
    ["bias in the MLP", { ...OLD, mlp_bias: true }, "mlp_bias", /true.*false/],
    ["partly rotated heads", { ...OLD, partial_rotary_factor: 0.5 }, "partial_rotary_factor", /0\.5/],
    ["quantised weights", { ...OLD, quantization_config: { bits: 4 } }, "quantization_config", /bits/],
    ["another precision", { ...OLD, torch_dtype: "float8" }, "torch_dtype", /float8.*bfloat16/],
    [
      "another rope scaling",
      { ...OLD, rope_scaling: { type: "linear", factor: 2 } },
      "rope_scaling.rope_type",
      /linear/,
    ],
    ["another new rope", { ...OLD, rope_parameters: { rope_type: "yarn" } }, "rope_parameters.rope_type", /yarn/],
    [
      "a llama3 scaling without its factor",
      { ...OLD, rope_scaling: { rope_type: "llama3" } },
      "rope_scaling: factor",
      /1 or more/,
    ],
    [
      "frequencies in the wrong order",
      { ...OLD, rope_scaling: { ...OLD.rope_scaling, low_freq_factor: 4 } },
      "rope_scaling",
      /high_freq_factor above/,
    ],
    [
      "two ropes that differ",
      { ...OLD, rope_parameters: { ...OLD.rope_scaling, factor: 32, rope_theta: 500000 } },
      "rope_parameters, rope_scaling",
      /two that differ/,
    ],
    [
      "a rope for each kind of layer",
      { ...OLD, rope_scaling: null, rope_parameters: { full_attention: { rope_theta: 1e6 } } },
      "rope_parameters",
      /full_attention/,
    ],
    [
      "a partly rotated head, as Transformers 5 says it",
      { ...OLD, rope_scaling: null, rope_parameters: { rope_theta: 1e6, partial_rotary_factor: 0.5 } },
      "rope_parameters: partial_rotary_factor",
      /0\.5/,
    ],
    ["no layers", { ...OLD, num_hidden_layers: 0 }, "num_hidden_layers", /1 or more/],
    ["more layers than any model", { ...OLD, num_hidden_layers: 1e9 }, "num_hidden_layers", /at most 1000/],
    ["half a size", { ...OLD, hidden_size: 64.5 }, "hidden_size", /whole/],
    ["a size in quotes", { ...OLD, hidden_size: "4096" }, "hidden_size", /4096.*whole/],
    ["heads that do not divide the hidden size", { ...OLD, hidden_size: 4000 }, "head_dim", /32 heads of 125/],
    ["heads that do not divide into groups", { ...OLD, num_key_value_heads: 5 }, "num_key_value_heads", /5 key-value/],
    ["a negative epsilon", { ...OLD, rms_norm_eps: -1 }, "rms_norm_eps", /above 0/],
    ["a token that is no id", { ...OLD, eos_token_id: "</s>" }, "eos_token_id", /token id/],
  ])("%s", async (_, json, field, says) => {
    const { where, message } = await refusal(() => parseLlamaConfig(json, "model/config.json"));
    expect(where).toContain("model/config.json: ");
    expect(where).toContain(field);
    expect(message.replaceAll("\n", " ")).toMatch(says);
  });

  test("sizes are required to be sizes even where a default exists", async () => {
    expect(parseLlamaConfig(without("vocab_size"), "config.json").vocabSize).toBe(32000);
    expect((await refusal(() => parseLlamaConfig({ ...OLD, vocab_size: null }, "c"))).where).toBe("c: vocab_size");
  });
});
