import { RefusedInput } from "../core/errors.js";
import type { Interval } from "../core/stats.js";
import type { ScoredRun } from "../run/types.js";
import { type BestRatio, bestRatio } from "./bestRatio.js";
import {
  type CurveMeasure,
  curveMeasures,
  evenRatios,
  intervalsAlong,
  ratioScores,
  resampledAlong,
} from "./ratioScores.js";
import { type RouterRoc, routerRoc } from "./routerRoc.js";

/** What act_ratio does to a run. */
export interface ActRatioExploration {
  run: ScoredRun;
  /** The values looked at, rising. */
  ratios: readonly number[];
  /** Means at each of them with 95% bootstrap intervals over records. */
  curves: Record<CurveMeasure, Interval[]>;
  /** The run as it was made. */
  own: { ratio: number } & Record<CurveMeasure, Interval>;
  best: BestRatio;
  roc: RouterRoc;
}

/**
 * Mean rewrite, rephrase, locality and Avg. over act_ratio, the best value by Avg., and the router's ROC: by arithmetic on
 * a run, or on the summary of one, with no model and no edit. Equal to reruns at each value, and seeded: the same run
 * gives the same numbers, and at its own act_ratio the intervals of its table.
 * @throws {RefusedInput} for a run without a router, a negative value, or records without rewrite, rephrase and locality
 */
export function exploreActRatio(run: ScoredRun, ratios: readonly number[] = evenRatios()): ActRatioExploration {
  const scores = ratioScores(run, ratios);
  if (scores.rows.average.length === 0) {
    throw new RefusedInput("there is no Avg. to weigh values of act_ratio by", {
      where: "scores of the run",
      found: "no record with rewrite, rephrase and locality",
      expected: "at least one",
    });
  }
  const along = (name: CurveMeasure) => {
    const resampled = resampledAlong(scores, name);
    return { intervals: intervalsAlong(scores.rows[name], resampled), resampled };
  };
  const all = Object.fromEntries(curveMeasures.map((name) => [name, along(name)])) as Record<
    CurveMeasure,
    ReturnType<typeof along>
  >;
  const pick = <T>(value: (intervals: Interval[]) => T) =>
    Object.fromEntries(curveMeasures.map((name) => [name, value(all[name].intervals)])) as Record<CurveMeasure, T>;
  return {
    run,
    ratios: scores.ratios,
    curves: pick((intervals) => intervals.slice(0, -1)),
    own: { ratio: scores.own, ...pick((intervals) => intervals.at(-1) as Interval) },
    best: bestRatio(scores, all.average),
    roc: routerRoc(run),
  };
}
