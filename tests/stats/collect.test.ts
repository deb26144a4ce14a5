import { readdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Interrupted } from "../../src/core/errors.js";
import { sha256File } from "../../src/core/files.js";
import { loadModel } from "../../src/model/folder.js";
import type { LlamaModel } from "../../src/model/model.js";
import { type CollectOptions, collectCovariances } from "../../src/stats/collect.js";
import { type Covariance, openCovariance } from "../../src/stats/covariance.js";
import { meanSquaredNorm, openForKeys, traceMismatch } from "../../src/stats/norms.js";
import { selectBackend } from "../../src/tensor/backend.js";
import { refusal, temporaryFolder } from "../model/support.js";
import { layersRead } from "../support/layers-read.js";
import { golden } from "../support/shared.js";
import { expectTidy } from "../support/tensor-matcher.js";
import { GOLDEN_SIZE, goldenFile, goldenStats } from "./support.js";

const TEXTS = { name: "lab", sha256: "a".repeat(64), texts: goldenStats.texts };
/** So long and so many that they go through the model in several batches. */
const LONG = { ...TEXTS, name: "long", texts: Array.from({ length: 3 }, () => goldenStats.texts).flat() };

let model: LlamaModel;
beforeAll(async () => {
  await selectBackend();
  model = await loadModel(join(golden, "tiny-llama3"));
});
afterAll(() => model.dispose());

