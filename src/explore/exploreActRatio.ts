import type { ScoredRun } from "../run/types.js";
import { type BestRatio, bestRatio } from "./bestRatio.js";
import { evenRatios, pointsOf, type RatioPoint, ratioScores } from "./ratioScores.js";
import { type RouterRoc, routerRoc } from "./routerRoc.js";

/** What act_ratio does to a run. */
export interface ActRatioExploration {
  run: ScoredRun;
  /** The values looked at, rising. */
  points: RatioPoint[];
  /** The run as it was made. */
  own: RatioPoint;
  best: BestRatio;
  roc: RouterRoc;
}

/**
 * Rewrite, rephrase, locality and Avg. over act_ratio, the best value by Avg., and the router's ROC: by arithmetic on a
 * run, or on the summary of one, with no model and no edit. Equal to reruns at each value, and seeded: the same run
 * gives the same numbers, and at its own act_ratio the intervals of its table.
 * @param ratios by default 201 values from 0 to 2
 * @throws {RefusedInput} for a run without a router, an act_ratio below 0, or no record with rewrite, rephrase and locality
 */
export function exploreActRatio(run: ScoredRun, ratios: readonly number[] = evenRatios()): ActRatioExploration {
  const scores = ratioScores(run, ratios);
  const { points, resampled } = pointsOf(scores);
  return {
    run,
    points: points.slice(0, -1),
    own: points.at(-1) as RatioPoint,
    best: bestRatio(scores, { points, resampled: resampled.average }),
    roc: routerRoc(run),
  };
}
