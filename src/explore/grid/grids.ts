import type { DataFrame } from "danfojs-node";
import { RefusedInput } from "../../core/errors.js";
import type { Interval } from "../../core/stats.js";
import { subtitleOf } from "../../figures/subtitle.js";
import type { RunResult, ScoredRun } from "../../run/types.js";
import { newFrame } from "../../tables/frame.js";
import { fieldOf, requireAlike } from "../../tables/protocols.js";
import type { Cell } from "../../tables/readable.js";
import { frameOf, intervalOf, type Row } from "../../tables/tables.js";
import type { MeasureName } from "../../tables/values.js";
import { alwaysAnswers, inferenceOf } from "../router/router.js";
import { stepsKey, stepsOf } from "../steps/tables.js";
import { gridPoints } from "./points.js";

/** One side of a grid: what differs along it, and its values in order. */
export interface GridAxis {
  title: string;
  values: readonly Cell[];
}

/** A mean of a grid. */
export interface GridCell extends Interval {
  /** True where the router decided nothing: the number is that of edits which always answer. */
  isOff: boolean;
}

/** A measure over two settings. */
export interface Grid {
  x: GridAxis;
  y: GridAxis;
  measure: MeasureName;
  /** Row by row in the order of `y`, each in the order of `x`; null where nothing was measured. */
  cells: readonly (readonly (GridCell | null)[])[];
  /** Column and row of the settings that the numbers were computed from, where one run gave them all. */
  own: Place | null;
  /** False where a larger number is no better choice: no cell is then marked as the best. True, when left out. */
  isChoice?: boolean;
  /** The runs in few words, as `subtitleOf` has them. */
  about: readonly string[];
}

/** A cell, by column and row. */
export interface Place {
  x: number;
  y: number;
}

/**
 * A measure over the router's inference-only option and the step limit, from one run at T = 1 and by arithmetic alone. Its
 * own values are always among them.
 * @param run made with `scoreSteps`
 * @throws {RefusedInput} as `gridPoints`
 */
export function gridOf(
  run: RunResult,
  settings: { values: readonly number[]; steps: readonly number[]; measure?: MeasureName },
): Grid {
  const { measure = "average" } = settings;
  const { own, key } = inferenceOf(run.protocol);
  const limit = stepsOf(run);
  const values = rising([...settings.values, own]);
  const steps = rising([...settings.steps, limit]);
  const cells: (GridCell | null)[][] = steps.map(() => []);
  for (const point of gridPoints(run, { values, steps })) {
    cells[steps.indexOf(point.steps)]?.push(cellOf(point.run, measure));
  }
  return {
    x: { title: key, values },
    y: { title: stepsKey(run), values: steps },
    measure,
    cells,
    own: { x: values.indexOf(own), y: steps.indexOf(limit) },
    about: subtitleOf([run]),
  };
}

/** Fields of a protocol that vary together along one side. */
export type GridFields = string | readonly string[];

/**
 * A measure over two settings of runs that were made, such as those of a sweep: one option over another, each as
 * "options.KEY".
 * @throws {RefusedInput} naming every other field in which runs differ, and when two have the same settings
 */
export function sweepGrid(
  runs: readonly ScoredRun[],
  settings: { x: GridFields; y: GridFields; measure?: MeasureName },
): Grid {
  const { measure = "average" } = settings;
  const sides = [settings.x, settings.y].map((fields) => [fields].flat());
  requireAlike(runs, sides.flat());
  const [x, y] = sides.map((fields): Side => ({ fields, values: settingsOf(runs, fields) })) as [Side, Side];
  const cells: (GridCell | null)[][] = y.values.map(() => x.values.map(() => null));
  const seen = new Set<string>();
  for (const run of runs) {
    const place = [x, y].map(({ fields, values }) => values.indexOf(settingOf(run, fields)));
    if (seen.has(place.join())) throw twoOfOneCell(run, sides.flat());
    seen.add(place.join());
    (cells[place[1] as number] as (GridCell | null)[])[place[0] as number] = cellOf(run, measure);
  }
  const side = ({ fields, values }: Side): GridAxis => ({ title: titleOf(fields), values });
  return { x: side(x), y: side(y), measure, cells, own: null, about: subtitleOf(runs) };
}

