import { isDeepStrictEqual } from "node:util";
import type { DataFrame } from "danfojs-node";
import { RefusedInput, show } from "../core/errors.js";
import { createRng } from "../core/rng.js";
import { bootstrapInterval, type Interval } from "../core/stats.js";
import { type Metric, TEACHER_FORCED } from "../eval/metrics.js";
import { metricNamed } from "../eval/seeing.js";
import type { ScoredRun } from "../run/types.js";
import { isShare, metricOf, underMetric } from "../run/under-metric.js";
import { frameOf, intervalOf, type Row } from "../tables/tables.js";
import { type MeasureName, valuesOf } from "../tables/values.js";
import { marked, type PublishedRow, type PublishedScore, sameMethod } from "./published.js";

/** More options that differ are counted in the reason, not told one by one: those of another model differ in most. */
const TOLD_OPTIONS = 3;

/**
 * Scores that publications print and runs have: the measure, and the metric where it is one of its own. The others are by
 * the metric of the row, if the run was made for it.
 */
const common = {
  rewrite: { measure: "rewrite" },
  rephrase: { measure: "rephrase" },
  locality: { measure: "locality" },
  average: { measure: "average" },
  preRewrite: { measure: "preRewrite" },
  preRephrase: { measure: "preRephrase" },
  perplexity: { measure: "rewrite", metric: "perplexity" },
  oodRephrase: { measure: "ood", metric: "sure-tokens" },
} as const satisfies Partial<Record<PublishedScore, { measure: MeasureName; metric?: string }>>;
type CommonScore = keyof typeof common;

/** A field in which a run is not what the publication says of itself. */
export interface ProtocolDifference {
  field: string;
  published: unknown;
  measured: unknown;
}

/** One published score with the run's own mean and 95% interval over records; null where nothing was measured. */
export interface ComparedScore {
  name: CommonScore;
  published: number;
  mean: number | null;
  low: number | null;
  high: number | null;
}

/**
 * "inside": every published score lies in the run's interval. "outside": one does not. "not comparable": the two were
 * not made alike, or it is not known whether they were. "not measured": there is no run.
 */
export type Verdict = "inside" | "outside" | "not comparable" | "not measured";

export interface PublishedComparison {
  row: PublishedRow;
  verdict: Verdict;
  /** Reason why a run is not comparable, in words; "" otherwise. */
  reason: string;
  /** Fields that the publication states and in which the run differs. */
  differs: ProtocolDifference[];
  /** Fields that the publication leaves open. */
  unknown: string[];
  scores: ComparedScore[];
}

export interface CompareOptions {
  /** Name of the run's model in publications. Default: the run's name for it, which is its folder's. */
  model?: string;
  /** Records that the run will have when it is whole. Default: those that it has. */
  records?: number;
}

/**
 * Fields that a publication may leave open and still be compared. No source says whether a chat template was used, and
 * options that it leaves out are only compared where it states them. Were those held against it, nothing could ever be
 * compared. They are listed as unknown instead. All else decides what the number is a number of.
 */
const MAY_BE_UNKNOWN: readonly string[] = ["chatTemplate"];

/**
 * Sets a published row beside a run of one's own. They are comparable when model, method, record file (by sha256),
 * number of records, T, time of scoring, token rule, locality rule, and whatever the publication states of template and
 * options, agree. A score is inside when its printed value, as far as rounding goes, lies in the 95% bootstrap interval
 * over the run's records. Seed, backend and precision are not compared: the interval is there for them.
 */
export function compareWithPublished(
  row: PublishedRow,
  run: ScoredRun | null,
  { model = run?.protocol.model, records = run?.scores.length ?? 0 }: CompareOptions = {},
): PublishedComparison {
  const fields = protocolFields(row, run, { model, records });
  const unknown = fields.filter(({ published }) => published === "unknown").map(({ field }) => field);
  const scores = comparedScores(row, run);
  if (run === null) return { row, verdict: "not measured", reason: "", differs: [], unknown, scores };
  const differs = fields.filter(differ);
  const reason = reasonAgainst(differs, unknown, scores);
  const inside = scores.every((score) => isInside(score, row.decimals) !== false);
  const verdict = reason !== "" ? "not comparable" : inside ? "inside" : "outside";
  return { row, verdict, reason, differs, unknown, scores };
}