/** The bytes of every file of a folder of statistics. */
async function bytesOf(folder: string): Promise<Record<string, string>> {
  const files = (await readdir(folder, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile());
  const bytes = files.map(async ({ name, parentPath }) => [name, await sha256File(join(parentPath, name))]);
  return Object.fromEntries(await Promise.all(bytes)) as Record<string, string>;
}

describe("the golden texts", () => {
  test("give the golden covariances, in EasyEdit's place, layout and float32 sums", async () => {
    const folder = await temporaryFolder();
    const collected = await expectTidy(() => collectCovariances(model, { texts: TEXTS, layers: [2, 0, 1], folder }));
    expect(collected.map(({ layer, made }) => [layer, made])).toEqual([0, 1, 2].map((layer) => [layer, true]));
    for (const { layer, path } of collected) {
      expect(path).toBe(join(folder, goldenFile(layer).split("locate-stats/")[1] as string));
      const open = (file: string) => openCovariance(file, { size: GOLDEN_SIZE });
      expectSame(await open(path), await open(goldenFile(layer)));
    }
  });

  function expectSame(found: Covariance, wanted: Covariance): void {
    expect([found.count, found.sampleSize]).toEqual([wanted.count, wanted.sampleSize]);
    const [a, b] = [found.mean(), wanted.mean()];
    const difference = Math.hypot(...Array.from(a, (value, i) => value - (b[i] as number)));
    expect(difference / Math.hypot(...b)).toBeLessThan(1e-5);
  }

  test("are cut after so many tokens", async () => {
    const folder = await temporaryFolder();
    const options = { texts: TEXTS, layers: [0], folder, cutAfter: 5 };
    const [made] = await collectCovariances(model, options);
    expect((await openCovariance((made as { path: string }).path, { size: GOLDEN_SIZE })).count).toBe(5 * 64);
  });
});

test("a streamed model gives the bits of the whole one, though nothing behind the keys is in memory", async () => {
  const [whole, streamed] = [await temporaryFolder(), await temporaryFolder()];
  await collectCovariances(model, { texts: TEXTS, layers: [1], folder: whole });
  const own = await openForKeys(model);
  try {
    const read = layersRead(own);
    await collectCovariances(own, { texts: TEXTS, layers: [1], folder: streamed });
    expect(read).toEqual([0, 1]);
  } finally {
    own.dispose();
  }
  expect(await bytesOf(streamed)).toEqual(await bytesOf(whole));
});

describe("a collection that was stopped", () => {
  const request = (folder: string): CollectOptions => ({ texts: LONG, layers: [0, 2], folder });

  // Two batches for each layer: stopped in the first of layer 0, in the pass to layer 2, and in its first keys.
  test.each([
    [0.1, 0.1],
    [0.5, 0.25],
    [0.8, 0.6],
  ])("at %f of its work goes on, with %f done, to the same bytes", async (share, kept) => {
    const [straight, folder] = [await temporaryFolder(), await temporaryFolder()];
    await collectCovariances(model, request(straight));
    const stop = new AbortController();
    const onProgress = (progress: { share: number }) => progress.share >= share && stop.abort();
    const stopped = collectCovariances(model, { ...request(folder), signal: stop.signal, onProgress });
    await expect(stopped).rejects.toThrow(Interrupted);
    const shares: number[] = [];
    const collected = await collectCovariances(model, {
      ...request(folder),
      onProgress: (progress) => shares.push(progress.share),
    });
    expect(shares[0]).toBeGreaterThan(kept);
    expect(shares.at(-1)).toBe(1);
    expect(collected.every(({ made }) => made)).toBe(true);
    expect(await bytesOf(folder)).toEqual(await bytesOf(straight));
  });

  test("begins anew, and says so, with other texts or a damaged partial sum", async () => {
    const folder = await temporaryFolder();
    const stopAt = async (texts: CollectOptions["texts"]) => {
      const stop = new AbortController();
      const onProgress = () => stop.abort();
      const notices: string[] = [];
      const options = { ...request(folder), texts, signal: stop.signal, onProgress };
      await collectCovariances(model, { ...options, onNotice: (line) => notices.push(line) }).catch(() => undefined);
      return notices;
    };
    expect(await stopAt(LONG)).toEqual([]);
    expect(await stopAt({ ...LONG, sha256: "b".repeat(64) })).toEqual([
      expect.stringMatching(/partial\.npz is of .*other texts/),
    ]);
    const [partial] = (await readdir(folder, { recursive: true })).filter((name) => name.endsWith(".partial.npz"));
    await writeFile(join(folder, partial as string), "torn");
    expect(await stopAt(LONG)).toEqual([expect.stringMatching(/partial\.npz is damaged \(4 bytes/)]);
  });
});

describe("a covariance that is there", () => {
  test("is not made again, but another one in its place is refused", async () => {
    const folder = await temporaryFolder();
    const request = { texts: TEXTS, layers: [0], folder };
    const [first] = await collectCovariances(model, request);
    const before = await bytesOf(folder);
    expect(await collectCovariances(model, request)).toEqual([{ ...first, made: false }]);
    expect(await bytesOf(folder)).toEqual(before);
    for (const other of [{ texts: { ...TEXTS, sha256: "b".repeat(64) } }, { cutAfter: 7 }]) {
      const error = await refusal(() => collectCovariances(model, { ...request, ...other }));
      expect(error).toMatchObject({ where: first?.path, found: "one of tiny-llama3 and 64 texts of lab" });
    }
    const beside = (first as { path: string }).path.replace(/npz$/, "json");
    expect(JSON.parse(await readFile(beside, "utf8"))).toMatchObject({
      model: { name: "tiny-llama3", sha256: model.sha256 },
      texts: { name: "lab", sha256: TEXTS.sha256, samples: 64 },
      tokens: goldenStats.count,
      layer: 0,
    });
    await writeFile(beside, "{}");
    expect((await refusal(() => collectCovariances(model, request))).where).toContain(beside);
  });

  test("names a layer, a place and texts that can be used", async () => {
    const folder = await temporaryFolder();
    const request = { texts: TEXTS, layers: [0], folder };
    expect(await refusal(() => collectCovariances(model, { ...request, layers: [1, 4] }))).toMatchObject({
      where: "layers",
      found: 4,
      expected: "whole numbers from 0 to 3",
    });
    expect((await refusal(() => collectCovariances(model, { ...request, layers: [] }))).found).toBe("none");
    const bad = { ...TEXTS, name: "../lab" };
    expect((await refusal(() => collectCovariances(model, { ...request, texts: bad }))).found).toBe("../lab");
    expect(await readdir(dirname(folder)).then((names) => names.includes("lab_stats"))).toBe(false);
  });
});

test("the norms of keys in other texts are about the trace of C", async () => {
  for (const layer of [0, 1, 2]) {
    const covariance = await openCovariance(goldenFile(layer), { size: GOLDEN_SIZE });
    const tokensPerText = covariance.count / covariance.sampleSize;
    const norm = (texts: readonly string[]) => meanSquaredNorm(model, texts, { layer, tokensPerText });
    expect(traceMismatch(covariance, await norm(TEXTS.texts))).toBeCloseTo(1, 4);
    expect(traceMismatch(covariance, await norm(["Who wrote it?", "A text of a few words."]))).toBeLessThan(1.2);
  }
});
