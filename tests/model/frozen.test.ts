import { truncateSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Interrupted } from "../../src/core/errors.js";
import { sha256Bytes } from "../../src/core/hash.js";
import type { Cut, Sequences } from "../../src/model/cut.js";
import { type CutCache, openCutCache } from "../../src/model/cut-cache.js";
import { createCutStore } from "../../src/model/cut-store.js";
import { loadModel } from "../../src/model/folder.js";
import { type FrozenProgress, frozenPass, runFrozen } from "../../src/model/frozen.js";
import type { LlamaModel, LoadOptions } from "../../src/model/model.js";
import type { CutPoint } from "../../src/model/patch.js";
import { selectBackend } from "../../src/tensor/backend.js";
import { tf } from "../../src/tensor/tf.js";
import { goldenRecords } from "../edit/support.js";
import { layersRead } from "../support/layers-read.js";
import { atInput, atValue } from "../support/points.js";
import { golden } from "../support/shared.js";
import { expectTidy } from "../support/tensor-matcher.js";
import { copyOfGolden, refusal, temporaryFolder } from "./support.js";

const CHECKPOINTS = ["tiny-llama3", "tiny-llama3-tied"] as const;
const texts = Object.values(goldenRecords.tokens).filter((ids) => ids.length > 1);

const BATCHES: Sequences[] = [0, 1, 2].map((third) => texts.filter((_, i) => i % 3 === third));

/** Runs work on a golden checkpoint in the backend of this machine, and frees it. */
async function withModel<T>(folder: string, options: LoadOptions, work: (model: LlamaModel) => Promise<T>): Promise<T> {
  await selectBackend();
  const model = await loadModel(folder, options);
  try {
    return await work(model);
  } finally {
    model.dispose();
  }
}

const streamed = (layer: number): LoadOptions => ({ residence: "streamed", cut: atValue(layer) });

function cacheAt(folder: string, { config, sha256 }: LlamaModel, layer: number): Promise<CutCache> {
  const { hiddenSize, intermediateSize } = config;
  const key = { modelSha256: sha256, point: atValue(layer), computedWith: "this test" };
  return openCutCache(folder, { key, limitBytes: 1e9, hiddenSize, intermediateSize });
}

/** Sizes and hashes that tell cuts apart to the last bit; comparing the numbers one by one takes seconds. */
const bitsOf = (cuts: readonly Cut[]) =>
  cuts.map(({ point, tokens, stream, mlpIn }) => ({
    ...{ point, tokens, sizes: [stream.length, mlpIn?.length] },
    hashes: [stream, mlpIn ?? new Float32Array()].map(({ buffer, byteOffset, byteLength }) =>
      sha256Bytes(new Uint8Array(buffer, byteOffset, byteLength)),
    ),
  }));

/** The cuts of `BATCHES` by one pass, without those that the cache has, as a store does it. */
async function passOf(
  model: LlamaModel,
  options: { point: CutPoint; keeper?: CutCache; signal?: AbortSignal; onProgress?: (at: FrozenProgress) => void },
): Promise<Cut[]> {
  const made = new Map<Sequences, Cut[]>();
  for (const batch of BATCHES) {
    const kept = await options.keeper?.read(batch);
    if (kept) made.set(batch, kept);
  }
  await frozenPass(
    model,
    BATCHES.filter((batch) => !made.has(batch)),
    {
      ...options,
      take: async (batch, cuts) => {
        await options.keeper?.write(batch, cuts);
        made.set(batch, cuts);
      },
    },
  );
  return BATCHES.flatMap((batch) => made.get(batch) as Cut[]);
}

describe.each(CHECKPOINTS)("%s, streamed", (name) => {
  test.each([0, 2, 3].flatMap((layer) => [atInput(layer), atValue(layer)]))(
    "cut at $layer, $at, gives the bits of the whole model",
    async (point) => {
      const whole = await withModel(join(golden, name), {}, (model) => runFrozen(model, texts, { point }));
      await withModel(join(golden, name), { residence: "streamed", cut: point }, async (model) => {
        expect(bitsOf(await expectTidy(() => runFrozen(model, texts, { point })))).toEqual(bitsOf(whole));
      });
    },
  );

  test("holds the value matrix, what comes after it, and one passing layer", async () => {
    const backend = await selectBackend();
    const before = tf.memory().numBytes;
    await withModel(join(golden, name), streamed(2), async (model) => {
      const { hiddenSize: D, intermediateSize: M, vocabSize: V, heads, kvHeads, headDim } = model.config;
      const matrices = 2 * D * (heads + kvHeads) * headDim + 3 * D * M;
      const kept = D * M + matrices + V * D;
      const copies = backend.name === "tensorflow" ? 2 : 1; // of each matrix, the transposed one among them
      const held = copies * kept + 3 * D; // norms
      expect(tf.memory().numBytes - before).toBe(4 * held);
      const passing = async (index: number) =>
        model.withLayer(index, async () => (tf.memory().numBytes - before) / 4 - held);
      expect(await passing(0)).toBe(copies * matrices + 2 * D);
      expect(await passing(1)).toBe(copies * matrices + 2 * D);
      expect(await passing(2)).toBe(copies * (matrices - D * M) + 2 * D); // its value matrix is there already
      expect(await passing(3)).toBe(0);
    });
    expect(tf.memory().numBytes).toBe(before);
  });

  test("lends a layer that the whole model has, and takes it back from work that fails", async () => {
    const bits = (model: LlamaModel) =>
      model.withLayer(1, async (layer) => {
        const parts = Object.entries(layer).map(async ([key, part]: [string, tf.Tensor]) => [key, await part.data()]);
        return Object.fromEntries(await Promise.all(parts)) as Record<string, Float32Array>;
      });
    const whole = await withModel(join(golden, name), {}, bits);
    await withModel(join(golden, name), streamed(2), async (model) => {
      expect(await bits(model)).toEqual(whole);
      await expectTidy(async () => {
        await expect(model.withLayer(1, () => Promise.reject(new Error("stop")))).rejects.toThrow("stop");
      });
    });
  });

  test("refuses layers that it does not hold, and to be cut elsewhere, before a layer is read", async () => {
    await withModel(join(golden, name), streamed(2), async (model) => {
      const read = layersRead(model);
      for (const work of [
        () => model.layer(1),
        () => model.weight({ layer: 1, matrix: "down" }),
        () => runFrozen(model, texts, { point: atValue(1) }),
      ]) {
        expect(await refusal(work)).toMatchObject({
          where: name,
          found: "layer 1",
          expected: "what the model was loaded for: streamed, float32, cut at layers.2.mlpIn",
        });
      }
      expect(await refusal(() => model.layer(4))).toMatchObject({ where: "layer", found: 4 });
      expect(read).toEqual([]);
    });
  });
});

