import { expect, test } from "vitest";
import { joined, noSpread, type Pairs, valuesOf, withPairs } from "../../../src/edit/ultraedit/spread.js";
import { largestDifference } from "../support.js";
import { normal } from "./support.js";

const [IN, OUT] = [5, 3];

/** Pairs whose columns differ in mean and size. */
function pairsOf(seed: number, n: number): Pairs {
  const column = (x: number, i: number, width: number) => (1 + (i % width)) * x + (i % width) - 2;
  return {
    n,
    h: normal(seed, n * IN).map((x, i) => column(x, i, IN)),
    g: normal(seed + 100, n * OUT).map((x, i) => 1e-3 * column(x, i, OUT)),
  };
}

const spreadOf = (groups: readonly Pairs[]) => groups.reduce(withPairs, noSpread(IN + OUT));
const columnsOf = ({ n, h, g }: Pairs) =>
  Array.from({ length: IN + OUT }, (_, j) =>
    Array.from({ length: n }, (_, t) => (j < IN ? h[t * IN + j] : g[t * OUT + j - IN]) as number),
  );
const meanOf = (xs: readonly number[]) => xs.reduce((sum, x) => sum + x, 0) / xs.length;
const squares = (xs: readonly number[], from: number) => xs.reduce((sum, x) => sum + (x - from) ** 2, 0);

test.each([[[3, 4, 2]], [[7, 1, 1, 5]], [[2]]])(
  "groups of %j pairs: mean, and squares by their definition",
  (sizes) => {
    const groups = sizes.map((n, i) => pairsOf(i, n));
    const { count, mean, var: found } = spreadOf(groups);
    const all = columnsOf(joined(groups));
    expect(count).toBe(sizes.reduce((sum, n) => sum + n, 0));
    expect(largestDifference(mean, all.map(meanOf))).toBeLessThan(1e-6);
    const expected = all.map((column, j) =>
      groups.reduce((sum, group) => {
        const own = columnsOf(group)[j] as number[];
        const within = own.length === 1 ? 0 : (own.length * squares(own, meanOf(own))) / (own.length - 1);
        return sum + within + own.length * (meanOf(own) - meanOf(column)) ** 2;
      }, 0),
    );
    expect(largestDifference(found, expected)).toBeLessThan(1e-6);
  },
);

test("what was before stays as it was", () => {
  const before = spreadOf([pairsOf(1, 3)]);
  const copy = structuredClone(before);
  withPairs(before, pairsOf(2, 4));
  expect(before).toEqual(copy);
});

test("values are the normalised gradients, turned round, times lr and the squared length of the normalised input", () => {
  const groups = [pairsOf(3, 4), pairsOf(4, 3)];
  const spread = spreadOf(groups);
  const pairs = joined(groups);
  const normalised = columnsOf(pairs).map((column, j) => {
    const std = Math.sqrt((spread.var[j] as number) / (spread.count - 1));
    return column.map((x) => (x - meanOf(column)) / std);
  });
  const expected = Array.from({ length: pairs.n }, (_, t) => {
    const length = normalised.slice(0, IN).reduce((sum, column) => sum + (column[t] as number) ** 2, 0);
    return normalised.slice(IN).map((column) => -0.1 * length * (column[t] as number));
  });
  expect(largestDifference(valuesOf(pairs, spread, 0.1), expected.flat())).toBeLessThan(1e-3);
});

test("one pair alone has no variance and no values; nor has a column that never varies", () => {
  const one = pairsOf(5, 1);
  const spread = spreadOf([one]);
  expect(spread.var.every((x) => x === 0)).toBe(true);
  expect([...valuesOf(one, spread, 1)].map(Math.abs)).toEqual([0, 0, 0]);
  const flat = { ...pairsOf(6, 4), g: new Float32Array(4 * OUT).fill(0.37) };
  expect([...valuesOf(flat, spreadOf([flat]), 1)].every((x) => Math.abs(x) === 0)).toBe(true);
});
