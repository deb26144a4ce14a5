import type { PublishedRow } from "../published/published.js";
import type { StudyRow } from "../run/study.js";
import type { RunSummary } from "../run/summary.js";
import type { RunResult, ScoredRun } from "../run/types.js";
import { intervalOf } from "../tables/tables.js";
import { causesOverT, type RunCauses } from "./causes.js";
import { type OrderAtT, ordersOf, type Placed } from "./orders.js";
import { edgesOf, onBothSides, publishedAt, runAt } from "./rows.js";

/** A method falls when its average at the largest T is less than this part of that at the smallest. */
const FALLEN = 0.6;

/** A method of which less than this part is wrong has nothing to explain. */
const WRONG = 0.05;

/**
 * The verdict in sentences: per T who is best here and as published and how far the orders agree; then which methods fall
 * with T on either side; then, at the smallest and the largest T, what each method has wrong, and why.
 * @throws {RefusedInput} as `onBothSides`
 */
export function verdictFindings(
  rows: readonly StudyRow<RunSummary | RunResult>[],
  published: readonly PublishedRow[],
): string[] {
  const orders = ordersOf(rows, published);
  const Ts = edgesOf(rows);
  const ends = new Set([Ts[0], Ts.at(-1)]);
  const all = causesOverT(rows).filter(({ T }) => ends.has(T));
  return [...orders.map(orderText), ...fallText(rows, published), ...[...ends].flatMap((T) => wrongText(all, T))];
}

function wrongText(all: readonly RunCauses[], T: number | "all" | undefined): string[] {
  const at = all.filter((one) => one.T === T && 1 - one.right >= WRONG).sort((a, b) => a.right - b.right);
  if (at.length === 0) return [];
  const told = at.map(({ method, right, wrong }) => {
    const why = wrong.slice(0, 2).map(({ cause, share }) => `${cause} ${share.toFixed(2)}`);
    return `${method} ${(1 - right).toFixed(2)} (${why.join(", ")})`;
  });
  return [`T = ${T}: part of the edited questions and rephrases that is wrong, and why: ${told.join("; ")}.`];
}

function orderText({ T, measured, published, tau }: OrderAtT): string {
  const best = (placed: readonly Placed[]) => placed.slice(0, 3).map(shown).join(", ");
  const agreement =
    tau === null
      ? ""
      : ` Kendall's tau of the orders is ${tau.value.toFixed(2)} [${tau.low.toFixed(2)}, ${tau.high.toFixed(2)}].`;
  return `T = ${T}, ${measured.length} methods: first here ${best(measured)}; first as published ${best(published)}.${agreement}`;
}

const shown = ({ method, value }: Placed) => `${method} (${value.toFixed(2)})`;

/** Titles by where they fall: on both sides, here, as published, nowhere. Those without a number on either side are left out. */
function fallText(rows: readonly StudyRow[], published: readonly PublishedRow[]): string[] {
  const { ours, theirs } = onBothSides(rows, published);
  const Ts = edgesOf(ours).filter((T) => theirs.some((row) => row.T === T));
  const ends = [Ts[0], Ts.at(-1)];
  const [smallest, largest] = ends;
  if (smallest === undefined || largest === undefined || smallest === largest) return [];
  const fallen = ours.map((row) => {
    const here = ends.map((T) => averageOf(runAt(row, T as number)));
    const there = ends.map((T) => publishedAt(row, T as number, theirs)?.scores.average);
    return { title: row.title, here: falls(here), there: falls(there) };
  });
  const those = (here: boolean, there: boolean) =>
    fallen
      .filter((one) => one.here === here && one.there === there)
      .map(({ title }) => title)
      .join(", ") || "none";
  return [
    `From T = ${smallest} to T = ${largest} the average falls below ${FALLEN} of what it was: here and as published ${those(true, true)}; here alone ${those(true, false)}; as published alone ${those(false, true)}; on neither side ${those(false, false)}.`,
  ];
}

function averageOf(run: ScoredRun | undefined): number | null {
  return run === undefined ? null : (intervalOf(run, "average")?.mean ?? null);
}

/** null where one end has no number. */
function falls([smallest, largest]: readonly (number | null | undefined)[]): boolean | null {
  return smallest == null || largest == null ? null : largest < FALLEN * smallest;
}
