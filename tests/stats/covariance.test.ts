import { describe, expect, test } from "vitest";
import { Interrupted } from "../../src/core/errors.js";
import { sha256File } from "../../src/core/files.js";
import { createRng } from "../../src/core/rng.js";
import { covarianceArrays, openCovariance } from "../../src/stats/covariance.js";
import { traceMismatch } from "../../src/stats/norms.js";
import type { NpyArray } from "../../src/stats/npy.js";
import { npzBytes } from "../../src/stats/npz.js";
import { refusal } from "../model/support.js";
import { GOLDEN_SIZE, goldenFile, goldenStats, madeCovariance, madeFile } from "./support.js";

/** C X, [m, m] times [m, n]. */
function product(c: Float64Array, x: Float64Array, m: number): Float64Array {
  const n = x.length / m;
  return Float64Array.from({ length: x.length }, (_, at) => {
    const [row, column] = [Math.floor(at / n), at % n];
    let sum = 0;
    for (let j = 0; j < m; j++) sum += (c[row * m + j] as number) * (x[j * n + column] as number);
    return sum;
  });
}

function normal(length: number): Float64Array {
  const rng = createRng(1);
  return Float64Array.from({ length }, () => rng.uniform() - 0.5);
}

const largest = (values: Float64Array) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);

describe("EasyEdit's files", () => {
  test("open as they are: C is the sum over the number of tokens", async () => {
    const covariance = await openCovariance(goldenFile(0), { size: GOLDEN_SIZE });
    const { count, sampleSize, size, trace } = covariance;
    expect({ count, sampleSize, size }).toEqual({ count: goldenStats.count, sampleSize: 64, size: GOLDEN_SIZE });
    expect(covariance.sha256).toBe(await sha256File(goldenFile(0)));
    const mean = covariance.mean();
    const diagonal = Array.from({ length: size }, (_, i) => mean[i * size + i] as number);
    expect(trace).toBeCloseTo(
      diagonal.reduce((sum, value) => sum + value, 0),
      9,
    );
    for (let i = 0; i < size; i++) expect(mean[i]).toBe(mean[i * size]);
  });

  test.each([0, 1, 2])("are inverted: C C^-1 K = K at layer %i, for one key and for many", async (layer) => {
    const covariance = await openCovariance(goldenFile(layer), { size: GOLDEN_SIZE });
    const mean = covariance.mean();
    for (const n of [1, 5]) {
      const b = normal(GOLDEN_SIZE * n);
      const back = product(mean, covariance.solve(b), GOLDEN_SIZE);
      expect(largest(back.map((value, i) => value - (b[i] as number)))).toBeLessThan(1e-12);
    }
    // |C^-1 k| is at most |k| over the least eigenvalue, and in some direction of many keys near to it.
    const [least] = goldenStats.eigenvalues[layer] as [number, number, number];
    const k = normal(GOLDEN_SIZE);
    expect(Math.hypot(...covariance.solve(k))).toBeLessThan(Math.hypot(...k) / least);
  });
});

test("a small system is solved exactly", async () => {
  const rows = [
    [4, 2, 0],
    [2, 5, 4],
    [0, 4, 8],
  ];
  const covariance = await openCovariance(await madeCovariance(rows), { size: 3 });
  // The columns of B are C times (1, 2, 3) and C times (0, -1, 0.5).
  const b = Float64Array.of(8, -2, 24, -3, 32, 0);
  const x = covariance.solve(b);
  expect(Array.from(x, (value) => Math.round(value * 1e12) / 1e12)).toEqual([1, 0, 2, -1, 3, 0.5]);
  expect(Array.from(b)).toEqual([8, -2, 24, -3, 32, 0]);
  expect(() => covariance.solve(Float64Array.of(1, 2))).toThrow(RangeError);
});

test.each([1, 2, 63, 64, 65, 130, 199])("every size is factorised: %i", async (m) => {
  const factors = normal(m * m);
  const rows = Array.from({ length: m }, (_, i) =>
    Array.from({ length: m }, (_, j) => {
      let sum = i === j ? 0.1 : 0;
      for (let p = 0; p < m; p++) sum += (factors[i * m + p] as number) * (factors[j * m + p] as number);
      return sum;
    }),
  );
  const covariance = await openCovariance(await madeCovariance(rows), { size: m });
  const b = normal(m);
  const shares: number[] = [];
  await covariance.factorise({ onProgress: (share) => shares.push(share) });
  expect(shares).toHaveLength(Math.ceil(m / 64));
  expect(shares.at(-1)).toBe(1);
  const back = product(covariance.mean(), covariance.solve(b), m);
  expect(largest(back.map((value, i) => value - (b[i] as number)))).toBeLessThan(1e-10);
});

test("a factorisation can be stopped, and begun again", async () => {
  const covariance = await openCovariance(goldenFile(0), { size: GOLDEN_SIZE });
  const stop = new AbortController();
  const stopped = covariance.factorise({ signal: stop.signal, onProgress: () => stop.abort() });
  await expect(stopped).rejects.toThrow(Interrupted);
  await covariance.factorise();
});