/**
 * The run to set beside a published row: one that is comparable or, where none is, the one that differs from it in the
 * fewest fields; of equals the first. Runs of other methods measured something else. null: there is none.
 */
export function nearestRun<R extends ScoredRun>(row: PublishedRow, runs: readonly R[]): R | null {
  const ranked = runs
    .map((run) => ({
      run,
      differs: protocolFields(row, run, { model: run.protocol.model, records: run.scores.length }).filter(differ),
    }))
    .filter(({ differs }) => differs.every(({ field }) => field !== "method"))
    .sort((a, b) => a.differs.length - b.differs.length);
  return ranked[0]?.run ?? null;
}

/** `compareWithPublished` with the nearest of several runs; "not measured" where none is of the row's method. */
export function compareWithNearest(row: PublishedRow, runs: readonly ScoredRun[]): PublishedComparison {
  return compareWithPublished(row, nearestRun(row, runs));
}

/**
 * One row per published score: where it is from, the score, the run's mean and interval, the verdict on this score, and
 * why it is not comparable. Comparisons without a common score have no row.
 * @throws {RefusedInput} for no rows.
 */
export function comparisonFrame(comparisons: readonly PublishedComparison[]): DataFrame {
  const rows = comparisons.flatMap(({ row, verdict, reason, scores }) =>
    scores.map((score): Row => {
      const inside = isInside(score, row.decimals);
      const comparable = verdict === "inside" || verdict === "outside";
      return {
        model: row.model,
        method: row.method,
        T: row.T,
        score: score.name,
        published: score.published,
        measured: score.mean,
        low: score.low,
        high: score.high,
        verdict: comparable && inside !== null ? (inside ? "inside" : "outside") : verdict,
        reason,
        source: marked(row.source, row),
      };
    }),
  );
  return frameOf(rows, "compared scores");
}

/**
 * Precision of a mean over few records: the 95% interval of means of so many records, drawn with replacement from the
 * scores of a run (2000 draws, keyed by its seed). A published mean over ten records comes with one of this width.
 * @param name the measure, in [0, 1]
 * @throws {RefusedInput} for a number of records that cannot be, or a run without such a measure.
 */
export function intervalOfRecords(
  run: Pick<ScoredRun, "protocol" | "scores">,
  name: MeasureName,
  records: number,
): Interval & { halfWidth: number } {
  if (!Number.isSafeInteger(records) || records < 1) {
    throw new RefusedInput("a number of records cannot be used", {
      where: "records",
      found: String(records),
      expected: "a whole number above 0",
    });
  }
  const values = valuesOf(run.scores, name);
  if (values.length === 0) {
    throw new RefusedInput("a run has no such score", {
      where: "the measure",
      found: name,
      expected: "a measure that the run's records have",
    });
  }
  const rng = createRng(run.protocol.seed).fork("records", name, records);
  const interval = bootstrapInterval(values, { rng, draws: records });
  return { ...interval, halfWidth: (interval.high - interval.low) / 2 };
}

/**
 * Precision of a mean over few records, by `intervalOfRecords`: one row per score that the run has, with its mean over
 * all records of the run, and the interval and its half width for means over so many.
 * @throws {RefusedInput} for a number of records that cannot be, or a run without scores.
 */
export function recordsFrame(run: Pick<ScoredRun, "protocol" | "scores">, records: number): DataFrame {
  const has = (["rewrite", "rephrase", "locality"] as const).filter((name) => valuesOf(run.scores, name).length > 0);
  const rows = has.map((score): Row => {
    const { mean, n, low, high, halfWidth } = intervalOfRecords(run, score, records);
    return { score, measuredOver: n, mean, records, low, high, halfWidth };
  });
  return frameOf(rows, "scores of the run");
}

