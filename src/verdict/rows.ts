import { RefusedInput } from "../core/errors.js";
import type { PublishedRow } from "../published/published.js";
import { type MeasureName, measures } from "../run/measures.js";
import type { StudyRow } from "../run/study.js";
import type { ScoredRun } from "../run/types.js";
import { underMetric } from "../run/under-metric.js";
import { requireAlike } from "../tables/protocols.js";

/** The T of all rows, smallest first; "all" last. */
export function edgesOf(rows: readonly StudyRow[]): (number | "all")[] {
  const Ts = new Set(rows.flatMap(({ runs }) => runs.map(({ protocol }) => protocol.T)));
  return [...Ts].sort((a, b) => size(a) - size(b));
}

const size = (T: number | "all") => (T === "all" ? Number.POSITIVE_INFINITY : T);

/** The run of a row at one T; none where it was not made. */
export function runAt<R extends ScoredRun>({ runs }: StudyRow<R>, T: number | "all"): R | undefined {
  return runs.find(({ protocol }) => protocol.T === T);
}

/**
 * Proves that rows may be compared: within a row the runs differ in T and in options; between rows in the method, too.
 * @throws {RefusedInput} where there is no run, two of one row and T, or runs of unlike protocols
 */
export function requireRows(rows: readonly StudyRow[]): void {
  const runs = rows.flatMap((row) => row.runs);
  const options = new Set(runs.flatMap(({ protocol }) => Object.keys(protocol.options)));
  requireAlike(runs, ["method", "T", ...[...options].map((name) => `options.${name}`)]);
  for (const row of rows) {
    requireAlike(row.runs, ["T", ...[...options].map((name) => `options.${name}`)]);
    if (new Set(row.runs.map(({ protocol }) => protocol.T)).size === row.runs.length) continue;
    throw new RefusedInput("a row has two runs of one T", {
      where: row.title,
      found: row.runs.map(({ protocol }) => `T = ${protocol.T}`).join(", "),
      expected: "one run for each T",
    });
  }
}

/** The same rows by another metric that their runs were made for. @throws {RefusedInput} where one was not */
export function rowsUnder(rows: readonly StudyRow[], metric: string): StudyRow[] {
  return rows.map(({ title, runs }) => ({ title, runs: runs.map((run) => underMetric(run, metric)) }));
}

/** A measure of every record of a run, in the order of the records; 0 where a record has none. */
export function perRecord({ scores }: ScoredRun, measure: MeasureName): number[] {
  return scores.map((score) => measures[measure](score) ?? 0);
}

/** Published rows of methods that the rows have, too: rows are matched by their title. */
export function publishedOf(rows: readonly StudyRow[], published: readonly PublishedRow[]): PublishedRow[] {
  const titles = new Set(rows.map(({ title }) => title.toLowerCase()));
  return published.filter(({ method }) => titles.has(method.toLowerCase()));
}
