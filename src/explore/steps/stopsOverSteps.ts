import { RefusedInput } from "../../core/errors.js";
import { TARGET_STOPS } from "../../edit/target-stop.js";
import type { Figure } from "../../figures/figure.js";
import { scoresInPanels } from "../../figures/panels.js";
import { subtitleOf } from "../../figures/subtitle.js";
import type { FigureOptions } from "../../figures/theme.js";
import type { RunResult, ScoredRun } from "../../run/types.js";
import { requireAlike } from "../../tables/protocols.js";
import { summaryRows } from "../../tables/tables.js";
import { stepsField, stepsKey, stepsOf } from "./tables.js";

/**
 * Rewrite, rephrase and locality over the step limit, a small panel for each stop behind the targets.
 * @param runs by one metric, the same step limits for every stop
 * @throws {RefusedInput} when they differ in more than these two, or a run is missing
 */
export function stopsOverSteps(runs: readonly (ScoredRun | RunResult)[], options: FigureOptions = {}): Figure {
  const allow = [...stepsField(runs), "targetStop"];
  requireAlike(runs, allow);
  const limits = [...new Set(runs.map(stepsOf))].sort((a, b) => a - b);
  const stops = TARGET_STOPS.filter((stop) => runs.some(({ protocol }) => protocol.targetStop === stop));
  const groups = stops.map((stop) => {
    const own = limits.map((limit) => runOf(runs, stop, limit));
    return { name: stop === "none" ? "no stop" : `stop ${stop}`, rows: summaryRows(own, { allow }) };
  });
  const title = `Steps per edit ${stepsKey(runs[0] as ScoredRun)} (marks side by side)`;
  const subtitle = subtitleOf(runs);
  return scoresInPanels(groups, { uid: "stops", subtitle, ticks: limits.map(String), title, columns: 2 }, options);
}

function runOf<R extends ScoredRun | RunResult>(runs: readonly R[], stop: string, limit: number): R {
  const [found, ...others] = runs.filter((run) => run.protocol.targetStop === stop && stepsOf(run) === limit);
  if (found !== undefined && others.length === 0) return found;
  throw new RefusedInput("every stop needs one run of each step limit", {
    where: `stop ${stop}, ${limit} steps`,
    found: `${others.length + (found === undefined ? 0 : 1)} runs`,
    expected: "one run",
  });
}
