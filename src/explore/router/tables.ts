import type { DataFrame } from "danfojs-node";
import type { Interval } from "../../core/stats.js";
import type { ScoredRun } from "../../run/types.js";
import { intervalText, scoreHeads, spoken, spokenOptions } from "../../tables/format.js";
import { differences, fieldOf } from "../../tables/protocols.js";
import type { Cell, FormatOptions } from "../../tables/readable.js";
import { frameOf, type Row, rowsOf } from "../../tables/tables.js";
import type { RouterExploration } from "./exploreRouter.js";
import type { RouterRoc } from "./routerRoc.js";
import { curveKinds, curveMeasures, type RouterPoint } from "./routerScores.js";

/** Names that tell runs apart: T, options that their method has words for, and every other field in which one differs. */
export function runNames(runs: readonly ScoredRun[]): string[] {
  const [first] = runs;
  const others = runs.flatMap((run) => differences((first as ScoredRun).protocol, run.protocol, ["T", "backend"]));
  const fields = [...new Set(["T", ...spokenOptions.keys(), ...others.map(({ field }) => field)])];
  return runs.map(({ protocol }) =>
    fields
      .filter((field) => fieldOf(protocol, field) !== undefined)
      .map((field) => spoken(field, fieldOf(protocol, field)))
      .join(", "),
  );
}

/**
 * One row per value of the router's inference-only option, which names its column: means with their 95% bootstrap intervals
 * over records (NAME, NAMELow, NAMEHigh), and the share of each kind of prompt that an edit answers (NAMEToEdit).
 * @param points of one option
 */
export function routerFrame(points: readonly RouterPoint[]): DataFrame {
  return frameOf(routerRows(points), "values of the option");
}

/** The rows of `routerFrame`. */
export function routerRows(points: readonly RouterPoint[]): Row[] {
  return points.map(
    (point): Row => ({
      [point.key]: point.value,
      ...Object.assign({}, ...curveMeasures.map((name) => intervalCells(name, point[name]))),
      ...Object.fromEntries(curveKinds.map((kind) => [`${kind}ToEdit`, point.toEdit[kind]])),
    }),
  );
}

/** The same for reading: a mean and its interval in one cell. */
export function routerView(points: readonly RouterPoint[], { digits = 3 }: FormatOptions = {}): DataFrame {
  const rows = routerRows(points).map(
    (row, i): Row => ({
      [points[i]?.key as string]: String(points[i]?.value),
      ...Object.fromEntries(curveMeasures.map((name) => [scoreHeads[name], intervalText(row, name, digits)])),
      "Edit answers rew / reph / loc": curveKinds
        .map((kind) => (row[`${kind}ToEdit`] as number).toFixed(2))
        .join(" / "),
    }),
  );
  return frameOf(rows, "values of the option");
}

/**
 * One row per run: its router's option, its own value and Avg there, the best one and Avg there, the range of the best value
 * over resampled records, what it gains over the run's own, measured on the same records and on halves that it was not chosen
 * on, and AUC.
 */
export function bestValuesFrame(explorations: readonly RouterExploration[]): DataFrame {
  const names = runNames(explorations.map(({ run }) => run));
  const rows = explorations.map(
    ({ own, best, roc, option }, i): Row => ({
      run: names[i] as string,
      option: option.key,
      own: own.value,
      ...intervalCells("ownAverage", own.average),
      best: best.value,
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
export function bestValuesView(
  explorations: readonly RouterExploration[],
  { digits = 3 }: FormatOptions = {},
): DataFrame {
  const text = (cell: Cell | undefined) => (typeof cell === "number" ? cell.toFixed(digits) : "-");
  const rows = rowsOf(bestValuesFrame(explorations)).map(
    (row): Row => ({
      run: row.run ?? null,
      option: row.option ?? null,
      own: String(row.own),
      "Avg there": intervalText(row, "ownAverage", digits),
      best: `${row.best} [${row.bestLow}, ${row.bestHigh}]`,
      "Avg at best": intervalText(row, "bestAverage", digits),
      gain: intervalText(row, "gain", digits),
      "gain, other half": text(row.halvesGain),
      AUC: intervalText(row, "auc", digits),
    }),
  );
  return frameOf(rows, "runs");
}

/** One row per point of the router's ROC; the option's value is null at the first, where no edit answers. */
export function rocFrame({ points }: RouterRoc): DataFrame {
  const rows = points.map(({ value, ...shares }) => ({ value: Number.isFinite(value) ? value : null, ...shares }));
  return frameOf(rows, "points of the ROC");
}

function intervalCells(name: string, interval: Interval | undefined): Row {
  return {
    [name]: interval?.mean ?? null,
    [`${name}Low`]: interval?.low ?? null,
    [`${name}High`]: interval?.high ?? null,
  };
}
