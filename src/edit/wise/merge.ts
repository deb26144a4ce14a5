import type { Rng } from "../../core/rng.js";
import type { WiseOptions } from "./options.js";

/** Parts of a merge: deltas to the main value matrix W, each with its weight. All arrays are one matrix, flat. */
export interface MergeInput {
  deltas: readonly Float32Array[];
  weights: readonly number[];
  /** W itself; slerp turns whole matrices, not deltas. */
  main: Float32Array;
  /** Share of the entries of each delta that is kept. */
  density: number;
  rng: Rng;
}

/**
 * The merges of the released code by its names (models/wise/merge), each to one delta to W.
 * Two of them differ on purpose: the released `linear` and `slerp` move from W towards the first shard and drop the
 * others; here they take in every shard.
 */
export const merges = {
  ties: (input) => average(keepLargest(input), { agree: true, normalise: true }),
  magnitude_norm: (input) => average(keepLargest(input), { agree: false, normalise: true }),
  magnitude: (input) => average(keepLargest(input), { agree: false, normalise: false }),
  sign: (input) => average(input, { agree: true, normalise: true }),
  dare_ties: (input) => average(keepRandom(input, 1 / input.density), { agree: true, normalise: false }),
  dare_linear: (input) => average(keepRandom(input, 1), { agree: false, normalise: false }),
  linear: (input) => average(input, { agree: false, normalise: true }),
  slerp,
} as const satisfies Record<WiseOptions["merge_alg"], (input: MergeInput) => Float32Array>;

/**
 * Weighted sum of the deltas per entry.
 * `agree`: only entries with the sign of the weighted sum count, a sum of 0 electing plus (Yadav et al. 2023, TIES).
 * `normalise`: divided by the weights that counted.
 */
function average(input: MergeInput, rule: { agree: boolean; normalise: boolean }): Float32Array {
  const { deltas, weights } = input;
  const merged = new Float32Array(input.main.length);
  for (let i = 0; i < merged.length; i++) {
    let sum = 0;
    for (let k = 0; k < deltas.length; k++) sum += (weights[k] as number) * at(deltas, k, i);
    const elected = sum >= 0 ? 1 : -1;
    let total = 0;
    let weight = 0;
    for (let k = 0; k < deltas.length; k++) {
      const value = at(deltas, k, i);
      if (rule.agree && Math.sign(value) !== elected) continue;
      total += (weights[k] as number) * value;
      weight += weights[k] as number;
    }
    merged[i] = rule.normalise && weight !== 0 ? total / weight : total;
  }
  return merged;
}

function at(deltas: readonly Float32Array[], k: number, i: number): number {
  return (deltas[k] as Float32Array)[i] as number;
}

/** Keeps the `density` share of each delta that is largest by magnitude; the rest becomes 0. */
function keepLargest(input: MergeInput): MergeInput {
  return { ...input, deltas: input.deltas.map((delta) => largest(delta, input.density)) };
}

function largest(delta: Float32Array, density: number): Float32Array {
  const count = Math.floor(density * delta.length);
  const magnitudes = new Uint32Array(delta.slice().buffer).map((bits) => bits & 0x7fffffff); // orders like |x|
  const { threshold, equal } = selectLargest(magnitudes, count);
  let equalLeft = equal;
  return delta.map((value, i) => {
    const magnitude = magnitudes[i] as number;
    if (magnitude > threshold) return value;
    return magnitude === threshold && equalLeft-- > 0 ? value : 0;
  });
}

/**
 * The value of the `count`-th largest entry, and how many entries equal to it belong to the `count` largest.
 * Two passes over 16 bits each: linear in the size of a matrix of tens of millions of entries.
 */
function selectLargest(values: Uint32Array, count: number): { threshold: number; equal: number } {
  const high = countBins(values, (value) => value >>> 16);
  const top = walkDown(high, count);
  const low = countBins(values, (value) => (value >>> 16 === top.bin ? value & 0xffff : -1));
  const bottom = walkDown(low, top.left);
  return { threshold: ((top.bin << 16) | bottom.bin) >>> 0, equal: bottom.left };
}

function countBins(values: Uint32Array, binOf: (value: number) => number): Float64Array {
  const bins = new Float64Array(1 << 16);
  for (const value of values) {
    const bin = binOf(value);
    if (bin >= 0) bins[bin] = (bins[bin] as number) + 1;
  }
  return bins;
}

/** The bin in which the `count`-th entry from the top falls, and how many entries of that bin are among them. */
function walkDown(bins: Float64Array, count: number): { bin: number; left: number } {
  let left = count;
  for (let bin = bins.length - 1; bin > 0; bin--) {
    const size = bins[bin] as number;
    if (left <= size) return { bin, left };
    left -= size;
  }
  return { bin: 0, left };
}

/** Keeps each entry with probability `density`, times `scale` (Yu et al. 2023, DARE). */
function keepRandom(input: MergeInput, scale: number): MergeInput {
  const deltas = input.deltas.map((delta, k) => {
    const rng = input.rng.fork("keep", k);
    return delta.map((value) => (rng.uniform() < input.density ? value * scale : 0));
  });
  return { ...input, deltas };
}

const COLINEAR = 0.9995; // above this cosine the arc is a line within float32

/** Turns from one whole matrix W + delta to the next along the arc between them, in order of saving. */
function slerp(input: MergeInput): Float32Array {
  const { deltas, weights, main } = input;
  let merged = deltas[0] as Float32Array;
  let weight = weights[0] as number;
  for (let k = 1; k < deltas.length; k++) {
    const next = deltas[k] as Float32Array;
    weight += weights[k] as number;
    const [s0, s1] = arcShares(main, [merged, next], (weights[k] as number) / weight);
    const previous = merged;
    // (s0 (W + a) + s1 (W + b)) - W
    merged = main.map((w, i) => s0 * (previous[i] as number) + s1 * (next[i] as number) + (s0 + s1 - 1) * w);
  }
  return merged;
}

function arcShares(main: Float32Array, [a, b]: [Float32Array, Float32Array], t: number): [number, number] {
  let aa = 0;
  let bb = 0;
  let ab = 0;
  for (let i = 0; i < main.length; i++) {
    const x = (main[i] as number) + (a[i] as number);
    const y = (main[i] as number) + (b[i] as number);
    aa += x * x;
    bb += y * y;
    ab += x * y;
  }
  const cosine = ab / Math.sqrt(aa * bb);
  if (!(Math.abs(cosine) <= COLINEAR)) return [1 - t, t];
  const angle = Math.acos(cosine);
  return [Math.sin((1 - t) * angle) / Math.sin(angle), Math.sin(t * angle) / Math.sin(angle)];
}
