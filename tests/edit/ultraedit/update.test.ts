import { expect, test } from "vitest";
import { LabFailure } from "../../../src/core/errors.js";
import { noSpread, valuesOf, withPairs } from "../../../src/edit/ultraedit/spread.js";
import { factorsOf, ridge } from "../../../src/edit/ultraedit/update.js";
import { solvePositive } from "../../../src/stats/cholesky.js";
import { largestDifference } from "../support.js";
import { normal } from "./support.js";

/** (H H^T + I) X, by its definition. [n, in] */
function timesSystem(h: Float32Array, x: Float64Array, n: number): number[] {
  const inner = h.length / n;
  const at = (m: ArrayLike<number>, row: number, column: number) => m[row * inner + column] as number;
  const dot = (i: number, j: number) => {
    let sum = i === j ? 1 : 0;
    for (let p = 0; p < inner; p++) sum += at(h, i, p) * at(h, j, p);
    return sum;
  };
  return Array.from({ length: n * inner }, (_, k) => {
    const [i, p] = [Math.floor(k / inner), k % inner];
    let sum = 0;
    for (let j = 0; j < n; j++) sum += dot(i, j) * at(x, j, p);
    return sum;
  });
}

test.each([
  [1, 7, 1],
  [9, 23, 1],
  [23, 23, 1],
  [70, 9, 1],
  [70, 90, 1e3],
  [90, 70, 1e3],
  [6, 11, 1e-4],
])("%i inputs of width %i, of size %f: (H H^T + I) X = H", (n, inner, scale) => {
  const h = normal(n, n * inner, scale);
  expect(largestDifference(timesSystem(h, ridge(h, n), n), h)).toBeLessThan(1e-7);
});

test.each([
  [4, 9],
  [12, 5],
])("inputs that repeat, and such as are 0, %i of width %i", (n, inner) => {
  const h = normal(1, n * inner);
  h.copyWithin(inner, 0, inner);
  h.fill(0, 2 * inner, 3 * inner);
  const x = ridge(h, n);
  expect(largestDifference(timesSystem(h, x, n), h)).toBeLessThan(1e-12);
  expect([...x.slice(2 * inner, 3 * inner)].map(Math.abs)).toEqual(Array(inner).fill(0));
});

test("the factors of a change are the values and that solution; too large ones fail", () => {
  const pairs = { n: 4, h: normal(2, 4 * 6), g: normal(3, 4 * 3) };
  const spread = withPairs(noSpread(9), pairs);
  const { n, left, right } = factorsOf(pairs, spread, 0.5);
  expect(n).toBe(4);
  expect(left).toEqual(Float32Array.from(valuesOf(pairs, spread, 0.5)));
  expect(right).toEqual(Float32Array.from(ridge(pairs.h, 4)));
  expect(() => factorsOf(pairs, spread, 1e39)).toThrow(LabFailure);
  expect(() => factorsOf(pairs, spread, 1e39)).toThrow("a smaller lr");
});

test("a system that is not positive definite has no solution", () => {
  const b = Float64Array.of(1, 2);
  expect([...solvePositive(Float64Array.of(4, 0, 2, 5), 2, b)]).toEqual([0.0625, 0.375]);
  for (const entries of [
    [1, 0, 1, 1],
    [1, 0, 2, 1],
    [Number.NaN, 0, 0, 1],
  ]) {
    expect(() => solvePositive(Float64Array.from(entries), 2, b)).toThrow(/2 equations is singular/);
  }
});
