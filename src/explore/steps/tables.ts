import type { DataFrame } from "danfojs-node";
import { RefusedInput } from "../../core/errors.js";
import { createRng } from "../../core/rng.js";
import { bootstrapInterval, mean } from "../../core/stats.js";
import { methodNamed } from "../../edit/registry.js";
import type { RunResult } from "../../run/types.js";
import { intervalText, scoreHeads } from "../../tables/format.js";
import { requireAlike } from "../../tables/protocols.js";
import type { Cell, FormatOptions } from "../../tables/readable.js";
import { frameOf, type Row, rowsOf, summaryRows } from "../../tables/tables.js";
import { measures, secondsPerEdit } from "../../tables/values.js";
import { stepLimitOf } from "./numSteps.js";

/** The option that limits the steps of a run's edits. @throws {RefusedInput} for a method that has none */
export function stepsKey({ protocol }: Pick<RunResult, "protocol">): string {
  return stepLimitOf(methodNamed(protocol.method));
}

/** The field in which runs of a num_steps exploration differ. */
export function stepsField(runs: readonly Pick<RunResult, "protocol">[]): string[] {
  return runs.slice(0, 1).map((run) => `options.${stepsKey(run)}`);
}

/**
 * Runs that differ in the step limit alone, rising.
 * @throws {RefusedInput} when they differ in anything else, or two have the same
 */
export function bySteps(runs: readonly RunResult[]): RunResult[] {
  requireAlike(runs, stepsField(runs));
  const ordered = [...runs].sort((a, b) => stepsOf(a) - stepsOf(b));
  const twice = ordered.find((run, i) => i > 0 && stepsOf(run) === stepsOf(ordered[i - 1] as RunResult));
  if (twice === undefined) return ordered;
  const key = stepsKey(twice);
  throw new RefusedInput(`two runs of one ${key} cannot share a place`, {
    where: "runs",
    found: `${key} = ${stepsOf(twice)} twice`,
    expected: `one run per ${key}`,
  });
}

/** The step limit of a run. @throws {RefusedInput} for a method that has none */
export function stepsOf(run: Pick<RunResult, "protocol">): number {
  const key = stepsKey(run);
  const steps = run.protocol.options[key];
  if (typeof steps === "number") return steps;
  throw new RefusedInput(`a run without a limit of steps has no place over ${key}`, {
    where: `options of the ${run.protocol.method} run`,
    found: steps,
    expected: `${key}, a number`,
  });
}

/** Share of a run's edits, in [0, 1], whose loss settled before the limit. */
export function shareStopped({ edits }: Pick<RunResult, "edits">): number {
  return mean(edits.map(({ stoppedEarly }): number => (stoppedEarly ? 1 : 0)));
}

/**
 * One row per step limit, rising: mean scores in [0, 1] with their 95% bootstrap intervals over records, what the steps
 * since the row before bought in Avg (`gain`: mean difference of the same records, with its interval), the share of
 * edits that stopped early, the median of steps taken, and seconds per edit.
 * @throws {RefusedInput} as `bySteps`
 */
export function stepsFrame(runs: readonly RunResult[]): DataFrame {
  const ordered = bySteps(runs);
  const summaries = summaryRows(ordered, { allow: stepsField(ordered) });
  const rows = ordered.map((run, i): Row => {
    const summary = summaries[i] as Row;
    const scores = Object.entries(summary).filter(([column]) =>
      /^(rewrite|rephrase|locality|average)(?!ToMain)/.test(column),
    );
    const taken = run.edits.map(({ steps }) => steps.length).sort((a, b) => a - b);
    return {
      option: stepsKey(run),
      steps: stepsOf(run),
      records: run.scores.length,
      ...Object.fromEntries(scores),
      ...gainColumns(ordered[i - 1], run),
      stoppedEarly: shareStopped(run),
      medianSteps: median(taken),
      secondsPerEdit: secondsPerEdit(run),
    };
  });
  return frameOf(rows, "runs");
}

