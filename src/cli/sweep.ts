import { RefusedInput } from "../core/errors.js";
import { canonicalJson } from "../core/hash.js";
import { formatDuration } from "../notebook/progress.js";
import { parsePart } from "../run/blocks.js";
import { scoringOf } from "../run/request.js";
import { runSweep, type SweepOptions, type SweepPoint, type SweepProgress, type SweepRun } from "../run/sweep.js";
import type { RunResult } from "../run/types.js";
import { byMetrics } from "../run/under-metric.js";
import { renderSummary } from "../tables/format.js";
import { createProgressLine, labOptionsOf, type RunArguments } from "./run.js";

/** Options that the runs of a sweep share, as the command line gives them. */
export type SharedArguments = Partial<Omit<RunArguments, "T" | "out" | "part">>;

/** Options of `wise-lab sweep`, as the command line gives them. */
export interface SweepArguments extends SharedArguments {
  T: string[];
  grid?: string[];
  workers?: number;
  /** As "3/6". */
  part?: string;
  out: string;
}

/** `wise-lab sweep`. Prints a progress line and the table, one row per point. @returns the exit status */
export async function sweepCommand(options: SweepArguments, signal: AbortSignal): Promise<number> {
  const { T, grid = [], workers, part, out, ...shared } = options;
  const axes = grid.map(readAxis);
  refuseRepeatedKeys(axes, shared.set ?? []);
  const work = { out, workers, part: part === undefined ? undefined : parsePart(part), signal };
  const runs = await runShownSweep(gridPoints(T, axes), sweepRunOf(shared), work);
  const shown = byMetrics(runs);
  console.log(renderSummary(shown.runs, "text", { allow: ["T", ...differingOptions(runs), ...shown.differ] }));
  console.log(`run folders: ${out}`);
  return 0;
}

/** The same as a sweep takes them. */
export function sweepRunOf(options: SharedArguments): SweepRun {
  const { data, irrelevant, limit, when, scoreSteps } = options;
  return { ...labOptionsOf(options), data, irrelevant, limit, when, scoreSteps, ...scoringOf(options) };
}

/** Runs a sweep with one progress line on stderr. */
export function runShownSweep(
  points: readonly SweepPoint[],
  shared: SweepRun,
  options: Pick<SweepOptions, "out" | "workers" | "part" | "signal">,
): Promise<RunResult[]> {
  return showSweep((shown) => runSweep(points, shared, { ...options, ...shown }));
}

/** One progress line and notices, on stderr, for work that is a sweep. */
export async function showSweep<R>(
  work: (shown: Pick<SweepOptions, "onProgress" | "onNotice">) => Promise<R>,
): Promise<R> {
  const line = createProgressLine();
  try {
    return await work({
      onProgress: (progress) => line.show(progressText(progress), progress.finished === progress.points),
      onNotice: (notice) => console.error(notice),
    });
  } finally {
    line.end();
  }
}

function progressText({ points, finished, edited, scored, records, seconds, secondsLeft }: SweepProgress): string {
  const left = secondsLeft === null ? "" : `, ${formatDuration(secondsLeft * 1000)} left`;
  const spent = formatDuration(seconds * 1000);
  return `finished ${finished}/${points}  edited ${edited}/${records}  scored ${scored}/${records}  ${spent}${left}`;
}

/** One key of the grid with its values, as they were written. */
interface Axis {
  key: string;
  values: string[];
}

/** Reads `key=value,value`; a comma inside brackets belongs to its value. */
function readAxis(text: string): Axis {
  const equals = text.indexOf("=");
  const key = text.slice(0, Math.max(0, equals)).trim();
  const values = text.slice(equals + 1).split(/,(?![^[]*\])/);
  const cleaned = values.map((value) => value.trim());
  if (key !== "" && cleaned.every((value) => value !== "")) return { key, values: cleaned };
  throw new RefusedInput("a grid axis is not understood", {
    where: "--grid",
    found: text,
    expected: "key=value,value,... without empty values",
  });
}

function refuseRepeatedKeys(axes: readonly Axis[], set: readonly string[]): void {
  const given = [...set.map((setting) => (setting.split("=")[0] as string).trim()), ...axes.map(({ key }) => key)];
  const twice = axes.find(({ key }) => given.indexOf(key) !== given.lastIndexOf(key));
  if (twice === undefined) return;
  throw new RefusedInput("a hyperparameter is given twice", {
    where: "--grid",
    found: twice.key,
    expected: "each key in one --grid, and not in --set as well",
  });
}

/**
 * Every T with every combination of values, the last axis fastest. A point is named after what makes it, in characters
 * that file names may have: "T10,steps=20,margins=0.5-4-2".
 */
function gridPoints(Ts: readonly string[], axes: readonly Axis[]): SweepPoint[] {
  let settings: string[][] = [[]];
  for (const { key, values } of axes) {
    settings = settings.flatMap((before) => values.map((value) => [...before, `${key}=${value}`]));
  }
  return Ts.flatMap((T) => settings.map((set) => ({ name: [`T${T}`, ...set].map(fileName).join(","), T, set })));
}

function fileName(setting: string): string {
  return setting
    .replaceAll(/[[\]\s"']/g, "")
    .replaceAll(",", "-")
    .replaceAll(/[^\w.=+-]/g, "_");
}

/** Options that are not the same in all runs, as fields of the protocol. */
function differingOptions(runs: readonly RunResult[]): string[] {
  const [first] = runs;
  return Object.keys(first?.protocol.options ?? {})
    .filter((name) => new Set(runs.map(({ protocol }) => canonicalJson(protocol.options[name]))).size > 1)
    .map((name) => `options.${name}`);
}
