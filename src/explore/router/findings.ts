import type { Interval } from "../../core/stats.js";
import type { RouterExploration } from "./exploreRouter.js";
import type { RocPoint } from "./routerRoc.js";

/** Findings of an exploration of a router's option, in sentences. */
export function routerFindings(exploration: RouterExploration): string[] {
  const { roc } = exploration;
  const areas = (["both", "rewrite", "rephrase"] as const).flatMap((scope) => {
    const area = roc.auc[scope];
    return area ? [`${scope === "both" ? "" : `${scope} alone `}${interval(area, 4)}`] : []; // routers come close to 1
  });
  return [
    usage(exploration),
    ...bestText(exploration),
    `The router tells rewrites and rephrases from unrelated prompts with AUC ${areas.join(", ")}.`,
  ];
}

/** Text on the prompts that an edit answers as the run was made: scores alone do not show it. */
function usage({ run, own, option, roc }: RouterExploration): string {
  const { rewrite, rephrase, locality } = own.toEdit;
  if (rewrite + rephrase > 0) {
    const never = locality === 1 && rewrite === 1 && rephrase === 1 ? " The untouched model is never asked." : "";
    return `At ${option.key} ${own.value} an edit answers ${percent(rewrite)} of rewrites, ${percent(rephrase)} of rephrases and ${percent(locality)} of unrelated prompts.${never}`;
  }
  const probes = run.scores.reduce((count, { rephrase }) => count + (rephrase ? 2 : 1), 0);
  const from = (share: number) =>
    turnText(
      roc.points.find(({ inScope }) => inScope > 0 && inScope >= share),
      option,
    );
  return `No edit is ever used at ${option.key} ${own.value}: the untouched model answers all ${probes} rewrites and rephrases. An edit answers the first of them at ${from(0)}, half of them at ${from(0.5)}.`;
}

function bestText({ own, best, option }: RouterExploration): string[] {
  const stretch = best.from === best.to ? `at ${best.value}` : `from ${best.from} to ${best.to}`;
  const lead = `Avg is largest ${stretch}: ${interval(best.average)}, against ${interval(own.average)} at ${own.value}. Resampled sets of records have theirs between ${best.low} and ${best.high} (95%).`;
  if (best.gain.mean === 0) return [`${lead} No ${option.key} looked at does better than the run's own.`];
  const halves = best.halves
    ? ` Chosen on one half of the records and measured on the other, it gains ${signed(best.halves.gain)}.`
    : "";
  return [
    lead,
    `It gains ${signed(best.gain.mean)} [${signed(best.gain.low)}, ${signed(best.gain.high)}] over the run's own, which is too good: it was chosen on the records it is measured on.${halves}`,
  ];
}

/** The values at which a point's probes are answered, rounded to that side. */
function turnText(point: RocPoint | undefined, { answers }: RouterExploration["option"]): string {
  if (point === undefined) return "no value";
  const [round, side] = answers === "below" ? ([Math.floor, "below"] as const) : ([Math.ceil, "above"] as const);
  return `${(round(point.value * 1000) / 1000).toFixed(3)} and ${side}`;
}

function interval({ mean, low, high }: Interval, digits = 3): string {
  return `${mean.toFixed(digits)} [${low.toFixed(digits)}, ${high.toFixed(digits)}]`;
}

function signed(value: number): string {
  return `${value < 0 ? "-" : "+"}${Math.abs(value).toFixed(3)}`;
}

/** Never 0% or 100% for what only rounds to it. */
function percent(share: number): string {
  if (share === 0 || share === 1) return `${100 * share}%`;
  return `${Math.min(Math.max(100 * share, 0.1), 99.9).toFixed(1)}%`;
}
