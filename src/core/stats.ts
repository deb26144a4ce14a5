import { LabFailure } from "./errors.js";
import type { Rng } from "./rng.js";

/** A mean with the interval that resampling its values gives. Same unit as the values. */
export interface Interval {
  mean: number;
  low: number;
  high: number;
  /** Number of values behind the mean. */
  n: number;
}

export interface BootstrapOptions {
  rng: Rng;
  /** 2000 moves an end of the interval by about 3% of its half width from seed to seed; more costs time in proportion. */
  resamples?: number;
  /** Share of resampled means inside the interval. */
  level?: number;
  /** Values in a resample, to see what a mean of so many is worth. Default: as many as there are. */
  draws?: number;
}

export interface PermutationOptions {
  rng: Rng;
  permutations?: number;
}

/**
 * Arithmetic mean.
 * @throws {LabFailure} when there are no values or one is not finite: a NaN is a fault to show, never one to leave out.
 */
export function mean(values: readonly number[]): number {
  requireFinite(values, "a mean");
  return sum(values) / values.length;
}

/**
 * Percentile bootstrap of the mean (Efron 1979): resamples the values with replacement.
 * The same values in the same order and the same generator give the same interval.
 * @throws {LabFailure} when there are no values or one is not finite.
 */
export function bootstrapInterval(values: readonly number[], options: BootstrapOptions): Interval {
  const { rng, resamples = 2_000, level = 0.95, draws = values.length } = options;
  requireFinite(values, "a bootstrap interval");
  const n = values.length;
  const numbers = Float64Array.from(values);
  const drawn = new Uint32Array(draws);
  const isOne = numbers.every((value) => value === numbers[0]); // then one resample is like another
  const means = Float64Array.from({ length: isOne ? 1 : resamples }, () => {
    rng.integers(n, drawn);
    let total = 0;
    for (let i = 0; i < draws; i++) total += numbers[drawn[i] as number] as number;
    return total / draws;
  });
  return { mean: sum(values) / n, ...percentileEnds(means, level), n };
}

/**
 * Bootstrap of means along a grid: each row holds one record's value at every place of the grid, and a resample draws whole
 * records, so that places are compared on the same ones. The draws are those of `bootstrapInterval` with this generator.
 * @param rows at least one, all of one length; values that seldom change along a row cost little
 * @returns per resample the mean at every place
 */
export function resampledMeans(
  rows: readonly Float64Array[],
  { rng, resamples = 2_000 }: Pick<BootstrapOptions, "rng" | "resamples">,
): Float64Array[] {
  const n = rows.length;
  const places = rows[0]?.length ?? 0;
  const changes = changesAlong(rows);
  const drawn = new Uint32Array(n);
  const times = new Uint32Array(n);
  return Array.from({ length: resamples }, () => {
    rng.integers(n, drawn);
    times.fill(0);
    for (let i = 0; i < n; i++) (times[drawn[i] as number] as number)++;
    const means = new Float64Array(places);
    for (const { row, place, by } of changes) means[place] = (means[place] as number) + (times[row] as number) * by;
    let total = 0;
    for (let place = 0; place < places; place++) {
      total += means[place] as number;
      means[place] = total / n;
    }
    return means;
  });
}

/** Changes along rows: the place and the amount of each; at place 0 from 0 to the first value. */
function changesAlong(rows: readonly Float64Array[]): { row: number; place: number; by: number }[] {
  const changes: { row: number; place: number; by: number }[] = [];
  for (const [row, values] of rows.entries()) {
    let last = 0;
    for (const [place, value] of values.entries()) {
      if (value !== last) changes.push({ row, place, by: value - last });
      last = value;
    }
  }
  return changes;
}

/** The ends of the interval that holds a share `level` of resampled values, the same share of the rest on either side. */
export function percentileEnds(values: ArrayLike<number>, level = 0.95): { low: number; high: number } {
  const sorted = Float64Array.from(values).sort();
  const tail = (1 - level) / 2;
  return { low: quantile(sorted, tail), high: quantile(sorted, 1 - tail) };
}