interface Side {
  fields: readonly string[];
  values: readonly Cell[];
}

/** Sums of the same scores in another order differ by rounding: a tie must still count as one. */
const ROUNDING = 1e-12;

/**
 * Places of the largest mean: several where cells are equal. Cells where the router decided nothing are not among them,
 * unless there is no other. None of a grid that offers no choice.
 */
export function bestCells({ cells, isChoice = true }: Grid): Place[] {
  if (!isChoice) return [];
  const all = cells.flatMap((row, y) => row.flatMap((cell, x) => (cell === null ? [] : [{ x, y, ...cell }])));
  const on = all.filter(({ isOff }) => !isOff);
  const weighed = on.length > 0 ? on : all;
  const best = Math.max(...weighed.map(({ mean }) => mean));
  return weighed.filter(({ mean }) => mean >= best - ROUNDING).map(({ x, y }) => ({ x, y }));
}

/** One row per cell: both settings, the mean with its 95% bootstrap interval, and whether it is the best, and whether the router was off. */
export function gridFrame(grid: Grid): DataFrame {
  const best = bestCells(grid);
  const rows = grid.y.values.flatMap((y, row) =>
    grid.x.values.map((x, column): Row => {
      const { mean = null, low = null, high = null, isOff = false } = grid.cells[row]?.[column] ?? {};
      const isBest = best.some((place) => place.x === column && place.y === row);
      const { measure } = grid;
      return {
        [grid.x.title]: x,
        [grid.y.title]: y,
        [measure]: mean,
        [`${measure}Low`]: low,
        [`${measure}High`]: high,
        best: isBest,
        off: isOff,
      };
    }),
  );
  return frameOf(rows, "cells");
}

/** The means of a grid as they lie: a row per value of `y`, a column per value of `x`; "off" where the router was. */
export function gridView({ x, y, cells }: Grid): DataFrame {
  const rows = y.values.map((value, row) => [String(value), ...(cells[row] ?? []).map(textOf)]);
  // Not from objects: their keys would put columns named by whole numbers first.
  return newFrame(rows, [`${y.title} \\ ${x.title}`, ...x.values.map(String)]);
}

function textOf(cell: GridCell | null): Cell {
  return cell?.isOff ? `${cell.mean.toFixed(3)} off` : (cell?.mean ?? null);
}

/** A measure of a run, as a cell. */
function cellOf(run: ScoredRun, measure: MeasureName): GridCell | null {
  const interval = intervalOf(run, measure);
  return interval && { ...interval, isOff: alwaysAnswers(run) };
}

const rising = (values: readonly number[]) => [...new Set(values)].sort((a, b) => a - b);

/** The different values of some fields: numbers rising, others in the order of the runs. */
function settingsOf(runs: readonly ScoredRun[], fields: readonly string[]): Cell[] {
  const values = [...new Set(runs.map((run) => settingOf(run, fields)))];
  return values.every((value) => typeof value === "number") ? rising(values) : values;
}

/** The value of a field as it is shown; of several fields, their values together. */
function settingOf({ protocol }: ScoredRun, fields: readonly string[]): Cell {
  const values = fields.map((field) => {
    const value = fieldOf(protocol, field);
    if (value === undefined) {
      throw new RefusedInput("a protocol has no such field", {
        where: "a side of the grid",
        found: field,
        expected: `a field such as T, or one of ${Object.keys(protocol.options)
          .map((name) => `options.${name}`)
          .join(", ")}`,
      });
    }
    return typeof value === "number" || typeof value === "string" ? value : JSON.stringify(value);
  });
  return values.length === 1 ? (values[0] as Cell) : values.join(", ");
}

function titleOf(fields: readonly string[]): string {
  return fields.map((field) => field.replace(/^options\./, "")).join(", ");
}

function twoOfOneCell(run: ScoredRun, fields: readonly string[]): RefusedInput {
  return new RefusedInput("two runs have one cell of the grid", {
    where: run.folder ?? "runs",
    found: fields.map((field) => `${field} ${settingOf(run, [field])}`).join(", "),
    expected: "one run per combination",
  });
}