test("a streamed model is refused without the layer that it shall be cut at", async () => {
  await expectTidy(async () => {
    const error = await refusal(() => loadModel(join(golden, "tiny-llama3"), { residence: "streamed" }));
    expect(error.expected).toBe("the point before which nothing will be edited");
  });
});

describe("one pass", () => {
  let model: LlamaModel;
  beforeAll(async () => {
    await selectBackend();
    model = await loadModel(join(golden, "tiny-llama3"), streamed(2));
  });
  afterAll(() => model.dispose());

  test("reads every layer once, whatever the number of batches, and says where it stands", async () => {
    const read = layersRead(model);
    const progress: string[] = [];
    await passOf(model, {
      point: atValue(2),
      onProgress: ({ layer, layers, batch, batches }) => progress.push(`${layer}/${layers} ${batch}/${batches}`),
    });
    expect(read).toEqual([0, 1, 2]);
    expect(progress).toEqual([0, 1, 2].flatMap((layer) => [1, 2, 3].map((batch) => `${layer}/3 ${batch}/3`)));
  });

  const places = [0, 1, 2].flatMap((layer) => [1, 2, 3].map((batch) => [layer, batch] as const)).slice(0, -1);

  test.each(places)("stopped in layer %i after batch %i goes on from there to the same bits", async (layer, batch) => {
    const keeper = await cacheAt(await temporaryFolder(), model, 2);
    const straight = await passOf(model, { point: atValue(2) });
    const stop = new AbortController();
    const onProgress = (at: FrozenProgress) => {
      if (at.layer === layer && at.batch === batch) stop.abort();
    };
    const stopped = expectTidy(() => passOf(model, { point: atValue(2), keeper, signal: stop.signal, onProgress }));
    await expect(stopped).rejects.toThrow(Interrupted);

    const read = layersRead(model);
    const due: number[] = [];
    const cuts = await passOf(model, {
      point: atValue(2),
      keeper,
      onProgress: (at) => at.batch === 1 && due.push(at.batches),
    });
    expect(bitsOf(cuts)).toEqual(bitsOf(straight));
    const from = batch === 3 ? layer + 1 : layer;
    expect(read).toEqual([0, 1, 2].slice(from));
    expect(due).toEqual([batch === 3 ? 3 : 3 - batch, 3, 3].slice(0, 3 - from));
    expect(await Promise.all(BATCHES.map((one) => keeper.readStream(one)))).toEqual([null, null, null]);
  });

  test("over a file that becomes shorter names file and tensor; with the whole file it goes on from there", async () => {
    const folder = await copyOfGolden("tiny-llama3");
    const caches = await temporaryFolder();
    const shard = join(folder, "model-00002-of-00004.safetensors");
    const straight = await withModel(folder, streamed(3), async (model) => {
      const keeper = await cacheAt(caches, model, 3);
      const cuts = await passOf(model, { point: atValue(3) });
      const onProgress = (at: FrozenProgress) => {
        if (at.layer === 0 && at.batch === 3) truncateSync(shard, 60_000); // within layer 1
      };
      const error = await expectTidy(() => refusal(() => passOf(model, { point: atValue(3), keeper, onProgress })));
      expect(error.message).toContain("a file became shorter while it was read");
      expect(error.where).toMatch(/model-00002-of-00004\.safetensors: model\.layers\.1\.[a-z_.]+\.weight$/);
      return cuts;
    });
    await expectTidy(() => refusal(() => loadModel(folder)));
    await withModel(join(golden, "tiny-llama3"), streamed(3), async (model) => {
      const read = layersRead(model);
      const cuts = await passOf(model, { point: atValue(3), keeper: await cacheAt(caches, model, 3) });
      expect(bitsOf(cuts)).toEqual(bitsOf(straight));
      expect(read).toEqual([1, 2, 3]);
    });
  });

  // Nine groups of four tokens.
  const groups: Sequences[] = Array.from({ length: 9 }, (_, i) => [
    [1, i],
    [2, i],
  ]);

  test.each([
    [0, 9],
    [8, 3],
    [1000, 1],
  ])("takes %i tokens of later groups along: %i passes for nine groups, none from a cache", async (ahead, passes) => {
    const cache = await cacheAt(await temporaryFolder(), model, 2);
    const store = () => createCutStore(model, atValue(2), { together: groups, cache, ahead });
    const read = layersRead(model);
    const first = store();
    for (const group of groups) await first.get(group);
    expect(read).toEqual(Array.from({ length: passes }, () => [0, 1, 2]).flat());
    const again = store();
    for (const group of groups.toReversed())
      expect(bitsOf(await again.get(group))).toEqual(bitsOf(await first.get(group)));
    expect(read).toHaveLength(3 * passes);
  });
});
