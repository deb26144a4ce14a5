import type { Interval } from "../core/stats.js";
import type { ActRatioExploration } from "./exploreActRatio.js";
import { probeReaches } from "./routerRoc.js";

/** What an exploration of act_ratio found, in sentences. */
export function actRatioFindings(exploration: ActRatioExploration): string[] {
  const { roc } = exploration;
  const areas = (["both", "rewrite", "rephrase"] as const).flatMap((scope) => {
    const area = roc.auc[scope];
    return area ? [`${scope === "both" ? "" : `${scope} alone `}${interval(area, 4)}`] : []; // routers come close to 1
  });
  return [
    usage(exploration),
    ...bestValue(exploration),
    `The router tells rewrites and rephrases from unrelated prompts with AUC ${areas.join(", ")}.`,
  ];
}

/** Which prompts a memory answers as the run was made: scores alone do not show it. */
function usage({ run, own }: ActRatioExploration): string {
  const { rewrite, rephrase, locality } = own.toMemory;
  if (rewrite + rephrase > 0) {
    const never = locality === 1 && rewrite === 1 && rephrase === 1 ? " The untouched model is never asked." : "";
    return `At act_ratio ${own.ratio} a memory answers ${percent(rewrite)} of rewrites, ${percent(rephrase)} of rephrases and ${percent(locality)} of unrelated prompts.${never}`;
  }
  const reaches = probeReaches(run)
    .filter(({ kind }) => kind !== "locality")
    .map(({ reach }) => reach)
    .sort((a, b) => b - a);
  const [first, middle] = [reaches[0], reaches[Math.floor((reaches.length - 1) / 2)]] as [number, number];
  return `No edit is ever used at act_ratio ${own.ratio}: the untouched model answers all ${reaches.length} rewrites and rephrases. A memory answers the first of them at ${below(first)}, half of them at ${below(middle)}.`;
}

function bestValue({ own, best }: ActRatioExploration): string[] {
  const stretch = best.from === best.to ? `at ${best.ratio}` : `from ${best.from} to ${best.to}`;
  const lead = `Avg is largest ${stretch}: ${interval(best.average)}, against ${interval(own.average)} at ${own.ratio}. Resampled sets of records have theirs between ${best.low} and ${best.high} (95%).`;
  if (best.gain.mean === 0) return [`${lead} No act_ratio looked at does better than the run's own.`];
  const halves = best.halves
    ? ` Chosen on one half of the records and measured on the other, it gains ${signed(best.halves.gain)}.`
    : "";
  return [
    lead,
    `It gains ${signed(best.gain.mean)} [${signed(best.gain.low)}, ${signed(best.gain.high)}] over the run's own, which is too good: it was chosen on the records it is measured on.${halves}`,
  ];
}

function below(ratio: number): string {
  return `${(Math.floor(ratio * 1000) / 1000).toFixed(3)} and below`; // rounded down: at this value it is answered
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