describe("has no inverse:", () => {
  test("a covariance of fewer tokens than it has rows", async () => {
    const covariance = await openCovariance(
      await madeCovariance(
        [
          [2, 1],
          [1, 2],
        ],
        1,
      ),
      { size: 2 },
    );
    const error = await refusal(() => covariance.solve(Float64Array.of(1, 1)));
    expect(error).toMatchObject({
      found: "the mean over 1 tokens",
      expected: "at least 2 tokens, as many as it has rows",
    });
    expect(error.hint).toMatch(/more texts/);
  });

  test.each([
    [
      "twice the same key",
      [
        [1, 1, 0],
        [1, 1, 0],
        [0, 0, 1],
      ],
      2,
    ],
    [
      "a key that is always zero",
      [
        [1, 0, 0],
        [0, 1, 0],
        [0, 0, 0],
      ],
      3,
    ],
    [
      "no mean of k k^T at all",
      [
        [1, 0.9, -0.9],
        [0.9, 1, 0.9],
        [-0.9, 0.9, 1],
      ],
      3,
    ],
  ])("%s, with its pivot", async (_, rows, pivot) => {
    const covariance = await openCovariance(await madeCovariance(rows), { size: 3 });
    for (const work of [() => covariance.solve(Float64Array.of(1, 1, 1)), () => covariance.factorise()]) {
      const error = await refusal(work);
      expect(error.message).toContain("not positive definite");
      expect(error.found).toContain(`pivot ${pivot} of 3, over 1000 tokens`);
      expect(error.hint).toMatch(/more texts/);
    }
  });
});

describe("refused when it is opened:", () => {
  const good = () => covarianceArrays({ sum: Float32Array.of(2, 1, 1, 2), size: 2, count: 10, sampleSize: 1 });
  const one = (value: bigint): NpyArray => ({ type: "i8", shape: [], data: BigInt64Array.of(value) });
  const sum = (shape: number[], ...values: number[]): NpyArray => ({
    type: "f4",
    shape,
    data: Float32Array.from(values),
  });

  test.each<[string, Record<string, NpyArray>, found: RegExp]>([
    ["no tokens", { "mom2.count": one(0n) }, /^0$/],
    ["a negative number of texts", { sample_size: one(-1n) }, /^-1$/],
    ["two numbers of tokens", { "mom2.count": { type: "i8", shape: [2], data: BigInt64Array.of(1n, 2n) } }, /^\[2\]$/],
    ["numbers of tokens that are no whole numbers", { "mom2.count": sum([], 10) }, /type f4/],
    ["a matrix that is not square", { "mom2.mom2": sum([2, 3], 1, 2, 3, 4, 5, 6) }, /^\[2, 3\]$/],
    ["a matrix of another size", { "mom2.mom2": sum([1, 1], 1) }, /^\[1, 1\]$/],
    [
      "whole numbers in the matrix",
      { "mom2.mom2": { type: "i8", shape: [2, 2], data: new BigInt64Array(4) } },
      /type i8/,
    ],
    ["NaN", { "mom2.mom2": sum([2, 2], 2, Number.NaN, Number.NaN, 2) }, /^NaN in row 1, column 0$/],
    ["infinity", { "mom2.mom2": sum([2, 2], Number.POSITIVE_INFINITY, 1, 1, 2) }, /^Infinity in row 0/],
    ["a negative square", { "mom2.mom2": sum([2, 2], 2, 1, 1, -2) }, /^-2 in row 1, column 1$/],
    ["zeros", { "mom2.mom2": sum([2, 2], 0, 0, 0, 0) }, /^zeros alone$/],
    ["two halves that differ", { "mom2.mom2": sum([2, 2], 2, 1, 1.01, 2) }, /^1 in row 0, column 1$/],
    [
      "more than a correlation of 1",
      { "mom2.mom2": sum([2, 2], 2, 2.1, 2.1, 2) },
      /^2\.0\d+ in row 1, column 0$|^2\.1/,
    ],
    ["another statistic", { "mom2.constructor": { type: "U", shape: [], data: ["util.runningstats.Mean()"] } }, /Mean/],
  ])("%s", async (_, change, found) => {
    const path = await madeFile("made.npz", Buffer.concat([...npzBytes({ ...good(), ...change })]));
    const error = await refusal(() => openCovariance(path, { size: 2 }));
    expect(String(error.found)).toMatch(found);
    expect(error.where).toContain(`${path}: `);
  });

  test("the covariance of a model of another shape, by both sizes", async () => {
    const error = await refusal(() => openCovariance(goldenFile(0), { size: 2048 }));
    expect(error).toMatchObject({ found: "[176, 176]", expected: "[2048, 2048], the model's intermediate size" });
  });

  test("a file without one of its arrays", async () => {
    const { sample_size: _, ...rest } = good();
    const path = await madeFile("made.npz", Buffer.concat([...npzBytes(rest)]));
    expect((await refusal(() => openCovariance(path, { size: 2 }))).expected).toBe("an array sample_size");
  });

  test("halves that differ by rounding are taken, at their mean", async () => {
    const path = await madeFile(
      "made.npz",
      Buffer.concat([...npzBytes({ ...good(), "mom2.mom2": sum([2, 2], 2, 1, 1.0005, 2) })]),
    );
    const mean = (await openCovariance(path, { size: 2 })).mean();
    expect(mean[1]).toBeCloseTo(0.100025, 6);
    expect(mean[1]).toBe(mean[2]);
  });
});

test("traces and norms differ by a factor, whichever is larger", () => {
  expect(traceMismatch({ trace: 30 }, 20)).toBe(1.5);
  expect(traceMismatch({ trace: 20 }, 30)).toBe(1.5);
});