/** Difference in Avg of the records that both runs scored; nothing for the first run. */
function gainColumns(before: RunResult | undefined, run: RunResult): Row {
  const earlier = new Map(before?.scores.map((score) => [score.record, measures.average(score)]));
  const gains = run.scores.flatMap((score) => {
    const [now, then] = [measures.average(score), earlier.get(score.record) ?? null];
    return now === null || then === null ? [] : [now - then];
  });
  const rng = createRng(run.protocol.seed).fork("bootstrap", "gain");
  const { mean, low, high } =
    gains.length === 0 ? { mean: null, low: null, high: null } : bootstrapInterval(gains, { rng });
  return { gain: mean, gainLow: low, gainHigh: high, gainRecords: gains.length };
}

/**
 * One record over the step limit: a row per run, rising, with the loss at the end of its edit, its scores, what answers the
 * edited question, and the tokens predicted there.
 * @throws {RefusedInput} as `bySteps`, and for a record that a run did not score
 */
export function recordOverSteps(runs: readonly RunResult[], record: number): DataFrame {
  const rows = bySteps(runs).map((run): Row => {
    const score = run.scores.find((each) => each.record === record);
    const edit = run.edits.find((each) => each.record === record);
    if (score === undefined || edit === undefined) {
      throw new RefusedInput("a run did not score this record", {
        where: `the run with ${stepsKey(run)} = ${stepsOf(run)}`,
        found: `record ${record}`,
        expected: `a record from 0 to ${run.scores.length - 1}`,
      });
    }
    return {
      [stepsKey(run)]: stepsOf(run),
      loss: edit.steps.at(-1)?.loss ?? null,
      rewrite: score.rewrite.score,
      rephrase: measures.rephrase(score),
      locality: measures.locality(score),
      route: score.rewrite.route,
      predicted: score.rewrite.post.map((token) => run.tokens.get(token) ?? `<${token}>`).join(""),
    };
  });
  return frameOf(rows, "runs");
}

/** Findings of `stepsFrame`, in words: where early stopping cut in, and from where on more steps bought nothing. */
export function stepsFindings(frame: DataFrame): string[] {
  const rows = rowsOf(frame);
  const last = rows.at(-1) as Row;
  const half = rows.find(({ stoppedEarly }) => (stoppedEarly as number) >= 0.5);
  const since = half === undefined ? "" : `; half or more from ${last.option} = ${half.steps} on`;
  const stopping = `With ${last.option} = ${last.steps}, ${percent(last.stoppedEarly)} of the edits stopped early${since}.`;
  if (last.gain === null) return [stopping];
  const moved = rows.findLast(({ gainLow, gainHigh }) => (gainLow as number) > 0 || (gainHigh as number) < 0);
  const { steps } = moved ?? (rows[0] as Row);
  return steps === last.steps
    ? [stopping, `The last steps, up to ${last.option} = ${steps}, still changed Avg.`]
    : [
        stopping,
        `After ${last.option} = ${steps} no row differs in Avg from the one before it: each interval holds 0.`,
      ];
}

function percent(share: Cell | undefined): string {
  return `${(100 * (share as number)).toFixed(0)}%`;
}

function median(sorted: readonly number[]): Cell {
  const [below, above] = [sorted[(sorted.length - 1) >> 1], sorted[sorted.length >> 1]];
  return below === undefined || above === undefined ? null : (below + above) / 2;
}

/** Frame of `stepsFrame` for reading: means and intervals in one cell. */
export function stepsView(frame: DataFrame, { digits = 3 }: FormatOptions = {}): DataFrame {
  const timed = (frame.columns as string[]).includes("secondsPerEdit");
  const view = rowsOf(frame).map((row): Row => {
    const shown = (["rewrite", "rephrase", "locality", "average"] as const).map(
      (name) => [scoreHeads[name], intervalText(row, name, digits)] as const,
    );
    return {
      [String(row.option)]: row.steps ?? null,
      ...Object.fromEntries(shown),
      "Gain in Avg": intervalText(row, "gain", digits),
      "Stopped early": percent(row.stoppedEarly),
      "Median steps": row.medianSteps ?? null,
      ...(timed ? { "s/edit": typeof row.secondsPerEdit === "number" ? row.secondsPerEdit.toFixed(2) : null } : {}),
    };
  });
  return frameOf(view, "runs");
}
