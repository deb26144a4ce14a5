import { readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Interrupted } from "../../src/core/errors.js";
import { type Covariance, openCovariance } from "../../src/stats/covariance.js";
import { nullSpaceOf } from "../../src/stats/null-space.js";
import { defaultStatsFolder } from "../../src/stats/places.js";
import { spectrumOf } from "../../src/stats/spectrum.js";
import { refusal, temporaryFolder } from "../model/support.js";
import { goldenFile, goldenStats, GOLDEN_SIZE as m } from "./support.js";

const cache = process.env.WISE_LAB_CACHE;
beforeEach(async () => {
  process.env.WISE_LAB_CACHE = join(await temporaryFolder(), "cuts");
});
afterEach(() => {
  if (cache === undefined) delete process.env.WISE_LAB_CACHE;
  else process.env.WISE_LAB_CACHE = cache;
});

const golden = (layer: number) => openCovariance(goldenFile(layer), { size: m });
const spectra = () => join(defaultStatsFolder(), "spectra");

const unit = (i: number) => Float64Array.from({ length: m }, (_, j) => (i === j ? 1 : 0));
const dot = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  Array.from(a).reduce((sum, x, i) => sum + x * (b[i] as number), 0);

/** C x */
function times(c: Float64Array, x: ArrayLike<number>): Float64Array {
  return Float64Array.from({ length: m }, (_, i) => dot(c.subarray(i * m, (i + 1) * m), x));
}

describe("eigenvectors", () => {
  test.each([0, 1, 2])("of layer %i: C v = value v, orthonormal and rising", async (layer) => {
    const covariance = await golden(layer);
    const { values, vectors } = await spectrumOf(covariance);
    const [least, median, largest] = goldenStats.eigenvalues[layer] as [number, number, number];
    expect(values[0]).toBeCloseTo(least, 5);
    expect(values[m >> 1]).toBeCloseTo(median, 1);
    expect((values[m - 1] as number) / largest).toBeCloseTo(1, 6);
    expect([...values]).toEqual([...values].sort((a, b) => a - b));
    const rows = await vectors([0, m]);
    const c = covariance.mean();
    for (const i of [0, 1, 50, m - 1]) {
      const v = rows.subarray(i * m, (i + 1) * m);
      expect(dot(v, v)).toBeCloseTo(1, 5);
      if (i > 0) expect(dot(v, rows.subarray(0, m))).toBeCloseTo(0, 5);
      for (const [p, x] of times(c, v).entries())
        expect(Math.abs(x - (values[i] as number) * (v[p] as number))).toBeLessThan(1e-4);
    }
  });

  test("are computed once: by the sha256 of the covariance, and with a word where it takes long", async () => {
    const notices: string[] = [];
    await spectrumOf(await golden(0), { onNotice: (line) => notices.push(line) });
    const [file] = await readdir(spectra());
    expect(file).toBe(`${(await golden(0)).sha256}.safetensors`);
    expect(notices).toEqual([]); // a matrix this small takes no time
    const unasked = { ...(await golden(0)), mean: () => expect.unreachable() } as Covariance;
    expect((await spectrumOf(unasked)).values).toHaveLength(m);
    await spectrumOf(await golden(1));
    expect(await readdir(spectra())).toHaveLength(2);
  });

  test("stopped, they leave no file", async () => {
    const signal = AbortSignal.abort();
    await expect(spectrumOf(await golden(0), { signal })).rejects.toBeInstanceOf(Interrupted);
    expect(await readdir(spectra())).toEqual([]);
  });

  test("a damaged file is refused with the way out", async () => {
    const { path } = await spectrumOf(await golden(0));
    await writeFile(path, "not these");
    expect(await refusal(async () => spectrumOf(await golden(0)))).toMatchObject({ where: path });
  });
});

describe("the null space", () => {
  test.each([
    ["a few directions", 0.3],
    ["more than half", 1.252],
    ["all", 1e6],
  ])("of %s is a projection that C hardly sees", async (_, threshold) => {
    const covariance = await golden(0);
    const { values } = await spectrumOf(covariance);
    const { project } = await nullSpaceOf(covariance, threshold);
    const dimensions = values.filter((value) => value < threshold).length;
    let trace = 0;
    for (let i = 0; i < m; i++) trace += project(unit(i))[i] as number;
    expect(trace).toBeCloseTo(dimensions, 3);
    const c = covariance.mean();
    for (const i of [0, 7, 100]) {
      const p = project(unit(i));
      const again = project(p);
      for (const [at, x] of p.entries()) expect(Math.abs(x - (again[at] as number))).toBeLessThan(1e-6);
      expect(dot(p, times(c, p))).toBeLessThan(threshold * dot(p, p));
    }
  });

  test("of no dimensions is refused, with the eigenvalues that there are", async () => {
    const covariance = await golden(0);
    const refused = await refusal(() => nullSpaceOf(covariance, 1e-3));
    expect(refused).toMatchObject({ where: covariance.path, found: "no eigenvalue below 0.001" });
    expect(refused.expected).toContain("0.114");
  });
});
