import { RefusedInput } from "../../core/errors.js";
import type { InferenceOption } from "../../edit/contract.js";
import { methodNamed } from "../../edit/registry.js";
import type { ScoredRun } from "../../run/types.js";
import { isShare, metricOf } from "../../run/under-metric.js";
import { type BestValue, bestValue } from "./bestValue.js";
import { requireInference } from "./router.js";
import { type RouterRoc, routerRoc } from "./routerRoc.js";
import { evenValues, pointsOf, type RouterPoint, routerScores } from "./routerScores.js";

/** Effect of the router's inference-only option on a run. */
export interface RouterExploration {
  run: ScoredRun;
  option: Pick<InferenceOption, "key" | "answers">;
  /** The values looked at, rising. */
  points: RouterPoint[];
  /** The run as it was made. */
  own: RouterPoint;
  best: BestValue;
  roc: RouterRoc;
}

/**
 * Rewrite, rephrase, locality and Avg. over the router's inference-only option, its best value by Avg., and the router's
 * ROC: by arithmetic on a run, or on the summary of one, with no model and no edit. Equal to reruns at each value, and
 * seeded: the same run gives the same numbers, and at its own value the intervals of its table.
 * @param values by default 201 values from 0 to 2
 * @param method the run's
 * @throws {RefusedInput} for a method whose edits always answer or whose router has no such option, a value below 0, a
 *   metric whose values are no shares, so that there is no Avg. to choose by, or no record with rewrite, rephrase and locality
 */
export function exploreRouter(
  run: ScoredRun,
  values: readonly number[] = evenValues(),
  method = methodNamed(run.protocol.method),
): RouterExploration {
  const { key, answers } = requireInference(method);
  requireShares(run);
  const scores = routerScores(run, values, method);
  const { points, resampled } = pointsOf(scores);
  return {
    run,
    option: { key, answers },
    points: points.slice(0, -1),
    own: points.at(-1) as RouterPoint,
    best: bestValue(scores, { points, resampled: resampled.average }),
    roc: routerRoc(run, method),
  };
}

function requireShares(run: ScoredRun): void {
  const metric = metricOf(run);
  if (isShare(metric)) return;
  throw new RefusedInput("a value cannot be chosen by this metric", {
    where: "metric",
    found: metric.name,
    expected: "one whose values are shares from 0 to 1, which have an average: teacher-forced, free-em",
  });
}
