import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createRng } from "../../../src/core/rng.js";
import { type MergeInput, merges } from "../../../src/edit/wise/merge.js";

type Name = keyof typeof merges;

const input = (deltas: number[][], given: Partial<MergeInput> = {}): MergeInput => ({
  deltas: deltas.map((delta) => Float32Array.from(delta)),
  weights: deltas.map(() => 1),
  main: new Float32Array((deltas[0] as number[]).length),
  density: 1,
  rng: createRng(0),
  ...given,
});

const merge = (name: Name, ...of: Parameters<typeof input>) => Array.from(merges[name](input(...of)));

/*
 * Two deltas of four entries. With density 0.5 the first keeps 4 and -3, the second -4 and 2:
 *   first   4  -3  0  0
 *   second  0  -4  2  0
 *   sum     4  -7  2  0
 */
const PAIR = [
  [4, -3, 1, 0],
  [1, -4, 2, 0],
];

describe("by hand", () => {
  test.each([
    ["ties", { density: 0.5 }, [4, -3.5, 2, 0]],
    ["magnitude_norm", { density: 0.5 }, [2, -3.5, 1, 0]],
    ["magnitude", { density: 0.5 }, [4, -7, 2, 0]],
    ["sign", {}, [2.5, -3.5, 1.5, 0]],
    ["linear", {}, [2.5, -3.5, 1.5, 0]],
    ["linear", { weights: [3, 1] }, [3.25, -3.25, 1.25, 0]],
    ["dare_linear", {}, [5, -7, 3, 0]],
    ["dare_ties", {}, [5, -7, 3, 0]],
  ] satisfies [Name, Partial<MergeInput>, number[]][])("%s %j", (name, given, expected) => {
    expect(merge(name, PAIR, given)).toEqual(expected);
  });

  test("signs that disagree: the weighted majority wins, and the others do not dilute it", () => {
    const deltas = [[3], [-1], [-1]];
    expect(merge("ties", deltas)).toEqual([3]);
    expect(merge("sign", deltas)).toEqual([3]);
    expect(merge("dare_ties", deltas)).toEqual([3]);
    expect(merge("linear", deltas)[0]).toBeCloseTo(1 / 3);
    expect(merge("ties", deltas, { weights: [0.2, 0.4, 0.4] })).toEqual([-1]);
  });

  test("a sum of zero elects plus", () => {
    expect(merge("ties", [[2], [-2]])).toEqual([2]);
    expect(merge("sign", [[-2], [2]])).toEqual([2]);
  });

  test("slerp turns whole matrices: halfway between two that stand at right angles", () => {
    // W = (0, 0): the matrices are the deltas themselves.
    const half = Math.SQRT1_2;
    const merged = merge("slerp", [
      [1, 0],
      [0, 1],
    ]);
    expect(merged[0]).toBeCloseTo(half, 6);
    expect(merged[1]).toBeCloseTo(half, 6);
    // W = (1, 0), W' = (0, 1): halfway is (sqrt 1/2, sqrt 1/2), as a delta to W.
    const around = merge(
      "slerp",
      [
        [0, 0],
        [-1, 1],
      ],
      { main: Float32Array.of(1, 0) },
    );
    expect(around[0]).toBeCloseTo(half - 1, 6);
    expect(around[1]).toBeCloseTo(half, 6);
    // Along one line there is no arc to follow.
    expect(merge("slerp", [[2], [4]])).toEqual([3]);
  });
});

/** Eighths, so that no sum of a few of them rounds, and powers of two for weights. */
const eighths = fc.integer({ min: -64, max: 64 }).map((n) => n / 8);
const shards = fc.tuple(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 40 })).chain(([count, size]) =>
  fc.record({
    deltas: fc.array(fc.array(eighths, { minLength: size, maxLength: size }), { minLength: count, maxLength: count }),
    weights: fc.array(fc.constantFrom(0.25, 0.5, 1, 2), { minLength: count, maxLength: count }),
    density: fc.constantFrom(0.1, 0.25, 0.53, 1),
  }),
);

