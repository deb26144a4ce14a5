import type { PublishedRow } from "../published/published.js";
import type { StudyRow } from "../run/study.js";
import type { ScoredRun } from "../run/types.js";
import { intervalOf } from "../tables/tables.js";
import { type OrderAtT, ordersOf, type Placed } from "./orders.js";
import { edgesOf, onBothSides, publishedAt, runAt } from "./rows.js";

/** A method falls when its average at the largest T is less than this part of that at the smallest. */
const FALLEN = 0.6;

/**
 * The verdict in sentences: per T who is best here and as published and how far the orders agree; then which methods fall
 * with T on either side.
 * @throws {RefusedInput} as `onBothSides`
 */
export function verdictFindings(rows: readonly StudyRow[], published: readonly PublishedRow[]): string[] {
  const orders = ordersOf(rows, published);
  return [...orders.map(orderText), ...fallText(rows, published)];
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
