import { describe, expect, test } from "vitest";
import { LabFailure } from "../../../src/core/errors.js";
import type { Covariance } from "../../../src/edit/covariance.js";
import { memitSolver } from "../../../src/edit/memit/memit.js";
import type { MemitOptions } from "../../../src/edit/memit/options.js";
import { ridgeRows } from "../../../src/edit/memit/systems.js";
import { solvePositive } from "../../../src/stats/cholesky.js";
import { largestDifference } from "../support.js";
import { dot, sample } from "./support.js";

describe("the small system", () => {
  test.each([
    [1, 5, 1],
    [4, 9, 0.1],
    [7, 3, 2], // more vectors than numbers in each: A^T B alone has no inverse
  ])("of %i vectors of %i, weight %f, is solved", (n, m, weight) => {
    const b = sample(n, m, 1);
    const solved = ridgeRows(b, b, weight);
    const back = b.map((one, i) =>
      Float64Array.from({ length: m }, (_, p) =>
        solved.reduce(
          (sum, row, j) => sum + (row[p] as number) * (dot(one, b[j] as Float64Array) + (i === j ? weight : 0)),
          0,
        ),
      ),
    );
    for (const [i, row] of back.entries()) expect(largestDifference(row, b[i] as Float64Array)).toBeLessThan(1e-10);
  });

  test("vectors that repeat share their answer, and such as are no numbers fail", () => {
    const [one] = sample(1, 6, 2) as [Float64Array];
    const [first, second] = ridgeRows([one, one], [one, one], 1);
    expect(largestDifference(first as Float64Array, second as Float64Array)).toBeLessThan(1e-12);
    const bad = one.map((x, i) => (i === 3 ? Number.NaN : x));
    expect(() => ridgeRows([bad], [bad], 1)).toThrow(LabFailure);
  });
});

test.each([
  [1, 6, 1],
  [3, 8, 15_000],
  [12, 8, 0.5],
])(
  "%i keys of %i: the update is R K^T (lambda C + K K^T)^-1, solved there as a system of its whole size",
  (n, m, lambda) => {
    const texts = sample(3 * m, m, 3);
    const mean = new Float64Array(m * m);
    for (const k of texts) {
      for (const at of mean.keys()) {
        mean[at] = (mean[at] as number) + ((k[Math.floor(at / m)] as number) * (k[at % m] as number)) / texts.length;
      }
    }
    const keys = sample(n, m, 4);
    const covariance = { solve: (b: Float64Array) => solvePositive(mean.slice(), m, b) } as Covariance;
    const assets = new Map([["covariance layers.2.down", { sha256: "", value: covariance }]]);
    const options = { layers: [2], mom2_update_weight: lambda, stats_dir: "", mom2_dataset: "", mom2_n_samples: 1 };
    const solved = memitSolver(options as unknown as MemitOptions, { assets })(2, keys);

    const whole = mean.map((c, at) =>
      keys.reduce((sum, k) => sum + (k[Math.floor(at / m)] as number) * (k[at % m] as number), lambda * c),
    );
    const columns = Float64Array.from({ length: m * n }, (_, at) => keys[at % n]?.[Math.floor(at / n)] as number);
    const expected = solvePositive(whole, m, columns);
    for (const [j, row] of solved.entries()) {
      const wanted = Float64Array.from({ length: m }, (_, p) => expected[p * n + j] as number);
      expect(largestDifference(row, wanted)).toBeLessThan(1e-10);
    }
  },
);