/**
 * Two-sided paired permutation test: under the null hypothesis each difference a[i] - b[i] could as well have the other sign.
 * Every sign pattern is tried when there are at most `permutations` of them; otherwise random ones, with the observed one counted.
 * @returns the mean of a - b, and the share of sign patterns at least as far from 0.
 * @throws {LabFailure} when the lengths differ, there are no values, or one is not finite.
 */
export function pairedPermutationTest(
  a: readonly number[],
  b: readonly number[],
  options: PermutationOptions,
): { difference: number; p: number } {
  const { rng, permutations = 10_000 } = options;
  if (a.length !== b.length) {
    throw new LabFailure(`a paired test needs pairs: ${a.length} values against ${b.length}`);
  }
  const differences = a.map((value, i) => value - (b[i] as number));
  requireFinite(differences, "a paired permutation test");
  const observed = sum(differences);
  const movable = differences.filter((d) => d !== 0); // a difference of 0 has no sign to change
  // Sums of the same terms in another order differ by rounding: a tie must still count as one.
  const bound = Math.abs(observed) - 1e-12 * movable.reduce((total, d) => total + Math.abs(d), 0);

  const patterns = 2 ** movable.length;
  const exact = patterns <= permutations;
  let asFar = exact ? 0 : 1;
  const flips = new Uint32Array(movable.length);
  for (let k = 0; k < (exact ? patterns : permutations); k++) {
    if (exact) for (let i = 0; i < flips.length; i++) flips[i] = (k >>> i) & 1;
    else rng.integers(2, flips);
    let total = 0;
    for (let i = 0; i < flips.length; i++) total += (movable[i] as number) * (flips[i] === 1 ? -1 : 1);
    if (Math.abs(total) >= bound) asFar++;
  }
  return { difference: observed / differences.length, p: asFar / (exact ? patterns : permutations + 1) };
}

/**
 * Kendall's tau-b (1945) of two rankings: 1 for the same order, -1 for the reverse, ties counted out on either side. null
 * where all values of one side are equal.
 * @throws {LabFailure} when the lengths differ, or a value is not finite.
 */
export function kendallTau(a: readonly number[], b: readonly number[]): number | null {
  if (a.length !== b.length) throw new LabFailure(`two rankings of ${a.length} and ${b.length} values`);
  requireFinite([...a, ...b], "Kendall's tau");
  let agreement = 0;
  let [untiedA, untiedB] = [0, 0];
  for (let i = 0; i < a.length; i++) {
    for (let j = 0; j < i; j++) {
      const signA = Math.sign((a[i] as number) - (a[j] as number));
      const signB = Math.sign((b[i] as number) - (b[j] as number));
      agreement += signA * signB;
      untiedA += Math.abs(signA);
      untiedB += Math.abs(signB);
    }
  }
  return untiedA === 0 || untiedB === 0 ? null : agreement / Math.sqrt(untiedA * untiedB);
}

/** P values that Holm's method (1979) has raised, so that all of them together err as seldom as one alone. */
export function holm(ps: readonly number[]): number[] {
  const order = ps.map((_, i) => i).sort((i, j) => (ps[i] as number) - (ps[j] as number));
  const raised = [...ps];
  let least = 0;
  for (const [rank, i] of order.entries()) {
    least = Math.max(least, Math.min(1, (ps[i] as number) * (ps.length - rank)));
    raised[i] = least;
  }
  return raised;
}

/** Quantile of sorted values, linear between neighbours. */
function quantile(sorted: Float64Array, share: number): number {
  const position = share * (sorted.length - 1);
  const below = Math.floor(position);
  const low = sorted[below] as number;
  const high = sorted[Math.ceil(position)] as number;
  return low + (high - low) * (position - below);
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function requireFinite(values: readonly number[], what: string): void {
  if (values.length === 0) throw new LabFailure(`${what} needs at least one value`);
  const bad = values.findIndex((value) => !Number.isFinite(value));
  if (bad >= 0) throw new LabFailure(`${what} over ${values.length} values: value ${bad} (from 0) is ${values[bad]}`);
}
