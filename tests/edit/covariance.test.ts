import { cp, mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { beforeAll, describe, expect, test, vi } from "vitest";
import { RefusedInput } from "../../src/core/errors.js";
import { sha256File } from "../../src/core/files.js";
import type { Asset } from "../../src/edit/contract.js";
import { type Covariance, covarianceNeed } from "../../src/edit/covariance.js";
import { collectCovariances } from "../../src/stats/collect.js";
import { covarianceArrays, openCovariance } from "../../src/stats/covariance.js";
import { openForKeys } from "../../src/stats/norms.js";
import { writeNpz } from "../../src/stats/npz.js";
import { selectBackend } from "../../src/tensor/backend.js";
import { changeJson, copyOfGolden, refusal, temporaryFolder } from "../model/support.js";
import { GOLDEN_SIZE, GOLDEN_STATS, goldenFile, goldenStats } from "../stats/support.js";
import { golden, repository } from "../support/shared.js";
import { expectTidy } from "../support/tensor-matcher.js";
import { ownerOf } from "./support.js";

const SITE = { layer: 1, matrix: "down" } as const;
const GOLDEN = { statsDir: GOLDEN_STATS, dataset: "lab", samples: 64 };

beforeAll(async () => {
  await selectBackend();
});

const tiny = () => ownerOf(join(golden, "tiny-llama3"));
const covarianceOf = ({ value }: Asset) => value as Covariance;

describe("the covariance of a value matrix", () => {
  test("is found where EasyEdit keeps it, and opened as it is", async () => {
    const need = covarianceNeed(SITE, GOLDEN);
    expect(need.name).toBe("covariance layers.1.down");
    const asset = await expectTidy(async () => need.open(await tiny()));
    expect(asset.sha256).toBe(await sha256File(goldenFile(1)));
    expect(covarianceOf(asset)).toMatchObject({ count: goldenStats.count, sampleSize: 64, size: GOLDEN_SIZE });
    const named = await covarianceNeed(SITE, { file: goldenFile(1) }).open(await tiny());
    expect(named.sha256).toBe(asset.sha256);
  });

  test("is found in the user's folder of statistics", async () => {
    const cache = await temporaryFolder();
    vi.stubEnv("WISE_LAB_CACHE", join(cache, "cuts"));
    try {
      const place = join(cache, "stats", goldenFile(1).slice(GOLDEN_STATS.length));
      await mkdir(dirname(place), { recursive: true });
      await cp(goldenFile(1), place);
      const asset = await covarianceNeed(SITE, { ...GOLDEN, statsDir: "./no/such/folder" }).open(await tiny());
      expect(covarianceOf(asset).path).toBe(place);
    } finally {
      vi.unstubAllEnvs();
    }
  });

  test("that is nowhere is refused with the places and the command", async () => {
    const owner = await tiny();
    const source = { statsDir: "./data/stats", dataset: "wikipedia", samples: 100_000 };
    const error = await refusal(() => covarianceNeed(SITE, source).open(owner));
    const file = "tiny-llama3/wikipedia_stats/model.layers.1.mlp.down_proj_float32_mom2_100000.npz";
    expect(error.where.split(", ").every((place) => place.endsWith(file))).toBe(true);
    expect(error.where).toContain(join(repository, "data/stats", file));
    expect(error.hint).toBe(
      `wise-lab stats --model ${owner.folder} --texts wikipedia.jsonl --dataset wikipedia --samples 100000 --layers 1 --out ./data/stats`,
    );
  });

  test("of keys of other norms is refused by its trace, where nothing says whose it is", async () => {
    const golden = await openCovariance(goldenFile(1), { size: GOLDEN_SIZE });
    const { count, sampleSize } = golden;
    const sum = Float32Array.from(golden.mean(), (value) => 3 * count * value);
    const file = join(await temporaryFolder(), "other.npz");
    await writeNpz(file, covarianceArrays({ sum, size: GOLDEN_SIZE, count, sampleSize }));
    const error = await expectTidy(async () => {
      const owner = await tiny();
      return refusal(() => covarianceNeed(SITE, { file }).open(owner));
    });
    expect(error.message).toContain("a covariance is of another model");
    expect(error).toMatchObject({
      where: file,
      expected: expect.stringMatching(/^about \d+, as tiny-llama3 has at layer 1/),
    });
  });

  test("over another number of texts than its name says is refused", async () => {
    const statsDir = await temporaryFolder();
    const place = join(statsDir, goldenFile(1).slice(GOLDEN_STATS.length).replace("_64", "_100"));
    await mkdir(dirname(place), { recursive: true });
    await cp(goldenFile(1), place);
    const owner = await tiny();
    const error = await refusal(() => covarianceNeed(SITE, { ...GOLDEN, statsDir, samples: 100 }).open(owner));
    expect(error).toMatchObject({ found: 64, expected: "100, as its name says" });
  });
});

describe("a covariance with its provenance", () => {
  async function collected(folder: string): Promise<string> {
    const model = await openForKeys(await tiny());
    const texts = { name: "lab", sha256: "a".repeat(64), texts: goldenStats.texts };
    const [made] = await collectCovariances(model, { texts, layers: [1], folder });
    model.dispose();
    return (made as { path: string }).path;
  }

  test("is taken for its own model, and refused for another of the same shape, layer or content", async () => {
    const file = await collected(await temporaryFolder());
    const owner = await tiny();
    expect((await covarianceNeed(SITE, { file }).open(owner)).sha256).toBe(await sha256File(file));

    const copy = await copyOfGolden("tiny-llama3");
    await changeJson(join(copy, "config.json"), () => ({ rms_norm_eps: 1e-6 }));
    const other = await ownerOf(copy);
    const error = await refusal(() => covarianceNeed(SITE, { file }).open(other));
    expect(error).toMatchObject({
      where: file.replace(/npz$/, "json"),
      found: `tiny-llama3, sha256 ${owner.sha256}`,
      expected: `tiny-llama3, sha256 ${other.sha256}`,
    });
    const elsewhere = covarianceNeed({ ...SITE, layer: 2 }, { file });
    expect(await refusal(() => elsewhere.open(owner))).toMatchObject({ found: "layer 1", expected: "layer 2" });
    await cp(goldenFile(0), file);
    expect((await refusal(() => covarianceNeed(SITE, { file }).open(owner))).message).toContain("provenance");
    await writeFile(file.replace(/npz$/, "json"), "[]");
    expect(await refusal(() => covarianceNeed(SITE, { file }).open(owner))).toBeInstanceOf(RefusedInput);
  });
});

test("the project's own model has its covariance made of its training texts, once", async () => {
  const cache = await temporaryFolder();
  vi.stubEnv("WISE_LAB_CACHE", join(cache, "cuts"));
  try {
    const owner = await ownerOf(join(repository, "data/lab-llama"));
    const need = covarianceNeed(SITE, { statsDir: "./no/such/folder", dataset: "lab", samples: 30 });
    const asset = await expectTidy(() => need.open(owner));
    const { path, size, sampleSize } = covarianceOf(asset);
    expect(path).toBe(join(cache, "stats/lab-llama/lab_stats/model.layers.1.mlp.down_proj_float32_mom2_30.npz"));
    expect({ size, sampleSize }).toEqual({ size: 2048, sampleSize: 30 });
    expect((await need.open(owner)).sha256).toBe(asset.sha256);
    const wikipedia = covarianceNeed(SITE, { statsDir: "./no/such/folder", dataset: "wikipedia", samples: 30 });
    expect((await refusal(() => wikipedia.open(owner))).hint).toMatch(/^wise-lab stats --model /);
  } finally {
    vi.unstubAllEnvs();
  }
});
