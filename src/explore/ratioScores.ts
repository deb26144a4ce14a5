import { RefusedInput } from "../core/errors.js";
import { createRng, type Rng } from "../core/rng.js";
import { type Interval, mean, percentileEnds, resampledMeans } from "../core/stats.js";
import { measures, probesOf } from "../run/measures.js";
import type { ScoredRecord, ScoredRun } from "../run/types.js";
import { recordUnder } from "./actRatio.js";
import { requireRatio, routerOf } from "./router.js";

/** What the paper's tables average, and their average. */
export const curveMeasures = ["rewrite", "rephrase", "locality", "average"] as const;
export type CurveMeasure = (typeof curveMeasures)[number];

/** The probes that act_ratio is weighed on. */
export const curveKinds = ["rewrite", "rephrase", "locality"] as const satisfies readonly CurveMeasure[];
export type CurveKind = (typeof curveKinds)[number];

/** Scores of single records over act_ratio, as reruns would give them. */
export interface RatioScores {
  /** The values looked at, rising, and behind them the run's own, which need not be among them. */
  ratios: readonly number[];
  /** A row per record that has the measure, a value per act_ratio. */
  rows: Record<CurveMeasure, Float64Array[]>;
  /** Share of the probes that a memory answers, at each act_ratio. */
  toMemory: Record<CurveKind, number[]>;
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

/**
 * @throws {RefusedInput} for a run without a router, values that no threshold can be multiplied by, or no record with all
 *   of rewrite, rephrase and locality
 */
export function ratioScores(run: ScoredRun, values: readonly number[]): RatioScores {
  const { own, ...router } = routerOf(run.protocol);
  const rising = [...new Set(values.map((ratio) => requireRatio(ratio)))].sort((a, b) => a - b);
  const ratios = [...rising, own];
  const options = ratios.map((ratio) => ({ ...run.protocol.options, [router.option]: ratio }));
  const rows: RatioScores["rows"] = { rewrite: [], rephrase: [], locality: [], average: [] };
  const counts = createCounts(ratios.length);
  for (const scored of run.scores) {
    const record = { ...scored, portability: [] }; // has no curve: nothing to decide
    const under = options.map((at) => recordUnder(record, router, at));
    for (const [place, one] of under.entries()) counts.add(place, one);
    for (const name of curveMeasures) {
      const scores = under.map((one) => measures[name](one));
      if (scores[0] !== null) rows[name].push(Float64Array.from(scores as number[]));
    }
  }
  requireAverage(rows.average);
  const rng = (name: CurveMeasure) => createRng(run.protocol.seed).fork("bootstrap", name);
  return { ratios, rows, toMemory: counts.shares(), rng };
}

/** Counts probes, and those of them that a memory answers, at each of so many values. */
function createCounts(places: number) {
  const counts = curveKinds.map((kind) => ({ kind, probes: 0, answered: new Array<number>(places).fill(0) }));
  return {
    add(place: number, record: ScoredRecord): void {
      for (const count of counts) {
        const probes = probesOf(record, count.kind);
        const answered = probes.filter(({ route }) => route !== "main").length;
        count.answered[place] = (count.answered[place] as number) + answered;
        if (place === 0) count.probes += probes.length;
      }
    },
    shares(): RatioScores["toMemory"] {
      const shares = counts.map(({ kind, probes, answered }) => [kind, answered.map((count) => count / probes)]);
      return Object.fromEntries(shares) as RatioScores["toMemory"];
    },
  };
}

function requireAverage(rows: readonly Float64Array[]): void {
  if (rows.length > 0) return;
  throw new RefusedInput("there is no Avg. to weigh values of act_ratio by", {
    where: "scores of the run",
    found: "no record with rewrite, rephrase and locality",
    expected: "at least one",
  });
}

/** What a run scores at an act_ratio, with 95% bootstrap intervals over records. */
export interface RatioPoint extends Record<CurveMeasure, Interval> {
  ratio: number;
  /** Shares of the probes that a memory answers. */
  toMemory: Record<CurveKind, number>;
}

/** Means at each act_ratio, and resampled means of each measure along them. */
export function pointsOf(scores: RatioScores): {
  points: RatioPoint[];
  resampled: Record<CurveMeasure, Float64Array[]>;
} {
  const { ratios, rows, toMemory, rng } = scores;
  const resampled = mapOf(curveMeasures, (name) => resampledMeans(rows[name], { rng: rng(name) }));
  const points = ratios.map((ratio, place) => ({
    ratio,
    ...mapOf(curveMeasures, (name) => ({
      mean: mean(valuesAt(rows[name], place)),
      ...percentileEnds(valuesAt(resampled[name], place)),
      n: rows[name].length,
    })),
    toMemory: mapOf(curveKinds, (kind) => toMemory[kind][place] as number),
  }));
  return { points, resampled };
}

/**
 * What a run scores at chosen values of act_ratio, rising: by arithmetic, equal to reruns.
 * @throws {RefusedInput} as `ratioScores`
 */
export function ratioPoints(run: ScoredRun, ratios: readonly number[]): RatioPoint[] {
  return pointsOf(ratioScores(run, ratios)).points.slice(0, -1);
}

/** One column of a table of rows. */
export function valuesAt(rows: readonly Float64Array[], place: number): number[] {
  return rows.map((row) => row[place] as number);
}

function mapOf<K extends string, V>(keys: readonly K[], value: (key: K) => V): Record<K, V> {
  return Object.fromEntries(keys.map((key) => [key, value(key)])) as Record<K, V>;
}
