import fc from "fast-check";
import { describe, expect, it, test } from "vitest";
import { LabFailure } from "../../src/core/errors.js";
import { createRng } from "../../src/core/rng.js";
import { bootstrapInterval, holm, kendallTau, mean, pairedPermutationTest } from "../../src/core/stats.js";

const scores = fc.array(fc.double({ min: -1e3, max: 1e3, noNaN: true }), { minLength: 1, maxLength: 40 });
const rng = () => createRng(1);

describe("mean", () => {
  it("is the sum divided by the count", () => {
    expect(mean([1, 2, 6])).toBe(3);
  });

  it("lies between the smallest and the largest value", () => {
    fc.assert(
      fc.property(scores, (values) => {
        const m = mean(values);
        expect(m).toBeGreaterThanOrEqual(Math.min(...values) - 1e-9);
        expect(m).toBeLessThanOrEqual(Math.max(...values) + 1e-9);
      }),
    );
  });

  it.each([[[]], [[1, Number.NaN]], [[Number.POSITIVE_INFINITY]]])("refuses %j", (values) => {
    expect(() => mean(values)).toThrow(LabFailure);
    expect(() => bootstrapInterval(values, { rng: rng() })).toThrow(LabFailure);
  });

  it("says which value is not a number", () => {
    expect(() => mean([1, 2, Number.NaN])).toThrow("value 2 (from 0) is NaN");
  });
});

describe("bootstrapInterval", () => {
  it("of equal values is their mean, as every resample gives it", () => {
    const value = 1 / 3;
    const total = Array.from({ length: 7 }, () => value).reduce((a, b) => a + b, 0);
    const { low, high, n } = bootstrapInterval(new Array(7).fill(value), { rng: rng() });
    expect([low, high, n]).toEqual([total / 7, total / 7, 7]);
  });

  it("agrees with the normal interval of a mean for many values", () => {
    const source = createRng(7);
    const values = Array.from({ length: 400 }, () => source.normal());
    const m = mean(values);
    const halfWidth = 1.96 * Math.sqrt(mean(values.map((v) => (v - m) ** 2)) / values.length);
    const interval = bootstrapInterval(values, { rng: rng(), resamples: 20_000 });
    expect(interval.n).toBe(400);
    expect(interval.low).toBeCloseTo(m - halfWidth, 2);
    expect(interval.high).toBeCloseTo(m + halfWidth, 2);
  });

  it("has the binomial quantiles for zeros and ones", () => {
    // The number of ones in a resample of ten records with eight right is Binomial(10, 0.8): quantiles 5 and 10.
    const interval = bootstrapInterval([1, 1, 1, 1, 1, 1, 1, 1, 0, 0], { rng: rng() });
    expect(interval).toEqual({ mean: 0.8, low: 0.5, high: 1, n: 10 });
  });

  it("covers the true mean in about `level` of all samples", () => {
    const source = createRng(11);
    let covered = 0;
    for (let k = 0; k < 300; k++) {
      const sample = Array.from({ length: 60 }, () => source.uniform());
      const { low, high } = bootstrapInterval(sample, { rng: source.fork(k), resamples: 500, level: 0.9 });
      if (low <= 0.5 && 0.5 <= high) covered++;
    }
    expect(covered / 300).toBeGreaterThan(0.84);
    expect(covered / 300).toBeLessThan(0.95);
  });

  it("holds the mean, moves with a shift, and repeats itself for the same seed", () => {
    fc.assert(
      fc.property(scores, fc.double({ min: -100, max: 100, noNaN: true }), (values, shift) => {
        const options = { resamples: 400 };
        const first = bootstrapInterval(values, { rng: rng(), ...options });
        expect(bootstrapInterval(values, { rng: rng(), ...options })).toEqual(first);
        expect(first.low).toBeLessThanOrEqual(first.high);
        const moved = bootstrapInterval(
          values.map((v) => v + shift),
          { rng: rng(), ...options },
        );
        expect(moved.low).toBeCloseTo(first.low + shift, 8);
        expect(moved.high).toBeCloseTo(first.high + shift, 8);
      }),
      { numRuns: 40 },
    );
  });
});

