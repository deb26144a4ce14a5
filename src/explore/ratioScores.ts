import { RefusedInput } from "../core/errors.js";
import { createRng, type Rng } from "../core/rng.js";
import { type Interval, mean, percentileEnds, resampledMeans } from "../core/stats.js";
import { measures } from "../run/measures.js";
import type { ScoredRun } from "../run/types.js";
import { recordUnder } from "./actRatio.js";
import { requireRatio, routerOf } from "./router.js";

/** What the paper's tables average, and their average. */
export const curveMeasures = ["rewrite", "rephrase", "locality", "average"] as const;
export type CurveMeasure = (typeof curveMeasures)[number];

/** Scores of single records over act_ratio, as reruns would give them. */
export interface RatioScores {
  /** The values looked at, rising. */
  ratios: readonly number[];
  /** The run's own value, which need not be among them. */
  own: number;
  /** A row per record that has the measure: a value per act_ratio, and behind them the one at the run's own. */
  rows: Record<CurveMeasure, Float64Array[]>;
  /** Generator of a measure's bootstrap: that of its interval in tables. */
  rng: (name: CurveMeasure) => Rng;
}

/** Evenly spaced values of act_ratio, ends included: by default 201 from 0 to 2. */
export function evenRatios({ from = 0, to = 2, points = 201 } = {}): number[] {
  requireRatio(from, "from");
  requireRatio(to, "to");
  if (!Number.isInteger(points) || points < 2 || to <= from) {
    throw new RefusedInput("a range of act_ratio cannot be used", {
      where: "from, to, points",
      found: { from, to, points },
      expected: "from below to, and at least 2 points",
    });
  }
  const digits = 12; // 0.55 and not 0.55000000000000004: values read as they are written
  return Array.from({ length: points }, (_, i) => Number((from + ((to - from) * i) / (points - 1)).toFixed(digits)));
}

/** @throws {RefusedInput} for a run without a router, or values that no threshold can be multiplied by */
export function ratioScores(run: ScoredRun, ratios: readonly number[]): RatioScores {
  const { own, ...router } = routerOf(run.protocol);
  const rising = [...new Set(ratios.map((ratio) => requireRatio(ratio)))].sort((a, b) => a - b);
  const options = [...rising, own].map((ratio) => ({ ...run.protocol.options, [router.option]: ratio }));
  const rows: RatioScores["rows"] = { rewrite: [], rephrase: [], locality: [], average: [] };
  for (const scored of run.scores) {
    const record = { ...scored, portability: [] }; // has no curve: nothing to decide
    const under = options.map((at) => recordUnder(record, router, at));
    for (const name of curveMeasures) {
      const values = under.map((one) => measures[name](one));
      if (values[0] !== null) rows[name].push(Float64Array.from(values as number[]));
    }
  }
  const rng = (name: CurveMeasure) => createRng(run.protocol.seed).fork("bootstrap", name);
  return { ratios: rising, own, rows, rng };
}

/** Means at each act_ratio, and last at the run's own, with 95% bootstrap intervals over records. */
export function intervalsAlong(rows: readonly Float64Array[], resampled: readonly Float64Array[]): Interval[] {
  const places = rows[0]?.length ?? 0;
  return Array.from({ length: places }, (_, place) => ({
    mean: mean(valuesAt(rows, place)),
    ...percentileEnds(valuesAt(resampled, place)),
    n: rows.length,
  }));
}

/** Resampled means of a measure at each act_ratio, and last at the run's own. */
export function resampledAlong({ rows, rng }: RatioScores, name: CurveMeasure): Float64Array[] {
  return resampledMeans(rows[name], { rng: rng(name) });
}

/** One column of a table of rows. */
export function valuesAt(rows: readonly Float64Array[], place: number): number[] {
  return rows.map((row) => row[place] as number);
}
