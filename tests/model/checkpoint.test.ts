import { mkdir, readFile, rename, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { RefusedInput } from "../../src/core/errors.js";
import { EMBEDDING, FINAL_NORM, headName, layerTensorNames } from "../../src/model/checkpoint.js";
import { openCheckpoint } from "../../src/model/folder.js";
import { openSafetensors, writeSafetensors } from "../../src/model/safetensors-file.js";
import type { TensorToWrite } from "../../src/model/safetensors-write.js";
import { golden } from "../support/shared.js";
import { changeJson, copyOfGolden, refusal, safetensorsBytes, temporaryFolder } from "./support.js";

/** Rewrites the one weights file of a copy of tiny-llama3-tied with some tensors changed, added or (undefined) left out. */
async function changeTensors(folder: string, changes: Record<string, TensorToWrite | undefined>): Promise<void> {
  const path = join(folder, "model.safetensors");
  const file = await openSafetensors(path);
  const tensors: Record<string, TensorToWrite> = {};
  for (const [name, { shape }] of file.tensors) tensors[name] = { dtype: "F32", shape, data: await file.read(name) };
  await file.close();
  for (const [name, tensor] of Object.entries(changes)) {
    if (tensor) tensors[name] = tensor;
    else delete tensors[name];
  }
  await writeSafetensors(path, tensors);
}

/** The embedding of a copy of tiny-llama3-tied, as a tensor to write. */
async function embeddingOf(folder: string): Promise<TensorToWrite & { data: Float32Array }> {
  const checkpoint = await openCheckpoint(folder);
  const data = await checkpoint.read(EMBEDDING);
  await checkpoint.close();
  return { dtype: "F32", shape: [1024, 64], data };
}

const zeros = (...shape: number[]) => ({
  dtype: "F32" as const,
  shape,
  data: new Float32Array(shape.reduce((a, b) => a * b)),
});

describe("golden checkpoints", () => {
  test("BF16 in four shards: every tensor under its name, values as stored", async () => {
    const checkpoint = await openCheckpoint(join(golden, "tiny-llama3"));
    expect(checkpoint).toMatchObject({ name: "tiny-llama3", folder: join(golden, "tiny-llama3") });
    const names = layerTensorNames(0);
    const [q, k, down, inputNorm] = (await Promise.all(
      (["q", "k", "down", "inputNorm"] as const).map((key) => checkpoint.read(names[key])),
    )) as [Float32Array, Float32Array, Float32Array, Float32Array];
    expect([q.length, k.length, down.length, inputNorm.length]).toEqual([64 * 64, 32 * 64, 64 * 176, 64]);
    const shard = await readFile(join(checkpoint.folder, "model-00001-of-00004.safetensors"));
    expect(k[5]).toBe(Buffer.from([0, 0, ...shard.subarray(8 + 648 + 153600 + 10).subarray(0, 2)]).readFloatLE());
    const embedding = await checkpoint.read(EMBEDDING);
    const name = headName(checkpoint.config);
    const head = await checkpoint.read(name);
    expect([embedding.length, head.length]).toEqual([1024 * 64, 1024 * 64]);
    expect(head).not.toEqual(embedding);
    expect(await checkpoint.read(EMBEDDING, { rows: [7, 9] })).toEqual(embedding.slice(7 * 64, 9 * 64));
    expect(await checkpoint.read(name, { rows: [1000, 1024] })).toEqual(head.slice(1000 * 64));
    expect(await checkpoint.read(FINAL_NORM)).toHaveLength(64);
    const { found, expected } = await refusal(() => checkpoint.read("model.norm.weigth"));
    expect([found, expected]).toEqual(["model.norm.weigth", "the name of a tensor, such as model.norm.weight"]);
    expect(await checkpoint.read(layerTensorNames(3).up, { rows: [0, 2] })).toHaveLength(128);
    await checkpoint.close();
  });

  test("tied embeddings in one F32 file: the head is the embedding", async () => {
    const checkpoint = await openCheckpoint(join(golden, "tiny-llama3-tied"));
    expect(headName(checkpoint.config)).toBe(EMBEDDING);
    expect(checkpoint.shapes.has("lm_head.weight")).toBe(false);
    await checkpoint.close();
  });

  test("the hash is that of the content: the same in a copy, another after any change that matters", async () => {
    const hashOf = async (folder: string) => {
      const checkpoint = await openCheckpoint(folder);
      const hash = await checkpoint.sha256();
      await checkpoint.close();
      return hash;
    };
    const folder = await copyOfGolden("tiny-llama3");
    const hash = await hashOf(folder);
    expect(hash).toMatch(/^[0-9a-f]{64}$/);
    expect(hash).toBe(await hashOf(join(golden, "tiny-llama3")));
    await writeFile(join(folder, "README.md"), "notes");
    expect(await hashOf(folder)).toBe(hash);
    const shard = join(folder, "model-00003-of-00004.safetensors");
    const bytes = await readFile(shard);
    bytes[bytes.length - 1] = (bytes.at(-1) as number) ^ 1;
    await writeFile(shard, bytes);
    const changed = await hashOf(folder);
    expect(changed).not.toBe(hash);
    await writeFile(join(folder, "chat_template.jinja"), "{{ messages[0].content }}");
    expect(await hashOf(folder)).not.toBe(changed);
  });
});

describe("a folder that is no whole model is refused before weights are read", () => {
  test("no folder, a file, an empty folder, a folder without config.json", async () => {
    const folder = await temporaryFolder();
    expect((await refusal(() => openCheckpoint(join(folder, "none")))).found).toContain("ENOENT");
    expect((await refusal(() => openCheckpoint(join(golden, "records.json")))).found).toContain("ENOTDIR");
    expect((await refusal(() => openCheckpoint(folder))).found).toBe("no files");
    await writeFile(join(folder, "model.safetensors"), "");
    expect((await refusal(() => openCheckpoint(folder))).found).toContain("without config.json: model.safetensors");
  });

  test("an unsupported architecture, by its config.json", async () => {
    const folder = await copyOfGolden("tiny-llama3");
    await changeJson(join(folder, "config.json"), () => ({ architectures: ["GemmaForCausalLM"] }));
    const refused = await refusal(() => openCheckpoint(folder));
    expect(refused).toMatchObject({
      where: `${join(folder, "config.json")}: architectures`,
      found: "GemmaForCausalLM",
    });
  });

  test("a missing shard, a truncated shard, a foreign shard", async () => {
    const folder = await copyOfGolden("tiny-llama3");
    const shard = join(folder, "model-00002-of-00004.safetensors");
    await truncate(shard, 50_000);
    expect((await refusal(() => openCheckpoint(folder))).message).toContain("truncated");
    await writeFile(shard, "<html><body>404</body></html>");
    expect(await refusal(() => openCheckpoint(folder))).toMatchObject({ where: shard, found: "an HTML or XML page" });
    await rm(shard);
    expect((await refusal(() => openCheckpoint(folder))).found).toBe(
      "3 of 4 files; missing model-00002-of-00004.safetensors",
    );
  });

  test("no weights, or weights of another format", async () => {
    const folder = await copyOfGolden("tiny-llama3-tied");
    await rename(join(folder, "model.safetensors"), join(folder, "pytorch_model.bin"));
    const { found, hint } = await refusal(() => openCheckpoint(folder));
    expect([found, hint]).toEqual(["pytorch_model.bin", expect.stringContaining("save_pretrained")]);
    await rm(join(folder, "pytorch_model.bin"));
    expect((await refusal(() => openCheckpoint(folder))).found).toBe("no weight files");
  });

  test("an index that leads out of the folder, names no file, or has no map", async () => {
    const folder = await copyOfGolden("tiny-llama3");
    const index = join(folder, "model.safetensors.index.json");
    for (const weight_map of [{ a: "../secret.safetensors" }, { a: 3 }, "all", undefined]) {
      await changeJson(index, () => ({ weight_map }));
      expect((await refusal(() => openCheckpoint(folder))).where).toContain(`${index}: weight_map`);
    }
  });

  test("a missing tensor, an unknown one, a wrong shape, a wrong dtype", async () => {
    const folder = await copyOfGolden("tiny-llama3-tied");
    const weights = join(folder, "model.safetensors");
    const down = layerTensorNames(2).down;
    await changeTensors(folder, { [down]: zeros(176, 64) });
    expect(await refusal(() => openCheckpoint(folder))).toMatchObject({
      where: `${weights}: ${down}`,
      found: "[176, 64]",
      expected: "[64, 176], as config.json says",
    });
    await changeTensors(folder, { [down]: { dtype: "I32", shape: [64, 176], data: new Int32Array(64 * 176) } });
    expect(await refusal(() => openCheckpoint(folder))).toMatchObject({ where: `${weights}: ${down}`, found: "I32" });
    await rm(weights);
    await writeFile(weights, await readFile(join(golden, "tiny-llama3-tied/model.safetensors")));
    await changeTensors(folder, { [down]: undefined });
    expect((await refusal(() => openCheckpoint(folder))).found).toBe(`37 tensors; 1 missing: ${down}`);
    await changeTensors(folder, { [down]: zeros(64, 176), "model.layers.0.self_attn.q_proj.bias": zeros(64) });
    expect((await refusal(() => openCheckpoint(folder))).found).toBe("model.layers.0.self_attn.q_proj.bias");
  });

  test("an output head beside tied embeddings that is not the embedding: only one of the two can be meant", async () => {
    const folder = await copyOfGolden("tiny-llama3-tied");
    const { data } = await embeddingOf(folder);
    await changeTensors(folder, { "lm_head.weight": { ...zeros(1024, 64), data: data.with(70, 9) } });
    const { where, found, hint } = await refusal(() => openCheckpoint(folder));
    expect(where).toBe(`${join(folder, "model.safetensors")}: lm_head.weight`);
    expect([found, hint]).toEqual([expect.stringContaining(EMBEDDING), expect.stringContaining("tie_word_embeddings")]);
    await changeTensors(folder, { "lm_head.weight": zeros(1000, 64) });
    expect((await refusal(() => openCheckpoint(folder))).expected).toContain("[1024, 64]");
    await changeTensors(folder, { "lm_head.weight": zeros(1024, 64) });
    await changeJson(join(folder, "config.json"), () => ({ tie_word_embeddings: false }));
    await (await openCheckpoint(folder)).close();
  });

  test("more or fewer layers than config.json says", async () => {
    const folder = await copyOfGolden("tiny-llama3-tied");
    const setLayers = (layers: number) =>
      changeJson(join(folder, "config.json"), () => ({ num_hidden_layers: layers }));
    await setLayers(5);
    expect((await refusal(() => openCheckpoint(folder))).found).toContain("9 missing: model.layers.4.input_layernorm");
    await setLayers(3);
    expect((await refusal(() => openCheckpoint(folder))).found).toContain("model.layers.3.");
  });

  test("one tensor in two shards", async () => {
    const folder = await copyOfGolden("tiny-llama3");
    await writeSafetensors(join(folder, "more.safetensors"), { "model.norm.weight": zeros(64) });
    await changeJson(join(folder, "model.safetensors.index.json"), ({ weight_map }) => ({
      weight_map: { ...(weight_map as object), extra: "more.safetensors" },
    }));
    expect((await refusal(() => openCheckpoint(folder))).found).toBe(
      "model-00003-of-00004.safetensors and more.safetensors",
    );
  });
});

describe("what Transformers loads too", () => {
  test("stored rotary frequencies, of a layer or of the whole model, are left aside", async () => {
    const folder = await copyOfGolden("tiny-llama3-tied");
    await changeTensors(folder, { "model.layers.0.self_attn.rotary_emb.inv_freq": zeros(8) });
    await (await openCheckpoint(folder)).close();
    await changeTensors(folder, { "model.rotary_emb.inv_freq": zeros(8) });
    await (await openCheckpoint(folder)).close();
  });

  test("an output head that is the embedding, beside tied embeddings", async () => {
    const folder = await copyOfGolden("tiny-llama3-tied");
    await changeTensors(folder, { "lm_head.weight": await embeddingOf(folder) });
    const { config, shapes, close } = await openCheckpoint(folder);
    expect([config.tiedEmbeddings, shapes.has("lm_head.weight"), headName(config)]).toEqual([true, false, EMBEDDING]);
    await close();
  });

  test("the class name of early converters, and a dtype that is left to the weights", async () => {
    const folder = await copyOfGolden("tiny-llama3-tied");
    await changeJson(join(folder, "config.json"), () => ({
      architectures: ["LLaMAForCausalLM"],
      dtype: undefined,
      torch_dtype: "auto",
    }));
    const { config, close } = await openCheckpoint(folder);
    expect(config.dtype).toBeNull();
    await close();
  });

  test("F64 weights, rounded to float32", async () => {
    const folder = await copyOfGolden("tiny-llama3-tied");
    const norm = Float64Array.from({ length: 64 }, (_, i) => 1 + i / 3);
    const path = join(folder, "model.safetensors");
    const file = await openSafetensors(path);
    const header: Record<string, object> = {};
    const parts: Uint8Array[] = [];
    let end = 0;
    for (const [name, { shape, dtype }] of file.tensors) {
      const bytes = name === FINAL_NORM ? new Uint8Array(norm.buffer) : await file.readRaw(name);
      parts.push(bytes);
      header[name] = { dtype: name === FINAL_NORM ? "F64" : dtype, shape, data_offsets: [end, end + bytes.length] };
      end += bytes.length;
    }
    await file.close();
    await writeFile(path, safetensorsBytes(header, Buffer.concat(parts)));
    await changeJson(join(folder, "config.json"), () => ({ dtype: "float64" }));
    const checkpoint = await openCheckpoint(folder);
    expect(await checkpoint.read(FINAL_NORM)).toEqual(Float32Array.from(norm));
    await checkpoint.close();
  });
});

describe("what is something else gets the word that helps", () => {
  const tensor = (name: string) => ({ [name]: zeros(8, 64) });

  test.each([
    ["model.layers.0.self_attn.q_proj.qweight", /GPTQ/, /float weights/],
    ["base_model.model.embed_tokens.weight", /PEFT/, /merge_and_unload/],
    ["model.layers.0.self_attn.q_proj.lora_A.weight", /PEFT/, /merge_and_unload/],
  ])("%s", async (name, found, hint) => {
    const folder = await copyOfGolden("tiny-llama3-tied");
    await changeTensors(folder, tensor(name));
    expect(await refusal(() => openCheckpoint(folder))).toMatchObject({
      found: expect.stringMatching(found),
      hint: expect.stringMatching(hint),
    });
  });

  test("weights of eight bits", async () => {
    const folder = await copyOfGolden("tiny-llama3-tied");
    const name = layerTensorNames(1).up;
    await changeTensors(folder, { [name]: { dtype: "U8", shape: [176, 64], data: new Uint8Array(176 * 64) } });
    expect((await refusal(() => openCheckpoint(folder))).hint).toMatch(/float weights/);
  });

  test("a LoRA adapter alone; beside a model it is left aside", async () => {
    const folder = await copyOfGolden("tiny-llama3-tied");
    await writeFile(join(folder, "adapter_config.json"), "{}");
    await (await openCheckpoint(folder)).close();
    await rename(join(folder, "model.safetensors"), join(folder, "adapter_model.safetensors"));
    await rm(join(folder, "config.json")); // as PEFT saves
    const { message, hint } = await refusal(() => openCheckpoint(folder));
    expect([message, hint]).toEqual([expect.stringMatching(/LoRA adapter/), expect.stringMatching(/merge_and_unload/)]);
  });

  test.each(["config.json", "model.safetensors"])("a Git LFS pointer as %s", async (name) => {
    const folder = await copyOfGolden("tiny-llama3-tied");
    const pointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${"ab".repeat(32)}\nsize 19572\n`;
    await writeFile(join(folder, name), pointer);
    const { where, found } = await refusal(() => openCheckpoint(folder));
    expect([where, found]).toEqual([join(folder, name), expect.stringMatching(/^a Git LFS pointer/)]);
  });

  test("the root of a Hugging Face cache, by the snapshot that refs/main names", async () => {
    const root = join(await temporaryFolder(), "models--meta--tiny");
    for (const name of ["blobs", "refs", "snapshots/aaa", "snapshots/bbb"])
      await mkdir(join(root, name), { recursive: true });
    await writeFile(join(root, "refs", "main"), "bbb");
    expect((await refusal(() => openCheckpoint(root))).hint).toBe(join(root, "snapshots", "bbb"));
    await rm(join(root, "refs", "main"));
    expect((await refusal(() => openCheckpoint(root))).hint).toBe(join(root, "snapshots", "aaa"));
  });

  test("a name on the hub: nothing is downloaded", async () => {
    const { hint } = await refusal(() => openCheckpoint("meta-llama/Llama-3-8B"));
    expect(hint).toMatch(/hf download meta-llama\/Llama-3-8B --local-dir Llama-3-8B/);
    const none = join(await temporaryFolder(), "none");
    expect((await refusal(() => openCheckpoint(none))).hint).toBeUndefined();
  });
});

test("a NaN among the weights is refused when its tensor is read, with its place", async () => {
  const folder = await copyOfGolden("tiny-llama3-tied");
  const gate = zeros(176, 64);
  gate.data[64 * 3 + 2] = Number.NaN;
  const name = layerTensorNames(1).gate;
  await changeTensors(folder, { [name]: gate });
  const checkpoint = await openCheckpoint(folder);
  await checkpoint.read(layerTensorNames(0).gate);
  const { where, found } = await refusal(() => checkpoint.read(name));
  expect([where, found]).toEqual([`${join(folder, "model.safetensors")}: ${name} [3, 2]`, "NaN"]);
  await checkpoint.close();
});

test("random damage to the header of a shard: refused, or the same weights", async () => {
  const folder = await copyOfGolden("tiny-llama3");
  const shard = join(folder, "model-00004-of-00004.safetensors");
  const whole = await readFile(shard);
  const headerEnd = 8 + Number(whole.readBigUInt64LE(0));
  const valuesOf = async () => {
    const checkpoint = await openCheckpoint(folder);
    try {
      return Buffer.concat(
        [await checkpoint.read("lm_head.weight"), await checkpoint.read(FINAL_NORM)].map((v) => Buffer.from(v.buffer)),
      );
    } finally {
      await checkpoint.close();
    }
  };
  const expected = await valuesOf();
  await fc.assert(
    fc.asyncProperty(fc.nat(headerEnd - 1), fc.integer({ min: 1, max: 255 }), async (at, flip) => {
      const bytes = Buffer.from(whole);
      bytes[at] = (bytes[at] as number) ^ flip;
      await writeFile(shard, bytes);
      try {
        expect((await valuesOf()).equals(expected)).toBe(true);
      } catch (error) {
        expect(error).toBeInstanceOf(RefusedInput);
      }
    }),
    { numRuns: 200 },
  );
});

test("a folder in place of a weights file", async () => {
  const folder = await copyOfGolden("tiny-llama3-tied");
  await rm(join(folder, "model.safetensors"));
  await mkdir(join(folder, "model.safetensors"));
  expect((await refusal(() => openCheckpoint(folder))).found).toBe("something else than a file");
});
