import type { DataFrame } from "danfojs-node";
import { RefusedInput } from "../../core/errors.js";
import { subtitleOf } from "../../figures/subtitle.js";
import { allCheckpointScores } from "../../run/checkpoints.js";
import type { CheckpointScore, RunResult } from "../../run/types.js";
import { underMetric } from "../../run/under-metric.js";
import { intervalText, scoreHeads } from "../../tables/format.js";
import type { FormatOptions } from "../../tables/readable.js";
import { frameOf, intervalOf, type Row, rowsOf } from "../../tables/tables.js";
import { type MeasureName, measures } from "../../tables/values.js";
import type { Grid, GridCell } from "../grid/grids.js";

/*
 * Retention: what stands of an edit after later ones. A record's position is the number of its edit within its block, from
 * 1; at a checkpoint so many edits of the block stand; a record's age is the number of edits made after its own.
 */

/** Scores that retention is shown of. */
export const retained = ["rewrite", "rephrase", "locality"] as const;

/** A record at a checkpoint. */
interface Sight {
  score: CheckpointScore;
  position: number;
  age: number;
}

/** Every record of a run with checkpoints, each time that it was scored. @throws {RefusedInput} for a run without */
function sightsOf(run: RunResult): Sight[] {
  const { T, records } = run.protocol;
  const size = T === "all" ? records : T;
  const seen = allCheckpointScores(run);
  const { scores } = underMetric({ ...run, scores: seen }, run.metric?.name ?? "teacher-forced");
  return (scores as CheckpointScore[]).map((score) => {
    const position = score.record - score.block * size + 1;
    return { score, position, age: score.edits - position };
  });
}

/**
 * The retention triangle: one row for each time that a record was scored, with its block, the edits that stood, its
 * position, its age, and its scores.
 * @throws {RefusedInput} for a run without checkpoints
 */
export function retentionFrame(run: RunResult): DataFrame {
  const rows = sightsOf(run).map(({ score, position, age }): Row => {
    const { block, edits, record } = score;
    const shown = [...retained, "average"] as const;
    return {
      block,
      edits,
      record,
      position,
      age,
      ...Object.fromEntries(shown.map((name) => [name, measures[name](score)])),
    };
  });
  return frameOf(rows, "checkpoints");
}

/** Most rows and columns of the heat map. */
const MOST_CELLS = 20;

/**
 * The triangle as means over blocks: the position of an edit, in groups, over the edits that stood.
 * @throws {RefusedInput} for a run without checkpoints
 */
export function retentionGrid(run: RunResult, measure: MeasureName = "rewrite"): Grid {
  const sights = sightsOf(run);
  const last = Math.max(...sights.map(({ position }) => position));
  const size = Math.ceil(last / MOST_CELLS);
  const groups = Array.from({ length: Math.ceil(last / size) }, (_, i) => ({
    from: i * size + 1,
    to: Math.min((i + 1) * size, last),
  }));
  const times = timesOf(sights);
  const cells = groups.map(({ from, to }) =>
    times.map((edits): GridCell | null => {
      const own = sights.filter(({ score, position }) => score.edits === edits && position >= from && position <= to);
      return meanOf(run, own, measure);
    }),
  );
  return {
    x: { title: "Edits made", values: times },
    y: { title: `Edited as number${size === 1 ? "" : ` (first of ${size})`}`, values: groups.map(({ from }) => from) },
    measure,
    cells,
    own: null,
    isChoice: false,
    about: subtitleOf([run]),
  };
}

/** Numbers of edits at which earlier records were scored, thinned out to the last and evenly spaced ones before it. */
function timesOf(sights: readonly Sight[]): number[] {
  const all = [...new Set(sights.filter(({ age }) => age > 0).map(({ score }) => score.edits))].sort((a, b) => a - b);
  const every = Math.ceil(all.length / MOST_CELLS);
  return all.filter((_, i) => (all.length - 1 - i) % every === 0);
}

function meanOf(run: RunResult, sights: readonly Sight[], measure: MeasureName): GridCell | null {
  const interval = intervalOf({ ...run, scores: sights.map(({ score }) => score) }, measure);
  return interval && { ...interval, isOff: false };
}

/**
 * Forgetting: mean scores in [0, 1] by age with their 95% bootstrap intervals over records. The first row is right after
 * an edit; each other one takes the ages up to its own from beyond the row before.
 * @throws {RefusedInput} for a run without checkpoints
 */
export function forgettingFrame(run: RunResult): DataFrame {
  return frameOf(forgettingRows(run), "checkpoints");
}

/** The rows of `forgettingFrame`. @throws {RefusedInput} as it does */
export function forgettingRows(run: RunResult): Row[] {
  const sights = sightsOf(run);
  return agesOf(run, sights).map(({ from, to }): Row => {
    const own = sights.filter(({ age }) => age >= from && age <= to);
    const columns = retained.map((name) => {
      const { mean = null, low = null, high = null } = meanOf(run, own, name) ?? {};
      return { [name]: mean, [`${name}Low`]: low, [`${name}High`]: high };
    });
    return { age: to, scores: own.length, ...Object.assign({}, ...columns) };
  });
}

/** Ages in groups as wide as the distance of two checkpoints, so that a record counts about once in each. */
function agesOf(run: RunResult, sights: readonly Sight[]): { from: number; to: number }[] {
  const oldest = Math.max(...sights.map(({ age }) => age));
  if (oldest === 0) {
    throw new RefusedInput("no record was scored after a later edit", {
      where: `the ${run.protocol.method} run`,
      found: "scores right after each edit alone",
      expected: "blocks that are longer than the distance of checkpoints",
    });
  }
  const times = [...new Set(sights.filter(({ age }) => age > 0).map(({ score }) => score.edits))].sort((a, b) => a - b);
  const steps = times.slice(1).map((time, i) => time - (times[i] as number));
  const width = Math.max(Math.min(oldest, ...steps), Math.ceil(oldest / MOST_CELLS));
  const groups = Array.from({ length: Math.ceil(oldest / width) }, (_, i) => ({
    from: i * width + 1,
    to: Math.min((i + 1) * width, oldest),
  }));
  return [{ from: 0, to: 0 }, ...groups].filter(({ from, to }) => sights.some(({ age }) => age >= from && age <= to));
}

/** Frame of `forgettingFrame` for reading: means and intervals in one cell. */
export function forgettingView(frame: DataFrame, { digits = 3 }: FormatOptions = {}): DataFrame {
  const rows = rowsOf(frame).map(
    (row): Row => ({
      "Later edits": row.age === 0 ? "none" : `up to ${row.age}`,
      Scores: row.scores ?? null,
      ...Object.fromEntries(retained.map((name) => [scoreHeads[name], intervalText(row, name, digits)])),
    }),
  );
  return frameOf(rows, "checkpoints");
}
