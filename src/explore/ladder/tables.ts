import type { DataFrame } from "danfojs-node";
import { LADDER } from "../../eval/metrics.js";
import { metricNamed } from "../../eval/seeing.js";
import type { RunResult, ScoredRun } from "../../run/types.js";
import { underMetric } from "../../run/under-metric.js";
import { intervalText, scoreHeads } from "../../tables/format.js";
import { requireAlike } from "../../tables/protocols.js";
import { frameOf, type Row, summaryRows } from "../../tables/tables.js";

/** Fields in which the runs of a ladder may differ. */
const LADDER_FIELDS = ["method", "T", "when", "targetStop"];

/**
 * The ladder: what of an edit is left the less one helps the model. A row per run and rung, from teacher forcing to the
 * free answer that ends by itself, with means and their 95% bootstrap intervals as `summaryFrame` gives them, and
 * `endsWithin`, the rewrites whose answer holds a "." or a line break: a free answer ends there, and cannot be right; null
 * for the summary of a run, which has no texts.
 * @param runs made for the metrics of the ladder
 * @throws {RefusedInput} when one is not, or when they differ in more than method, T, when and targetStop
 */
export function ladderFrame(runs: readonly (ScoredRun | RunResult)[]): DataFrame {
  return frameOf(ladderRows(runs), "runs");
}

/** The rows of `ladderFrame`. @throws {RefusedInput} as it does */
export function ladderRows(runs: readonly (ScoredRun | RunResult)[]): Row[] {
  requireAlike(runs, LADDER_FIELDS);
  return runs.flatMap((run) => {
    const { method, T, when, targetStop } = run.protocol;
    const endsWithin = answersOf(run)?.filter((answer) => /[.\n]/.test(answer)).length ?? null;
    return LADDER.map((name): Row => {
      const [row] = summaryRows([underMetric(run, name)], { allow: [] }) as [Row];
      const { records, blocks: _, secondsPerEdit: __, ...scores } = row;
      const rung = { rung: name, metric: metricNamed(name).title };
      return { method, T, when, targetStop, ...rung, records: records ?? null, ...scores, endsWithin };
    });
  });
}

/** The ladder for reading: a mean and its interval in one cell, and only the fields in which the runs differ, beside T. */
export function ladderView(runs: readonly (ScoredRun | RunResult)[]): DataFrame {
  const rows = ladderRows(runs);
  const fields = LADDER_FIELDS.filter((field) => field === "T" || new Set(rows.map((row) => row[field])).size > 1);
  const view = rows.map(
    (row): Row => ({
      ...Object.fromEntries(fields.map((field) => [field, row[field] ?? null])),
      Metric: row.metric ?? null,
      ...Object.fromEntries(
        (["rewrite", "rephrase", "locality"] as const).map((name) => [scoreHeads[name], intervalText(row, name, 3)]),
      ),
    }),
  );
  return frameOf(view, "runs");
}

/** Answers that rewrites want; null where the run has no texts. */
function answersOf(run: ScoredRun | RunResult): string[] | null {
  return "tokens" in run ? run.scores.map(({ rewrite }) => rewrite.answer) : null;
}