describe("pairedPermutationTest", () => {
  it("counts every sign pattern when there are few", () => {
    // Three differences of the same sign: only +++ and --- are as far from 0, 2 of 8.
    expect(pairedPermutationTest([2, 3, 5], [1, 1, 1], { rng: rng() })).toEqual({ difference: 7 / 3, p: 0.25 });
  });

  it("gives 1 for equal values", () => {
    expect(pairedPermutationTest([0.5, 1], [0.5, 1], { rng: rng() })).toEqual({ difference: 0, p: 1 });
  });

  it("approaches the exact value when patterns are drawn", () => {
    const a = Array.from({ length: 12 }, (_, i) => (i % 3 === 0 ? 1 : 0.4));
    const b = Array.from({ length: 12 }, (_, i) => (i % 4 === 0 ? 0.9 : 0.35));
    const exact = pairedPermutationTest(a, b, { rng: rng() });
    const drawn = pairedPermutationTest(a, b, { rng: rng(), permutations: 4000 });
    expect(drawn.difference).toBe(exact.difference);
    expect(Math.abs(drawn.p - exact.p)).toBeLessThan(0.03);
  });

  it("does not depend on which method comes first", () => {
    const values = fc.array(
      fc.tuple(fc.double({ min: 0, max: 1, noNaN: true }), fc.double({ min: 0, max: 1, noNaN: true })),
      {
        minLength: 1,
        maxLength: 10,
      },
    );
    fc.assert(
      fc.property(values, (pairs) => {
        const a = pairs.map(([x]) => x);
        const b = pairs.map(([, y]) => y);
        const forth = pairedPermutationTest(a, b, { rng: rng() });
        const back = pairedPermutationTest(b, a, { rng: rng() });
        expect(back.difference).toBeCloseTo(-forth.difference, 12);
        expect(back.p).toBe(forth.p);
        expect(forth.p).toBeGreaterThan(0);
        expect(forth.p).toBeLessThanOrEqual(1);
      }),
      { numRuns: 40 },
    );
  });

  it("refuses lists of different length", () => {
    expect(() => pairedPermutationTest([1, 2], [1], { rng: rng() })).toThrow("2 values against 1");
  });
});

describe("kendallTau", () => {
  it("is 1 for the same order, -1 for the reverse, and counts ties out", () => {
    expect(kendallTau([1, 2, 3], [10, 20, 30])).toBe(1);
    expect(kendallTau([1, 2, 3], [3, 2, 1])).toBe(-1);
    // By hand: of six pairs five agree, one is tied on the right.
    expect(kendallTau([1, 2, 3, 4], [1, 2, 2, 3])).toBeCloseTo(5 / Math.sqrt(6 * 5), 12);
    // 12 2 1 12 2 against 1 4 7 1 0: the example of Kendall's tau-b in the documentation of SciPy.
    expect(kendallTau([12, 2, 1, 12, 2], [1, 4, 7, 1, 0])).toBeCloseTo(-0.47140452079103173, 12);
  });

  it("is nothing where one side has no order, and refuses what is no pair", () => {
    expect(kendallTau([1, 1], [1, 2])).toBeNull();
    expect(() => kendallTau([1], [1, 2])).toThrow(/1 and 2 values/);
    expect(() => kendallTau([1, Number.NaN], [1, 2])).toThrow(/NaN/);
  });
});

test("holm raises p values by their rank, never below a smaller one's, and to 1 at most", () => {
  expect(holm([0.01, 0.04, 0.03, 0.005])).toEqual([0.03, 0.06, 0.06, 0.02]);
  expect(holm([0.5, 0.9])).toEqual([1, 1]);
  expect(holm([])).toEqual([]);
});
