import type { Rng } from "../../core/rng.js";
import { bootstrapInterval, type Interval, mean, percentileEnds } from "../../core/stats.js";
import { numbersAt, type RouterPoint, type RouterScores } from "./routerScores.js";

/** The value of the router's option with the largest Avg., chosen on the records that it is then measured on, and what that choice is worth. */
export interface BestValue {
  /** The longest stretch of the values looked at on which Avg. is largest. */
  from: number;
  to: number;
  /** The value in the middle of it. */
  value: number;
  /** Range of the best values of resampled sets of records: 2.5% of their stretches begin before, 2.5% end behind. */
  low: number;
  high: number;
  /** Avg. there: too good, as it was chosen to be large on these records. */
  average: Interval;
  /** Avg. there less Avg. at the run's own value, record by record: too good in the same way. */
  gain: Interval;
  /**
   * Without that fault: the value chosen on a random half of the records and measured on the other, mean of many halves.
   * Null for a single record.
   */
  halves: { average: number; gain: number } | null;
}

/** Means that differ by less are equal: sums of the same scores in another order. */
const ROUNDING = 1e-9;
const SPLITS = 200; // the mean of their gains moves by less than a tenth of the spread between records

/**
 * The best value by Avg. among the values looked at, all but the last: that is the run's own.
 * @param found the points at those values, and Avg. of resampled records along them
 */
export function bestValue(
  { values, rows: { average: rows }, rng }: RouterScores,
  found: { points: readonly RouterPoint[]; resampled: readonly Float64Array[] },
): BestValue {
  const places = values.length - 1;
  const best = plateau(meansOf(rows, places));
  const at = (place: number) => values[place] as number;
  const chosen = found.resampled.map((means) => plateau(means.subarray(0, places)));
  return {
    from: at(best.first),
    to: at(best.last),
    value: at(best.middle),
    low: percentileEnds(chosen.map(({ first }) => at(first))).low,
    high: percentileEnds(chosen.map(({ last }) => at(last))).high,
    average: (found.points[best.middle] as RouterPoint).average,
    gain: bootstrapInterval(gains(rows, best.middle), { rng: rng("average") }),
    halves: rows.length < 2 ? null : splitHalves(rows, rng("average").fork("halves")),
  };
}

interface Plateau {
  first: number;
  last: number;
  middle: number;
}

/** The longest stretch of places with the largest value; of equally long ones the first. */
function plateau(values: Float64Array): Plateau {
  const least = values.reduce((a, b) => Math.max(a, b)) - ROUNDING;
  let best = { first: 0, last: -1 };
  let first = 0;
  for (const [place, value] of values.entries()) {
    if (value < least) first = place + 1;
    else if (place - first > best.last - best.first) best = { first, last: place };
  }
  return { ...best, middle: Math.floor((best.first + best.last) / 2) };
}

/** Means over rows at the first `places` places. */
function meansOf(rows: readonly Float64Array[], places: number): Float64Array {
  const means = new Float64Array(places);
  for (const row of rows) for (let i = 0; i < places; i++) means[i] = (means[i] as number) + (row[i] as number);
  return means.map((total) => total / rows.length);
}

/** Each record's Avg. at a place less the one at the last place, the run's own value. */
function gains(rows: readonly Float64Array[], place: number): number[] {
  return rows.map((row) => (row[place] as number) - (row[row.length - 1] as number));
}

/** Chooses on one half of the records and measures on the other, both ways, over random halves. */
function splitHalves(rows: readonly Float64Array[], rng: Rng): NonNullable<BestValue["halves"]> {
  const places = (rows[0] as Float64Array).length - 1;
  const averages: number[] = [];
  const won: number[] = [];
  const tryOn = (choose: readonly Float64Array[], measure: readonly Float64Array[]) => {
    const { middle } = plateau(meansOf(choose, places));
    averages.push(mean(numbersAt(measure, middle)));
    won.push(mean(gains(measure, middle)));
  };
  for (let split = 0; split < SPLITS; split++) {
    const mixed = shuffled(rows, rng);
    const half = Math.floor(rows.length / 2);
    tryOn(mixed.slice(0, half), mixed.slice(half));
    tryOn(mixed.slice(half), mixed.slice(0, half));
  }
  return { average: mean(averages), gain: mean(won) };
}

/** Fisher and Yates. */
function shuffled<T>(values: readonly T[], rng: Rng): T[] {
  const mixed = [...values];
  for (let i = mixed.length - 1; i > 0; i--) {
    const other = rng.integer(i + 1);
    [mixed[i], mixed[other]] = [mixed[other] as T, mixed[i] as T];
  }
  return mixed;
}
