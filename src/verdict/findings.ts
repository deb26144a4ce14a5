import { mean } from "../core/stats.js";
import type { PublishedRow } from "../published/published.js";
import type { StudyRow } from "../run/study.js";
import { type OrderAtT, ordersOf, type Placed } from "./orders.js";
import { edgesOf, perRecord, publishedOf, runAt } from "./rows.js";

/** A method falls when its average at the largest T is less than this part of that at the smallest. */
const FALLEN = 0.6;

/**
 * The verdict in sentences: per T who is best here and as published and how far the orders agree; then which methods fall
 * with T on either side.
 * @throws {RefusedInput} for rows that may not be compared
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

function fallText(rows: readonly StudyRow[], published: readonly PublishedRow[]): string[] {
  const theirs = publishedOf(rows, published);
  const Ts = edgesOf(rows).filter((T) => theirs.some((row) => row.T === T));
  const [smallest, largest] = [Ts[0], Ts.at(-1)];
  if (smallest === undefined || largest === undefined || smallest === largest) return [];
  const fallen = rows.flatMap((row) => {
    const here = [smallest, largest].map((T) => {
      const run = runAt(row, T);
      return run === undefined ? null : mean(perRecord(run, "average"));
    });
    const there = [smallest, largest].map(
      (T) => theirs.find((one) => one.T === T && one.method.toLowerCase() === row.title.toLowerCase())?.scores.average,
    );
    return [here, there].some((pair) => pair.some((value) => value == null))
      ? []
      : [{ title: row.title, here: falls(here as number[]), there: falls(there as number[]) }];
  });
  const those = (test: (one: (typeof fallen)[number]) => boolean) =>
    fallen
      .filter(test)
      .map(({ title }) => title)
      .join(", ") || "none";
  const which = `From T = ${smallest} to T = ${largest} the average falls below ${FALLEN} of what it was`;
  return [
    `${which}: here and as published ${those(({ here, there }) => here && there)}; here alone ${those(({ here, there }) => here && !there)}; as published alone ${those(({ here, there }) => !here && there)}; on neither side ${those(({ here, there }) => !here && !there)}.`,
  ];
}

function falls([smallest, largest]: readonly number[]): boolean {
  return (largest as number) < FALLEN * (smallest as number);
}
