import { describe, expect, test } from "vitest";
import { LabFailure } from "../../../src/core/errors.js";
import type { Asset } from "../../../src/edit/contract.js";
import type { Covariance } from "../../../src/edit/covariance.js";
import { alphaeditSolver } from "../../../src/edit/memit/alphaedit.js";
import type { AlphaeditOptions } from "../../../src/edit/memit/alphaedit-options.js";
import { memitSolver } from "../../../src/edit/memit/memit.js";
import type { MemitOptions } from "../../../src/edit/memit/options.js";
import { innerProducts, ridgeRows } from "../../../src/edit/memit/systems.js";
import type { LlamaConfig } from "../../../src/model/config.js";
import type { LlamaModel } from "../../../src/model/model.js";
import { solvePositive } from "../../../src/stats/cholesky.js";
import type { NullSpace } from "../../../src/stats/null-space.js";
import { largestDifference } from "../support.js";
import { dot, sample } from "./support.js";

const stats = { stats_dir: "", mom2_dataset: "", mom2_n_samples: 1 };

/** Sum of k k^T over keys, on top of a matrix, row-major [m, m]. */
function withKeys(matrix: Float64Array, keys: readonly Float64Array[], m: number): Float64Array {
  return matrix.map((x, at) =>
    keys.reduce((sum, k) => sum + (k[Math.floor(at / m)] as number) * (k[at % m] as number), x),
  );
}

/** (matrix)^-1 k of each key, as a system of its whole size. */
function solvedWhole(matrix: Float64Array, keys: readonly Float64Array[], m: number): Float64Array[] {
  return keys.map((key) => solvePositive(matrix.slice(), m, key));
}

describe("the small system", () => {
  test.each([
    [1, 5, 1],
    [4, 9, 0.1],
    [7, 3, 2], // more vectors than numbers in each: A^T B alone has no inverse
  ])("of %i vectors of %i, weight %f, is solved", (n, m, weight) => {
    const b = sample(n, m, 1);
    const solved = ridgeRows(innerProducts(b, b), b, { weight });
    for (const [i, vector] of b.entries()) {
      const back = Float64Array.from({ length: m }, (_, p) =>
        solved.reduce(
          (sum, row, j) => sum + (row[p] as number) * (dot(vector, b[j] as Float64Array) + (i === j ? weight : 0)),
          0,
        ),
      );
      expect(largestDifference(back, vector)).toBeLessThan(1e-10);
    }
    const last = ridgeRows(innerProducts(b, b), b, { weight, count: 1 });
    expect(last).toHaveLength(1);
    expect(largestDifference(last[0] as Float64Array, solved.at(-1) as Float64Array)).toBeLessThan(1e-12);
  });

  test("inner products go on from those that are known", () => {
    const b = sample(5, 8, 6);
    const first = innerProducts(b.slice(0, 3), b.slice(0, 3));
    expect(innerProducts(b, b, first)).toEqual(innerProducts(b, b));
  });

  test("vectors that repeat share their answer; such as are no numbers, and repeated ones of no weight, fail", () => {
    const [one] = sample(1, 6, 2) as [Float64Array];
    const twice = [one, one];
    const [first, second] = ridgeRows(innerProducts(twice, twice), twice, { weight: 1 });
    expect(largestDifference(first as Float64Array, second as Float64Array)).toBeLessThan(1e-12);
    expect(() => ridgeRows(innerProducts(twice, twice), twice, { weight: 0 })).toThrow(LabFailure);
    const bad = [one.map((x, i) => (i === 3 ? Number.NaN : x))];
    expect(() => ridgeRows(innerProducts(bad, bad), bad, { weight: 1 })).toThrow(LabFailure);
  });
});

test.each([
  [1, 6, 1],
  [3, 8, 15_000],
  [12, 8, 0.5],
])("MEMIT, %i keys of %i: R K^T (lambda C + K K^T)^-1 as a system of its whole size", (n, m, lambda) => {
  const mean = withKeys(new Float64Array(m * m), sample(3 * m, m, 3), m).map((x) => x / (3 * m));
  const keys = sample(n, m, 4);
  const covariance = { solve: (b: Float64Array) => solvePositive(mean.slice(), m, b) } as Covariance;
  const assets = new Map([["covariance layers.2.down", { sha256: "", value: covariance }]]);
  const options = { layers: [2], mom2_update_weight: lambda, ...stats } as unknown as MemitOptions;
  const solved = memitSolver(options, { assets })(2, keys);
  const whole = withKeys(
    mean.map((x) => lambda * x),
    keys,
    m,
  );
  for (const [j, row] of solvedWhole(whole, keys, m).entries())
    expect(largestDifference(solved[j] as Float64Array, row)).toBeLessThan(1e-10);
});

test.each([
  [[1], 6, 1],
  [[2, 1, 3], 9, 10],
  [[7, 7], 9, 0.1],
])("AlphaEdit, batches of %j keys of %i: R K^T P (K K^T P + Kp Kp^T P + L2 I)^-1, as a whole", (batches, m, L2) => {
  // P keeps all but the first two axes: K K^T P + L2 I is then symmetric within what P keeps.
  const kept = (k: Float64Array) => k.map((x, i) => (i < 2 ? 0 : x));
  const space: NullSpace = { size: m, project: kept };
  const assets = new Map<string, Asset>([["null space layers.1.down", { sha256: "", value: space }]]);
  const options = { layers: [1], nullspace_threshold: 1, L2, ...stats } as unknown as AlphaeditOptions;
  const model = { config: { intermediateSize: m } as LlamaConfig } as LlamaModel;
  const { solve, stood, stored } = alphaeditSolver(options, { assets, model });
  const identity = Float64Array.from({ length: m * m }, (_, at) => (at % (m + 1) === 0 ? L2 : 0));
  let seen: Float64Array[] = [];
  for (const [e, n] of batches.entries()) {
    const keys = sample(n, m, 10 + e).map((key) => Float64Array.from(Float32Array.from(key)));
    const solved = solve(1, keys);
    const whole = withKeys(identity, [...seen, ...keys].map(kept), m);
    for (const [j, row] of solvedWhole(whole, keys.map(kept), m).entries())
      expect(largestDifference(solved[j] as Float64Array, row)).toBeLessThan(1e-10);
    expect(solve(1, keys)).toEqual(solved); // what does not stand is not remembered
    stood([{ layer: 1, keys, residuals: [], updates: [] }]);
    seen = [...seen, ...keys];
  }
  expect(stored()["layers.1.keys"]?.shape).toEqual([seen.length, m]);
});