/** Every field that is compared, as published and as measured. Where publications write otherwise, theirs is taken. */
function protocolFields(
  row: PublishedRow,
  run: ScoredRun | null,
  { model, records }: { model: string | undefined; records: number },
): ProtocolDifference[] {
  const measured = run?.protocol;
  const sameModel = model !== undefined && plainModel(row.model) === plainModel(model);
  const method = measured !== undefined && sameMethod(row.algorithm, measured.method) ? row.method : measured?.method;
  return [
    { field: "model", published: row.model, measured: sameModel ? row.model : model },
    { field: "method", published: row.method, measured: method },
    { field: "dataSha256", published: row.dataSha256, measured: measured?.dataSha256 },
    { field: "records", published: row.records, measured: records },
    { field: "T", published: row.T, measured: measured?.T === "all" ? records : measured?.T },
    { field: "when", published: row.when, measured: measured?.when },
    { field: "metric", published: row.metric, measured: run === null ? undefined : metricFor(row, run).title },
    { field: "locality", published: row.locality, measured: measured?.locality },
    { field: "chatTemplate", published: row.chatTemplate, measured: measured?.chatTemplate },
    ...Object.entries(row.options).map(([name, published]) => ({
      field: `options.${name}`,
      published,
      measured: measured?.options[name],
    })),
  ];
}

function differ({ published, measured }: ProtocolDifference): boolean {
  return published !== "unknown" && !isDeepStrictEqual(published, measured);
}

/** A model's name without what publishers of weights write differently: "Meta-Llama-3-8B" and "LLaMA-3-8B" are one. */
function plainModel(name: string): string {
  return name
    .toLowerCase()
    .replaceAll(/[^a-z0-9]/g, "")
    .replace(/^meta/, "")
    .replace(/hf$/, "");
}

/** The scores that are published and that runs have too. The run's numbers are those of its summary. */
function comparedScores(row: PublishedRow, run: ScoredRun | null): ComparedScore[] {
  return (Object.keys(common) as CommonScore[]).flatMap((name) => {
    const published = row.scores[name];
    if (published == null) return [];
    const { mean, low, high } = (run && measuredScore(row, run, name)) ?? { mean: null, low: null, high: null };
    return [{ name, published, mean, low, high }];
  });
}

/** Null where the run was not made for the score's metric, or has no such probes. */
function measuredScore(row: PublishedRow, run: ScoredRun, name: CommonScore): Interval | null {
  const { measure, metric: own } = { metric: null, ...common[name] };
  const metric = own === null ? metricFor(row, run) : metricNamed(own);
  // Perplexity says nothing of locality: publications that print both take agreement there.
  const taken = own === null && !isShare(metric) ? TEACHER_FORCED : metric;
  if (!run.protocol.metrics.includes(taken.name)) return null;
  return intervalOf(underMetric(run, taken), measure);
}

/** The metric of a published row where the run was made for it; else the run's own. */
function metricFor(row: PublishedRow, run: ScoredRun): Metric {
  const made = run.protocol.metrics.map(metricNamed);
  return made.find(({ title }) => title === row.metric) ?? metricOf(run);
}

/** True if a value that rounds to the printed score lies in the interval; null where nothing was measured. */
function isInside({ published, low, high }: ComparedScore, decimals: number): boolean | null {
  if (low === null || high === null) return null;
  const half = 0.5 * 10 ** -decimals + 1e-12; // and what floats add to a share printed in full
  return published + half >= low && published - half <= high;
}

function reasonAgainst(
  differs: readonly ProtocolDifference[],
  unknown: readonly string[],
  scores: readonly ComparedScore[],
): string {
  const open = unknown.filter((field) => !MAY_BE_UNKNOWN.includes(field));
  const isOption = ({ field }: ProtocolDifference) => field.startsWith("options.");
  const inOptions = differs.filter(isOption);
  const told = inOptions.length > TOLD_OPTIONS ? differs.filter((difference) => !isOption(difference)) : differs;
  return [
    ...told.map(({ field, published, measured }) => `${field} is ${short(measured)}, published ${short(published)}`),
    ...(told === differs ? [] : [`${inOptions.length} options differ`]),
    ...(open.length === 0 ? [] : [`published without ${open.join(", ")}`]),
    ...(scores.some((score) => score.mean !== null) ? [] : ["no score in common"]),
  ].join("; ");
}

/** A value in a sentence; of a sha256 its beginning, as everywhere. */
function short(value: unknown): string {
  return show(value).replace(/^([0-9a-f]{8})[0-9a-f]{56}$/, "$1");
}
