import { existsSync } from "node:fs";
import { readdir, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { Interrupted } from "../../src/core/errors.js";
import { sha256File } from "../../src/core/files.js";
import { widenBf16, widenF16 } from "../../src/core/float-bits.js";
import { createRng } from "../../src/core/rng.js";
import { FINAL_NORM, layerTensorNames } from "../../src/model/checkpoint.js";
import { parseLlamaConfig } from "../../src/model/config.js";
import { loadModel, openCheckpoint } from "../../src/model/folder.js";
import { STAND_INS, type StandInModel, type StandInName, standInFor } from "../../src/model/known.js";
import { planShards, shardIndex } from "../../src/workshop/stand-in/shards.js";
import { normalTable, type StoredDtype, tensorBytes } from "../../src/workshop/stand-in/values.js";
import { type StandInProgress, writeStandIn } from "../../src/workshop/stand-in/write.js";
import { changeJson, refusal, temporaryFolder } from "../model/support.js";
import { requires } from "../support/requires.js";
import { mountSmallDisk } from "../support/small-disk.js";
import { expectTidy } from "../support/tensor-matcher.js";
import { wholeLogits } from "../support/whole-model.js";

/** A known model shrunk to what a test can write: three layers of width 64 in several files. */
function small(name: StandInName): StandInModel {
  const model: StandInModel = STAND_INS[name];
  const changes = { hidden_size: 64, intermediate_size: 96, num_hidden_layers: 3, num_attention_heads: 4 };
  const heads = { num_key_value_heads: 2, head_dim: 16 };
  const vocabulary = { vocab_size: 320, bos_token_id: 301, eos_token_id: 302 };
  return { ...model, config: { ...model.config, ...changes, ...heads, ...vocabulary }, maxShardBytes: 90_000 };
}

/** sha256 of every file. */
async function hashesOf(folder: string): Promise<Record<string, string>> {
  const hashes: [name: string, sha256: string][] = [];
  for (const name of (await readdir(folder)).sort()) hashes.push([name, await sha256File(join(folder, name))]);
  return Object.fromEntries(hashes);
}

describe("the files of the published models", () => {
  // Sizes of the files as the Hugging Face hub lists them.
  test.each<[StandInName, StoredDtype, total: number, sizes: number[]]>([
    ["llama-3-8b", "BF16", 16_060_522_496, [4_976_698_672, 4_999_802_720, 4_915_916_176, 1_168_138_808]],
    ["llama-3.2-1b", "BF16", 2_471_628_800, [2_471_645_608]],
    ["llama-2-7b", "F16", 13_476_835_328 - 4096, [9_976_570_304, 3_500_294_472]], // without rotary frequencies
    ["mistral-7b", "BF16", 14_483_464_192, [4_943_162_336, 4_999_819_336, 4_540_516_344]],
  ])("%s is divided as the real one, to the byte", (name, dtype, total, sizes) => {
    const { config, maxShardBytes } = STAND_INS[name];
    const shards = planShards(parseLlamaConfig(config, name), dtype, maxShardBytes);
    expect(shards.map(({ bytes }) => bytes)).toEqual(sizes);
    expect(shardIndex(shards).metadata.total_size).toBe(total);
  });

  test("llama-3-8b's layers 20 and 31 stand in two files each", () => {
    const { config, maxShardBytes } = STAND_INS["llama-3-8b"];
    const { weight_map } = shardIndex(planShards(parseLlamaConfig(config, "config.json"), "BF16", maxShardBytes));
    const place = (name: string) => Number(weight_map[name]?.slice(6, 11));
    expect(place("model.layers.8.mlp.down_proj.weight")).toBe(1);
    expect(place("model.layers.9.input_layernorm.weight")).toBe(2);
    expect(place("model.layers.20.mlp.gate_proj.weight")).toBe(2);
    expect(place("model.layers.20.mlp.up_proj.weight")).toBe(3);
    expect(place("model.layers.31.mlp.up_proj.weight")).toBe(3);
    expect(place("model.layers.31.mlp.down_proj.weight")).toBe(4);
    expect(place("lm_head.weight")).toBe(4);
  });
});

describe.each(Object.keys(STAND_INS) as StandInName[])("a stand-in for %s", (name) => {
  test("loads, and runs a text", async () => {
    const folder = join(await temporaryFolder(), "stand-in");
    const { sha256, files, bytes, written } = await writeStandIn(small(name), { folder });
    expect(files.length).toBeGreaterThan(1);
    expect(written).toBe(bytes);
    await expectTidy(async () => {
      const model = await loadModel(folder);
      expect(model.sha256).toBe(sha256);
      expect(model.config).toEqual(parseLlamaConfig(small(name).config, "config.json"));
      const ids = model.tokenizer.encode("What is it?");
      const logits = await wholeLogits(model, [ids]);
      expect(logits.shape).toEqual([12, 320]); // BOS and one token per byte
      expect((await logits.data()).every(Number.isFinite)).toBe(true);
      logits.dispose();
      model.dispose();
    });
  });

  test("has a tokenizer with a token for every row, that any text survives", async () => {
    const folder = join(await temporaryFolder(), "stand-in");
    await writeStandIn(small(name), { folder });
    const { tokenizer, dispose } = await loadModel(folder);
    dispose();
    expect(tokenizer.vocabSize).toBe(320);
    expect([tokenizer.bosId, tokenizer.eosIds]).toEqual([301, [302]]);
    const alphabet = Array.from({ length: 256 }, (_, code) => String.fromCharCode(code)).join("");
    for (const text of ["Größe  9\n\t!", "日本語 🙂", "Y5a0", "it's   2024", alphabet]) {
      const ids = tokenizer.encode(text, { addBos: false });
      expect(ids).toHaveLength(Buffer.byteLength(text));
      expect(tokenizer.decode(ids)).toBe(text);
    }
    expect(tokenizer.encode("")).toEqual([301]);
    expect(tokenizer.decode([310])).toBe("Y5a0"); // no text becomes it, but the model may write it
  });
});

test("the bytes stand where the real vocabularies have them", async () => {
  for (const [name, id] of [
    ["llama-3-8b", 32],
    ["llama-2-7b", 35],
  ] as const) {
    const folder = join(await temporaryFolder(), "stand-in");
    await writeStandIn(small(name), { folder });
    const { tokenizer, dispose } = await loadModel(folder);
    dispose();
    expect(tokenizer.encode("A", { addBos: false })).toEqual([id]); // "!" is the first byte that is counted
  }
});

describe("the values", () => {
  const shape = [1001, 1001];
  const draw = (dtype: StoredDtype, seed: number) => {
    const bytes = Buffer.concat([...tensorBytes(shape, normalTable(0.02, dtype), createRng(seed))]);
    const bits = new Uint16Array(Uint8Array.from(bytes).buffer);
    const values = new Float32Array(bits.length);
    (dtype === "BF16" ? widenBf16 : widenF16)(bits, values);
    return values;
  };
  /** Share of the values below a multiple of the deviation, against the normal distribution's. */
  const normal = { [-2]: 0.0228, [-1]: 0.1587, [-0.1]: 0.4602, 0: 0.5, 0.5: 0.6915, 1: 0.8413, 3: 0.99865 };

  test.each<StoredDtype>(["BF16", "F16"])("%s: normal, with the deviation asked for", (dtype) => {
    const values = draw(dtype, 0);
    expect(values).toHaveLength(1001 * 1001);
    for (const [multiple, share] of Object.entries(normal)) {
      const below = values.filter((value) => value < Number(multiple) * 0.02).length / values.length;
      expect(Math.abs(below - share), `below ${multiple}`).toBeLessThan(0.003);
    }
    const squares = values.reduce((sum, value) => sum + value * value, 0) / values.length;
    expect(Math.sqrt(squares) / 0.02).toBeCloseTo(1, 2);
  });

  test("neighbours have nothing to do with each other", () => {
    const values = draw("BF16", 1);
    const products = values.subarray(1).reduce((sum, value, i) => sum + value * (values[i] as number), 0);
    expect(Math.abs(products / values.length / 0.02 ** 2)).toBeLessThan(0.005);
  });

  test("each tensor has its own, whatever the number of layers; norms are 1", async () => {
    const [folder, shorter] = [await temporaryFolder(), await temporaryFolder()];
    const model = small("llama-3-8b");
    await writeStandIn(model, { folder });
    await writeStandIn({ ...model, config: { ...model.config, num_hidden_layers: 2 } }, { folder: shorter });
    const [all, two] = [await openCheckpoint(folder), await openCheckpoint(shorter)];
    for (const key of ["q", "down", "inputNorm"] as const) {
      expect(await two.read(layerTensorNames(1)[key])).toEqual(await all.read(layerTensorNames(1)[key]));
    }
    expect(await two.read("lm_head.weight")).toEqual(await all.read("lm_head.weight"));
    const first = layerTensorNames(0);
    expect(await all.read(first.q)).not.toEqual(await all.read(first.o));
    for (const name of [first.inputNorm, first.postNorm, FINAL_NORM]) {
      expect(new Set(await all.read(name))).toEqual(new Set([1]));
    }
    await all.close();
    await two.close();
  });
});

describe("writing", () => {
  test("twice gives the same bytes; another seed other ones", async () => {
    const folders = [await temporaryFolder(), await temporaryFolder(), await temporaryFolder()] as const;
    const [first, second, third] = await Promise.all(
      folders.map((folder, i) => writeStandIn(small("llama-3-8b"), { folder, seed: i === 2 ? 8 : 7 })),
    );
    expect(await hashesOf(folders[1])).toEqual(await hashesOf(folders[0]));
    expect(second?.sha256).toBe(first?.sha256);
    expect(third?.sha256).not.toBe(first?.sha256);
    // As on every other machine.
    expect((await hashesOf(folders[0]))["model-00002-of-00004.safetensors"]).toBe(
      "63273e83ae3412377d930ada5045aceed01c4bd8a0bc200fde9c28bbf3d41406",
    );
  });

  test("again writes only what is missing or has changed, and says how far it is", async () => {
    const folder = await temporaryFolder();
    const { files, bytes } = await writeStandIn(small("llama-3-8b"), { folder });
    const before = await hashesOf(folder);
    const paths = files.map((file) => join(folder, file));
    const [first, second, third] = paths as [string, string, string];
    const size = (await Promise.all([first, second, third].map((path) => stat(path)))).reduce(
      (sum, s) => sum + s.size,
      0,
    );
    expect((await writeStandIn(small("llama-3-8b"), { folder })).written).toBe(0);

    await rm(first);
    await truncate(second, 1000);
    const flipped = await readFile(third);
    flipped[5000] = (flipped[5000] as number) ^ 1;
    await writeFile(third, flipped);
    await writeFile(`${first}.12345.part`, "half"); // of a process that was killed
    const progress: StandInProgress[] = [];
    const { written } = await writeStandIn(small("llama-3-8b"), { folder, onProgress: (now) => progress.push(now) });
    expect(written).toBe(size);
    expect(new Set(progress.map(({ file }) => file))).toEqual(new Set(files.slice(0, 3)));
    expect(progress.at(-1)).toMatchObject({ done: bytes, total: bytes });
    expect(await hashesOf(folder)).toEqual(before);
  });

  test("that is stopped keeps the finished files, and goes on to the same bytes", async () => {
    const [folder, other] = [await temporaryFolder(), await temporaryFolder()];
    const stop = new AbortController();
    const work = writeStandIn(small("llama-3-8b"), {
      folder,
      signal: stop.signal,
      onProgress: ({ file }) => {
        if (file.startsWith("model-00002")) stop.abort();
      },
    });
    await expect(work).rejects.toThrow(Interrupted);
    expect((await readdir(folder)).sort()).toEqual([expect.stringMatching(/^model-00001-of/), "stand-in.json"]);
    const { written, bytes } = await writeStandIn(small("llama-3-8b"), { folder });
    expect(written).toBeLessThan(bytes);
    await writeStandIn(small("llama-3-8b"), { folder: other });
    expect(await hashesOf(folder)).toEqual(await hashesOf(other));
  });

  test("never touches a folder that holds anything else", async () => {
    const folder = await temporaryFolder();
    await writeFile(join(folder, "notes.txt"), "mine");
    const foreign = await refusal(() => writeStandIn(small("llama-3-8b"), { folder }));
    expect(foreign).toMatchObject({ where: folder, found: "notes.txt" });
    expect(await readdir(folder)).toEqual(["notes.txt"]);
    const file = await refusal(() => writeStandIn(small("llama-3-8b"), { folder: join(folder, "notes.txt") }));
    expect(file.message).toMatch(/the folder cannot be used/);

    const mine = join(folder, "stand-in");
    await writeStandIn(small("llama-3-8b"), { folder: mine });
    const before = await hashesOf(mine);
    const another = await refusal(() => writeStandIn(small("llama-3-8b"), { folder: mine, seed: 1 }));
    expect(another).toMatchObject({ found: "meta-llama/Meta-Llama-3-8B, layers: 3, seed: 0" });
    await changeJson(join(mine, "stand-in.json"), () => ({ files: 3 }));
    expect((await refusal(() => writeStandIn(small("llama-3-8b"), { folder: mine }))).where).toMatch(/stand-in\.json/);
    expect(Object.keys(await hashesOf(mine))).toEqual(Object.keys(before));
  });

  test("refuses more layers than the model has, and a seed that is none", async () => {
    expect(standInFor("llama-3.2-1b", { layers: 2 }).config.num_hidden_layers).toBe(2);
    const layers = await refusal(() => standInFor("llama-3.2-1b", { layers: 17 }));
    expect(layers).toMatchObject({ found: 17, expected: "1 to 16, the layers of llama-3.2-1b" });
    const folder = join(await temporaryFolder(), "stand-in");
    expect((await refusal(() => writeStandIn(small("llama-3-8b"), { folder, seed: -1 }))).where).toBe("seed");
    expect(existsSync(folder)).toBe(false);
  });
});

describe.runIf(requires("small-disk"))("on a small disk", () => {
  test("the full model is refused before anything is written, with the bytes needed and free", async () => {
    const disk = mountSmallDisk();
    try {
      const work = () => writeStandIn(STAND_INS["llama-3-8b"], { folder: disk.path });
      const { found, expected } = await refusal(work);
      expect(found).toBe("0.000 GB free");
      expect(expected).toMatch(/^16\.06\d GB for/);
      expect(await readdir(disk.path)).toEqual([]);
    } finally {
      disk.release();
    }
  });
});