/** The `density` share that is largest by magnitude, by sorting; equal ones in order. */
function trimmed(delta: readonly number[], density: number): number[] {
  const order = delta
    .map((_, i) => i)
    .sort((i, j) => Math.abs(delta[j] as number) - Math.abs(delta[i] as number) || i - j);
  const kept = new Set(order.slice(0, Math.floor(density * delta.length)));
  return delta.map((value, i) => (kept.has(i) ? value : 0));
}

const zero = (values: readonly number[]) => values.map((value) => (value === 0 ? 0 : value)); // -0 is 0

describe("properties", () => {
  test("ties of equal deltas is the trimmed delta", () => {
    fc.assert(
      fc.property(shards, fc.integer({ min: 1, max: 4 }), ({ deltas, density }, times) => {
        const [delta] = deltas as [number[]];
        const same = Array.from({ length: times }, () => delta);
        expect(zero(merge("ties", same, { density }))).toEqual(zero(trimmed(delta, density)));
      }),
    );
  });

  test("trimming keeps the largest entries, exactly as many as the density says", () => {
    const rng = createRng(3);
    const delta = Array.from({ length: 20_000 }, () => Math.fround(rng.normal()));
    const kept = merge("ties", [delta], { density: 0.53 });
    expect(kept.filter((value) => value !== 0)).toHaveLength(10_600);
    expect(kept).toEqual(trimmed(delta, 0.53));
  });

  test("density 1 keeps everything, so that trimming and dropping say nothing", () => {
    fc.assert(
      fc.property(shards, ({ deltas, weights }) => {
        const all = { weights, density: 1 };
        expect(merge("ties", deltas, all)).toEqual(merge("sign", deltas, all));
        expect(merge("magnitude_norm", deltas, all)).toEqual(merge("linear", deltas, all));
        expect(merge("dare_linear", deltas, all)).toEqual(merge("magnitude", deltas, all));
      }),
    );
  });

  test.each(["ties", "sign", "magnitude", "magnitude_norm", "linear"] as const)(
    "%s does not look at the order of the shards",
    (name) => {
      fc.assert(
        fc.property(shards, fc.nat(), ({ deltas, weights, density }, turn) => {
          const k = turn % deltas.length;
          const rotate = <T>(list: T[]) => [...list.slice(k), ...list.slice(0, k)];
          const once = merge(name, deltas, { weights, density });
          expect(merge(name, rotate(deltas), { weights: rotate(weights), density })).toEqual(once);
        }),
      );
    },
  );

  test.each(Object.keys(merges) as Name[])("%s of one shard with weight 1 and density 1 is that shard", (name) => {
    fc.assert(
      fc.property(fc.array(eighths, { minLength: 1, maxLength: 30 }), (delta) => {
        expect(zero(merge(name, [delta]))).toEqual(zero(delta));
      }),
    );
  });

  test.each(Object.keys(merges) as Name[])("%s changes none of its inputs", (name) => {
    const given = input(PAIR, { density: 0.5, main: Float32Array.of(1, 2, 3, 4) });
    const before = structuredClone({ deltas: given.deltas, main: given.main });
    merges[name](given);
    expect({ deltas: given.deltas, main: given.main }).toEqual(before);
  });

  test("the random merges draw from the generator that is handed in, apart for each shard", () => {
    const ones = Array.from({ length: 10_000 }, () => 1);
    const at = (seed: number) => merge("dare_linear", [ones, ones], { density: 0.25, rng: createRng(seed) });
    expect(at(1)).toEqual(at(1));
    expect(at(1)).not.toEqual(at(2));
    const counts = [0, 1, 2].map((value) => at(1).filter((sum) => sum === value).length / ones.length);
    // Independent draws: (3/4)^2, 2 (1/4)(3/4), (1/4)^2.
    for (const [i, expected] of [0.5625, 0.375, 0.0625].entries()) expect(counts[i]).toBeCloseTo(expected, 1);
    // dare_ties makes up for what was dropped.
    const kept = merge("dare_ties", [ones], { density: 0.25 });
    expect(new Set(kept)).toEqual(new Set([0, 4]));
  });
});
