import type { DataFrame } from "danfojs-node";
import { createRng } from "../core/rng.js";
import { kendallTau, mean, percentileEnds, resampledMeans } from "../core/stats.js";
import type { PublishedRow } from "../published/published.js";
import type { StudyRow } from "../run/study.js";
import type { ScoredRun } from "../run/types.js";
import { frameOf, type Row } from "../tables/tables.js";
import { edgesOf, onBothSides, publishedAt, runAt, valuesPerRun } from "./rows.js";

/** Scores that both sides have, by which methods are ordered. */
export type OrderedBy = "rewrite" | "rephrase" | "locality" | "average";

/** A method with its score. */
export interface Placed {
  method: string;
  value: number;
}

/** The orders of the same methods at one T, best first: measured here, and published. */
export interface OrderAtT {
  T: number;
  measured: Placed[];
  published: Placed[];
  /** Kendall's tau-b of the two, with its 95% interval over the records measured; null where one side is all ties. */
  tau: { value: number; low: number; high: number } | null;
}

/**
 * Orders of methods at every T that both sides have, and how far they agree. The interval resamples records, the same for
 * all methods: it says how sure the measured order is. The published side has no interval.
 * @param published rows of one table and model
 * @throws {RefusedInput} as `onBothSides`
 */
export function ordersOf(
  rows: readonly StudyRow[],
  published: readonly PublishedRow[],
  by: OrderedBy = "average",
): OrderAtT[] {
  const { ours, theirs } = onBothSides(rows, published);
  return edgesOf(ours).flatMap((T) => {
    const pairs = ours.flatMap((row) => {
      const run = runAt(row, T);
      const value = publishedAt(row, T, theirs)?.scores[by];
      return run === undefined || value == null ? [] : [{ title: row.title, run, value }];
    });
    return T === "all" || pairs.length < 2 ? [] : [{ T, ...ordersAt(pairs, by) }];
  });
}

interface Pair {
  title: string;
  run: ScoredRun;
  /** Published. */
  value: number;
}

function ordersAt(pairs: readonly Pair[], by: OrderedBy): Omit<OrderAtT, "T"> {
  const columns = valuesPerRun(
    pairs.map(({ run }) => run),
    by,
  );
  const means = columns.map(mean);
  const theirs = pairs.map(({ value }) => value);
  const placed = (values: readonly number[]) =>
    pairs
      .map(({ title }, i): Placed => ({ method: title, value: values[i] as number }))
      .sort((a, b) => b.value - a.value);
  return { measured: placed(means), published: placed(theirs), tau: tauOf(columns, theirs, pairs) };
}

function tauOf(columns: readonly number[][], theirs: readonly number[], [first]: readonly Pair[]): OrderAtT["tau"] {
  const value = kendallTau(columns.map(mean), theirs);
  if (value === null) return null;
  const rng = createRng((first as Pair).run.protocol.seed).fork("order");
  const records = (columns[0] as number[]).map((_, i) => Float64Array.from(columns, (column) => column[i] as number));
  const taus = resampledMeans(records, { rng }).flatMap((means) => kendallTau([...means], theirs) ?? []);
  return { value, ...percentileEnds(taus) };
}

/** One row per T: both orders with their scores, and Kendall's tau-b with its interval. */
export function ordersFrame(orders: readonly OrderAtT[]): DataFrame {
  const text = (placed: readonly Placed[]) =>
    placed.map(({ method, value }) => `${method} ${value.toFixed(2)}`).join(", ");
  return frameOf(
    orders.map(
      ({ T, measured, published, tau }): Row => ({
        T,
        methods: measured.length,
        tau: tau?.value ?? null,
        tauLow: tau?.low ?? null,
        tauHigh: tau?.high ?? null,
        measured: text(measured),
        published: text(published),
      }),
    ),
    "T that both sides have",
  );
}
