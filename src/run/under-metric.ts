import { RefusedInput } from "../core/errors.js";
import { type Asked, type Metric, TEACHER_FORCED } from "../eval/metrics.js";
import type { ProbeKind } from "../eval/score.js";
import { metricNamed } from "../eval/seeing.js";
import type { ProbeScore, Seen, Written } from "../eval/types.js";
import { mapProbes } from "./measures.js";
import type { RunResult, ScoredProbe, ScoredRecord, ScoredRun } from "./types.js";

/**
 * A run with the scores of another metric: tables, figures and explorers take it as any other. Scores before the edit and
 * those of other variants follow, and where answers were written freely also what was predicted and the router's choice,
 * which was made on the prompt alone. Probes that the metric has no value for are left out.
 * @param metric by its name, or one of the caller's own
 * @throws {RefusedInput} when the run did not see what the metric reads, or was changed after another metric was taken
 */
export function underMetric(run: RunResult, metric: string | Metric): RunResult;
export function underMetric(run: ScoredRun, metric: string | Metric): ScoredRun;
export function underMetric(run: RunResult | ScoredRun, metric: string | Metric): RunResult | ScoredRun {
  const chosen = typeof metric === "string" ? metricNamed(metric) : metric;
  const made = ORIGINALS.get(run) ?? run;
  if (chosen.name === metricOf(made).name) return made;
  if (metricOf(made) !== TEACHER_FORCED) throw changedSince(made, chosen);
  const known = "under" in made ? made.under?.[chosen.name] : undefined;
  const at = (record: ScoredRecord, place: number) => {
    if (known !== undefined) return { ...record, ...known[place] };
    if (probeUnder(record.rewrite, "rewrite", chosen) === null) throw notSeen(made, chosen);
    return mapProbes(record, (probe: ScoredProbe, kind) => probeUnder(probe, kind, chosen));
  };
  const under = {
    ...made,
    protocol: { ...made.protocol, metric: chosen.title },
    metric: chosen,
    scores: made.scores.map(at),
    ...("stepScores" in made ? { stepScores: made.stepScores.map(at) } : {}),
  } as RunResult | ScoredRun;
  ORIGINALS.set(under, made);
  return under;
}

/** Of a run by another metric the run as it was made, from which any metric can be taken. */
const ORIGINALS = new WeakMap<ScoredRun, RunResult | ScoredRun>();

/** The metric that the scores of a run are of. */
export function metricOf({ metric = TEACHER_FORCED }: Pick<ScoredRun, "metric">): Metric {
  return metric;
}

/** Runs by every metric that all of them were made for, or by some: one after the other. */
export function byMetrics<R extends RunResult | ScoredRun>(
  runs: readonly R[],
  names: readonly string[] = sharedMetrics(runs),
): { runs: R[]; differ: string[] } {
  const all = runs.flatMap((run) => names.map((name) => underMetric(run, name) as R));
  return { runs: all, differ: names.length > 1 ? ["metric"] : [] };
}

/** Names of the metrics that all of the runs were made for. */
export function sharedMetrics(runs: readonly ScoredRun[]): string[] {
  const [first, ...others] = runs.map(({ protocol }) => protocol.metrics);
  return (first ?? []).filter((name) => others.every((all) => all.includes(name)));
}

/** A run at another value of an option, say, holds the answers by its metric alone. */
function changedSince(run: ScoredRun, { name }: Metric): RefusedInput {
  return new RefusedInput("a metric is taken of a run as it was made", {
    where: `the ${run.protocol.method} run at T = ${run.protocol.T}`,
    found: `a run by ${metricOf(run).name} that was changed since, and ${name}`,
    expected: "the metric first, then the change",
  });
}

function notSeen({ protocol, folder }: ScoredRun, { name, needs }: Metric): RefusedInput {
  return new RefusedInput(`a run was not made for the metric ${name}`, {
    where: folder ?? `the ${protocol.method} run at T = ${protocol.T}`,
    found: `metrics ${protocol.metrics.join(", ")}`,
    expected: needs.length === 0 ? "a run with its tokens" : `one that saw ${needs.join(" and ")}`,
    hint: `--metrics ${name}, in another folder`,
  });
}

/** One probe by another metric; null where it has no value. */
function probeUnder(probe: ScoredProbe, kind: ProbeKind, metric: Metric): ScoredProbe | null {
  if (!isWhole(probe)) return null;
  const { before, after, readings, route } = metric.needs.includes("written") ? freeOf(probe) : forcedOf(probe);
  const asked: Asked = {
    answer: probe.answer,
    target: probe.target,
    before: kind === "locality" ? before : null,
  };
  const score = metric.of(after, asked);
  if (score === null) return null;
  const preScore = metric.of(before, asked);
  return {
    ...probe,
    pre: before.predicted,
    post: after.predicted,
    score,
    preScore: kind === "locality" && isShare(metric) ? null : preScore,
    exact: isShare(metric) ? score === 1 : probe.exact,
    route,
    readings: readings.map(({ seen, ...reading }) => ({
      ...reading,
      predicted: seen?.predicted ?? null,
      score: seen && metric.of(seen, asked),
    })),
  } as ScoredProbe;
}

/** True of a metric whose values are shares, from 0 to 1. */
export function isShare({ range: [least, most] }: Metric): boolean {
  return least === 0 && most === 1;
}

const isWhole = (probe: ScoredProbe): probe is ProbeScore => "target" in probe;

/** The parts seen of a probe, with those who answered. */
interface Observed {
  route: string;
  before: Seen;
  after: Seen;
  readings: (Omit<ScoredProbe["readings"][number], "score"> & { seen: Seen | null })[];
}

/** By teacher forcing. */
function forcedOf({ route, pre, post, logp, readings }: ProbeScore): Observed {
  return {
    route,
    before: { predicted: pre, logp: logp?.pre },
    after: { predicted: post, logp: logp?.post },
    readings: readings.map(({ predicted, logp, ...reading }) => ({
      ...reading,
      seen: predicted === null ? null : { predicted, logp },
    })),
  };
}

/** In free answers, whose first tokens, as many as the expected answer has, stand for what was predicted. */
function freeOf({ route, free, target }: ProbeScore): Observed {
  const seen = (written: Written): Seen => ({ written, predicted: written.tokens.slice(0, target.length) });
  if (free === undefined) return { route, before: {}, after: {}, readings: [] };
  return {
    route: free.route,
    before: seen(free.pre),
    after: seen(free.post),
    readings: free.readings.map(({ written, ...reading }) => ({ ...reading, seen: written && seen(written) })),
  };
}
