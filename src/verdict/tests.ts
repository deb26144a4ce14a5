import type { DataFrame } from "danfojs-node";
import { createRng } from "../core/rng.js";
import { holm, mean, pairedPermutationTest } from "../core/stats.js";
import type { MeasureName } from "../run/measures.js";
import type { StudyRow } from "../run/study.js";
import type { ScoredRun } from "../run/types.js";
import { frameOf, type Row } from "../tables/tables.js";
import { requireRows, runAt, valuesPerRun } from "./rows.js";

/** Sign patterns that a test tries: p is a multiple of 1/2001. */
const PERMUTATIONS = 2000;
/** A p that is no smaller is a tie. */
const TIE = 0.05;

/** Two methods on the same records. */
export interface PairTest {
  first: string;
  second: string;
  /** Mean over records of the first one's score less the second one's. */
  difference: number;
  /** Of the paired permutation test. */
  p: number;
  /** Raised by Holm's method over all pairs that were tested together. */
  adjusted: number;
}

/**
 * Paired permutation tests between all methods of one T, record by record.
 * @throws {RefusedInput} for rows that may not be compared
 */
export function pairTests(rows: readonly StudyRow[], T: number | "all", measure: MeasureName = "average"): PairTest[] {
  requireRows(rows);
  const all = columnsAt(rows, T, measure);
  return tested(all.flatMap((first, i) => all.slice(i + 1).map((second) => [first, second] as const)));
}

/**
 * Titles of the best row of one T, and of those that a paired test at 0.05 cannot tell from it; none where no record has
 * the measure.
 */
export function bestOf(
  rows: readonly StudyRow[],
  T: number | "all",
  measure: MeasureName,
  better: "higher" | "lower" = "higher",
): Set<string> {
  const sign = better === "higher" ? 1 : -1;
  const [best, ...others] = columnsAt(rows, T, measure).sort((a, b) => sign * (mean(b.values) - mean(a.values)));
  if (best === undefined) return new Set();
  const tied = tested(others.map((other) => [best, other] as const)).filter(({ adjusted }) => adjusted >= TIE);
  return new Set([best.title, ...tied.map(({ second }) => second)]);
}

interface Column {
  title: string;
  run: ScoredRun;
  values: number[];
}

function columnsAt(rows: readonly StudyRow[], T: number | "all", measure: MeasureName): Column[] {
  const at = rows.flatMap((row) => {
    const run = runAt(row, T);
    return run === undefined ? [] : [{ title: row.title, run }];
  });
  const values = valuesPerRun(
    at.map(({ run }) => run),
    measure,
  );
  return at.map((one, i) => ({ ...one, values: values[i] as number[] }));
}

function tested(pairs: readonly (readonly [Column, Column])[]): PairTest[] {
  const tests = pairs.map(([first, second]) => {
    const rng = createRng(first.run.protocol.seed).fork("pair", first.title, second.title);
    const test = pairedPermutationTest(first.values, second.values, { rng, permutations: PERMUTATIONS });
    return { first: first.title, second: second.title, ...test };
  });
  const raised = holm(tests.map(({ p }) => p));
  return tests.map((test, i) => ({ ...test, adjusted: raised[i] as number }));
}

/** One row per pair of methods at one T: the difference of their means, and how likely it is by chance. */
export function pairsFrame(tests: readonly PairTest[]): DataFrame {
  return frameOf(
    tests.map((test): Row => ({ ...test })),
    "pairs of methods",
  );
}
