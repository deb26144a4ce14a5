import { RefusedInput } from "../../core/errors.js";
import { createRng, type Rng } from "../../core/rng.js";
import { type Interval, mean, percentileEnds, resampledMeans } from "../../core/stats.js";
import type { InferenceOption } from "../../edit/contract.js";
import type { Options } from "../../edit/option-table.js";
import { MAIN } from "../../edit/overlay.js";
import { methodNamed } from "../../edit/registry.js";
import { measures, probesOf } from "../../run/measures.js";
import type { ScoredRecord, ScoredRun } from "../../run/types.js";
import { recordUnder } from "../recordUnder.js";
import { inferenceOf, requireValue } from "./router.js";

/** Measures that the paper's tables average, and their average. */
export const curveMeasures = ["rewrite", "rephrase", "locality", "average"] as const;
export type CurveMeasure = (typeof curveMeasures)[number];

/** The probes that the router's option is weighed on. */
export const curveKinds = ["rewrite", "rephrase", "locality"] as const satisfies readonly CurveMeasure[];
export type CurveKind = (typeof curveKinds)[number];

/** Scores of single records over the router's inference-only option, as reruns would give them. */
export interface RouterScores {
  /** The option. */
  key: string;
  /** The values looked at, rising, and behind them the run's own, which need not be among them. */
  values: readonly number[];
  /** A row per record that has the measure, a number per value of the option. */
  rows: Record<CurveMeasure, Float64Array[]>;
  /** Share of the probes that an edit answers, at each value. */
  toEdit: Record<CurveKind, number[]>;
  /** Generator of a measure's bootstrap: that of its interval in tables. */
  rng: (name: CurveMeasure) => Rng;
}

/** Evenly spaced values of a router's option, ends included: by default 201 from 0 to 2. */
export function evenValues({ from = 0, to = 2, points = 201 } = {}): number[] {
  requireValue(from, "from");
  requireValue(to, "to");
  if (!Number.isInteger(points) || points < 2 || to <= from) {
    throw new RefusedInput("a range of values cannot be used", {
      where: "from, to, points",
      found: { from, to, points },
      expected: "from below to, and at least 2 points",
    });
  }
  const digits = 12; // 0.55 and not 0.55000000000000004: values read as they are written
  return Array.from({ length: points }, (_, i) => Number((from + ((to - from) * i) / (points - 1)).toFixed(digits)));
}

/**
 * @param method the run's
 * @throws {RefusedInput} as `inferenceOf`, for values that a router cannot decide under, and for no record with all of
 *   rewrite, rephrase and locality
 */
export function routerScores(
  run: ScoredRun,
  chosen: readonly number[],
  method = methodNamed(run.protocol.method),
): RouterScores {
  const { own, ...option } = inferenceOf(run.protocol, method);
  const { key } = option;
  const rising = [...new Set(chosen.map((value) => requireValue(value, key)))].sort((a, b) => a - b);
  const values = [...rising, own];
  const options = values.map((value) => ({ ...run.protocol.options, [key]: value }));
  const rows: RouterScores["rows"] = { rewrite: [], rephrase: [], locality: [], average: [] };
  const answered = mapOf(curveKinds, () => new Float64Array(values.length));
  const probes = mapOf(curveKinds, () => 0);
  for (const record of run.scores) {
    const seen = seenUnderEach(record, option, options);
    for (const name of curveMeasures) {
      if (seen[0]?.scores[name] !== null)
        rows[name].push(Float64Array.from(seen, ({ scores }) => scores[name] as number));
    }
    for (const kind of curveKinds) {
      probes[kind] += probesOf(record, kind).length;
      for (const [place, one] of seen.entries()) (answered[kind][place] as number) += one.answered[kind];
    }
  }
  requireAverage(rows.average, key);
  const toEdit = mapOf(curveKinds, (kind) => Array.from(answered[kind], (count) => count / probes[kind]));
  const rng = (name: CurveMeasure) => createRng(run.protocol.seed).fork("bootstrap", name);
  return { key, values, rows, toEdit, rng };
}

/** Scores of a record, and how many of its probes an edit answers. */
interface Seen {
  scores: Record<CurveMeasure, number | null>;
  answered: Record<CurveKind, number>;
}

/** Scores of a record under each value of the option: the same object for as long as no probe goes elsewhere. */
function seenUnderEach(scored: ScoredRecord, option: InferenceOption, options: readonly Options[]): Seen[] {
  const record = { ...scored, portability: [], unedited: [] }; // they have no curve
  const probes = curveKinds.flatMap((kind) => probesOf(record, kind));
  let [last, routes]: [Seen?, string?] = [];
  return options.map((at) => {
    const now = probes.map(({ readings }) => option.decide(readings, at).variant).join("\n");
    if (last === undefined || now !== routes) [last, routes] = [seenOf(recordUnder(record, option, at)), now];
    return last;
  });
}

function seenOf(record: ScoredRecord): Seen {
  return {
    scores: mapOf(curveMeasures, (name) => measures[name](record)),
    answered: mapOf(curveKinds, (kind) => probesOf(record, kind).filter(({ route }) => route !== MAIN).length),
  };
}

function requireAverage(rows: readonly Float64Array[], key: string): void {
  if (rows.length > 0) return;
  throw new RefusedInput(`there is no Avg. to weigh values of ${key} by`, {
    where: "scores of the run",
    found: "no record with rewrite, rephrase and locality",
    expected: "at least one",
  });
}

/** Mean scores of a run at a value of the router's option, with 95% bootstrap intervals over records. */
export interface RouterPoint extends Record<CurveMeasure, Interval> {
  /** The option. */
  key: string;
  value: number;
  /** Shares of the probes that an edit answers. */
  toEdit: Record<CurveKind, number>;
}

/** Means at each value, and resampled means of each measure along them. */
export function pointsOf(scores: RouterScores): {
  points: RouterPoint[];
  resampled: Record<CurveMeasure, Float64Array[]>;
} {
  const { key, values, rows, toEdit, rng } = scores;
  const resampled = mapOf(curveMeasures, (name) => resampledMeans(rows[name], { rng: rng(name) }));
  const points = values.map((value, place) => ({
    key,
    value,
    ...mapOf(curveMeasures, (name) => ({
      mean: mean(numbersAt(rows[name], place)),
      ...percentileEnds(numbersAt(resampled[name], place)),
      n: rows[name].length,
    })),
    toEdit: mapOf(curveKinds, (kind) => toEdit[kind][place] as number),
  }));
  return { points, resampled };
}

/**
 * Mean scores of a run at chosen values of the router's option, rising: by arithmetic, equal to reruns.
 * @throws {RefusedInput} as `routerScores`
 */
export function routerPoints(run: ScoredRun, values: readonly number[]): RouterPoint[] {
  return pointsOf(routerScores(run, values)).points.slice(0, -1);
}

/** One column of a table of rows. */
export function numbersAt(rows: readonly Float64Array[], place: number): number[] {
  return rows.map((row) => row[place] as number);
}

function mapOf<K extends string, V>(keys: readonly K[], value: (key: K) => V): Record<K, V> {
  return Object.fromEntries(keys.map((key) => [key, value(key)])) as Record<K, V>;
}
