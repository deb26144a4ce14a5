import { RefusedInput } from "../core/errors.js";
import { type PublishedRow, sameMethod } from "../published/published.js";
import { requireOneTable } from "../published/publishedOverT.js";
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
  const allowed = ["T", ...[...options].map((name) => `options.${name}`)];
  requireAlike(runs, ["method", ...allowed]);
  for (const row of rows) {
    requireAlike(row.runs, allowed);
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
  return rows.map((row) => ({ ...row, runs: row.runs.map((run) => underMetric(run, metric)) }));
}

/**
 * A measure of the same records, run by run: of those for which every run has it, in their order.
 * @param runs of the same records
 */
export function valuesPerRun(runs: readonly ScoredRun[], measure: MeasureName): number[][] {
  const all = runs.map(({ scores }) => scores.map((score) => measures[measure](score)));
  const isWhole = (_: unknown, record: number) => all.every((values) => values[record] != null);
  return all.map((values) => values.filter(isWhole) as number[]);
}

/** The published row of a row's method at one T; rows are matched by their title. */
export function publishedAt(
  { title }: StudyRow,
  T: number | "all",
  published: readonly PublishedRow[],
): PublishedRow | undefined {
  return published.find((one) => one.T === T && sameMethod(one.method, title));
}

/**
 * Rows and published rows of the methods that both sides have.
 * @throws {RefusedInput} for rows that may not be compared, published rows that are not of one table, or no common method
 */
export function onBothSides(
  rows: readonly StudyRow[],
  published: readonly PublishedRow[],
): { ours: StudyRow[]; theirs: [PublishedRow, ...PublishedRow[]] } {
  requireRows(rows);
  requireOneTable(published);
  const ours = rows.filter(({ title }) => published.some(({ method }) => sameMethod(method, title)));
  const [first, ...others] = published.filter(({ method }) => ours.some(({ title }) => sameMethod(method, title)));
  if (first !== undefined) return { ours, theirs: [first, ...others] };
  throw new RefusedInput("no method is on both sides", {
    where: "rows",
    found: rows.map(({ title }) => title).join(", "),
    expected: [...new Set(published.map(({ method }) => method))].join(", "),
  });
}
