import type { DataFrame } from "danfojs-node";
import type { Interval } from "../core/stats.js";
import type { ActRatioExploration } from "../explore/exploreActRatio.js";
import { curveKinds, curveMeasures, type RatioPoint } from "../explore/ratioScores.js";
import type { RouterRoc } from "../explore/routerRoc.js";
import type { ScoredRun } from "../run/types.js";
import { type FormatOptions, intervalText, scoreHeads, spoken } from "./format.js";
import { differences, fieldOf } from "./protocols.js";
import { type Cell, frameOf, type Row, rowsOf } from "./tables.js";

/** What tells runs apart, as people say it: T, how memories are kept, and every other field in which one differs. */
export function runNames(runs: readonly ScoredRun[]): string[] {
  const [first] = runs;
  const others = runs.flatMap((run) => differences((first as ScoredRun).protocol, run.protocol, ["T", "backend"]));
  const fields = [...new Set(["T", "options.retrieve", ...others.map(({ field }) => field)])];
  return runs.map(({ protocol }) =>
    fields
      .filter((field) => fieldOf(protocol, field) !== undefined)
      .map((field) => spoken(field, fieldOf(protocol, field)))
      .join(", "),
  );
}

/**
 * One row per act_ratio: means with their 95% bootstrap intervals over records (NAME, NAMELow, NAMEHigh), and the share of
 * each kind of prompt that a memory answers (NAMEToMemory).
 */
export function ratiosFrame(points: readonly RatioPoint[]): DataFrame {
  const rows = points.map(
    (point): Row => ({
      actRatio: point.ratio,
      ...Object.assign({}, ...curveMeasures.map((name) => intervalCells(name, point[name]))),
      ...Object.fromEntries(curveKinds.map((kind) => [`${kind}ToMemory`, point.toMemory[kind]])),
    }),
  );
  return frameOf(rows, "values of act_ratio");
}

/** The same for reading: a mean and its interval in one cell. */
export function ratiosView(points: readonly RatioPoint[], { digits = 3 }: FormatOptions = {}): DataFrame {
  const rows = rowsOf(ratiosFrame(points)).map(
    (row): Row => ({
      act_ratio: String(row.actRatio),
      ...Object.fromEntries(curveMeasures.map((name) => [scoreHeads[name], intervalText(row, name, digits)])),
      "To memory rew / reph / loc": curveKinds.map((kind) => (row[`${kind}ToMemory`] as number).toFixed(2)).join(" / "),
    }),
  );
  return frameOf(rows, "values of act_ratio");
}

/**
 * One row per run: its own act_ratio and Avg there, the best one and Avg there, the range of the best value over resampled
 * records, what it gains over the run's own, measured on the same records and on halves that it was not chosen on, and AUC.
 */
export function bestRatiosFrame(explorations: readonly ActRatioExploration[]): DataFrame {
  const names = runNames(explorations.map(({ run }) => run));
  const rows = explorations.map(
    ({ own, best, roc }, i): Row => ({
      run: names[i] as string,
      own: own.ratio,
      ...intervalCells("ownAverage", own.average),
      best: best.ratio,
      bestFrom: best.from,
      bestTo: best.to,
      bestLow: best.low,
      bestHigh: best.high,
      ...intervalCells("bestAverage", best.average),
      ...intervalCells("gain", best.gain),
      halvesGain: best.halves?.gain ?? null,
      ...intervalCells("auc", roc.auc.both),
      ...intervalCells("rewriteAuc", roc.auc.rewrite),
      ...intervalCells("rephraseAuc", roc.auc.rephrase),
    }),
  );
  return frameOf(rows, "runs");
}

/** The same for reading. */
export function bestRatiosView(
  explorations: readonly ActRatioExploration[],
  { digits = 3 }: FormatOptions = {},
): DataFrame {
  const text = (cell: Cell | undefined) => (typeof cell === "number" ? cell.toFixed(digits) : "-");
  const rows = rowsOf(bestRatiosFrame(explorations)).map(
    (row): Row => ({
      run: row.run ?? null,
      "own act_ratio": String(row.own),
      "Avg there": intervalText(row, "ownAverage", digits),
      "best act_ratio": `${row.best} [${row.bestLow}, ${row.bestHigh}]`,
      "Avg at best": intervalText(row, "bestAverage", digits),
      gain: intervalText(row, "gain", digits),
      "gain, other half": text(row.halvesGain),
      AUC: intervalText(row, "auc", digits),
    }),
  );
  return frameOf(rows, "runs");
}

/** One row per point of the router's ROC, act_ratio falling; it is null at the first, where no memory answers. */
export function rocFrame({ points }: RouterRoc): DataFrame {
  const rows = points.map(({ ratio, ...shares }) => ({ actRatio: Number.isFinite(ratio) ? ratio : null, ...shares }));
  return frameOf(rows, "points of the ROC");
}

function intervalCells(name: string, interval: Interval | undefined): Row {
  return {
    [name]: interval?.mean ?? null,
    [`${name}Low`]: interval?.low ?? null,
    [`${name}High`]: interval?.high ?? null,
  };
}
