import { describe, expect, it } from "vitest";
import { RefusedInput } from "../../../src/core/errors.js";
import { mean } from "../../../src/core/stats.js";
import { gridHeatmap } from "../../../src/explore/grid/gridHeatmap.js";
import { bestCells, gridFrame, gridOf, gridView, sweepGrid } from "../../../src/explore/grid/grids.js";
import { atInference } from "../../../src/explore/router/atInference.js";
import { alwaysAnswers } from "../../../src/explore/router/router.js";
import { atSteps } from "../../../src/explore/steps/numSteps.js";
import { titleText } from "../../../src/figures/figure.js";
import { colors } from "../../../src/figures/theme.js";
import type { RunResult } from "../../../src/run/types.js";
import { rowsOf } from "../../../src/tables/tables.js";
import { measures } from "../../../src/tables/values.js";
import { sampleUnroutedRun } from "../../tables/sample.js";
import { sampleStepsRun } from "../../tables/sample-steps.js";

const run = sampleStepsRun();

/** The run as another point of a sweep would have it. */
function pointOf(options: Record<string, unknown>, steps = 20): RunResult {
  const { scores } = atSteps(run, steps);
  return { ...run, scores, protocol: { ...run.protocol, options: { ...run.protocol.options, ...options } } };
}

describe("gridOf", () => {
  const grid = gridOf(run, { values: [1, 0.25], steps: [10, 1], measure: "rewrite" });

  it("holds in each cell the mean of the run with both settings, its own among them", () => {
    expect([grid.x.values, grid.y.values]).toEqual([
      [0.25, 0.5, 1],
      [1, 10, 20],
    ]);
    grid.y.values.forEach((steps, y) => {
      grid.x.values.forEach((value, x) => {
        const { scores } = atInference(atSteps(run, steps as number), value as number);
        expect(grid.cells[y]?.[x]?.mean).toBeCloseTo(mean(scores.map(measures.rewrite) as number[]), 12);
      });
    });
    expect(grid.own).toEqual({ x: 1, y: 2 });
  });

  it("is refused for a method whose edits always answer, which has nothing to cross the steps with", () => {
    expect(() => gridOf(sampleUnroutedRun({ T: 1 }), { values: [1], steps: [1] })).toThrow(
      /edits of ROME always answer/,
    );
  });

  it("is read as rows, and as it lies", () => {
    const rows = rowsOf(gridFrame(grid));
    expect(rows).toHaveLength(9);
    expect(rows[1]).toMatchObject({ act_ratio: 0.5, n_iter: 1, rewrite: grid.cells[0]?.[1]?.mean });
    const best = rows.filter((row) => row.best).map((row) => row.rewrite);
    expect(new Set(best)).toEqual(new Set([Math.max(...rows.map((row) => row.rewrite as number))]));
    expect(gridView(gridOf(run, { values: [0, 1], steps: [20] })).columns).toEqual([
      "n_iter \\ act_ratio",
      "0",
      "0.5",
      "1",
    ]);
  });
});

describe("cells where an edit always answers", () => {
  const grid = gridOf(run, { values: [0, 1], steps: [5] });

  it("are those of a threshold of 0: every probe is at the largest margin", () => {
    expect(grid.cells.map((row) => row.map((cell) => cell?.isOff))).toEqual([
      [true, false, false],
      [true, false, false],
    ]);
    expect(alwaysAnswers(atInference(run, 0))).toBe(true);
    expect(alwaysAnswers(run)).toBe(false);
    expect(alwaysAnswers(sampleUnroutedRun())).toBe(false); // there is no router to be off
  });

  it("are marked in both tables, and are the best only where there is no other", () => {
    expect(rowsOf(gridFrame(grid)).map((row) => row.off)).toEqual([true, false, false, true, false, false]);
    expect(String(rowsOf(gridView(grid))[0]?.["0"])).toMatch(/^0\.\d{3} off$/);
    const row = (isOff: boolean) =>
      [true, isOff].map((off, x) => ({ mean: 1 - x / 2, low: 0, high: 1, n: 4, isOff: off }));
    expect(bestCells({ ...grid, cells: [row(false)] })).toEqual([{ x: 1, y: 0 }]);
    expect(bestCells({ ...grid, cells: [row(true)] })).toEqual([{ x: 0, y: 0 }]);
  });
});

describe("sweepGrid", () => {
  const runs = [
    pointOf({ edit_lr: 1, mask_ratio: 0.2 }),
    pointOf({ edit_lr: 0.1, mask_ratio: 0.2 }, 1),
    pointOf({ edit_lr: 0.1, mask_ratio: 0.5 }, 5),
  ];

  it("puts each run in its place, and leaves open what was not run", () => {
    const grid = sweepGrid(runs, { x: "options.edit_lr", y: "options.mask_ratio" });
    expect([grid.x, grid.y]).toEqual([
      { title: "edit_lr", values: [0.1, 1] },
      { title: "mask_ratio", values: [0.2, 0.5] },
    ]);
    expect(grid.cells.map((row) => row.map((cell) => cell !== null))).toEqual([
      [true, true],
      [true, false],
    ]);
    expect(bestCells(grid)).toEqual([{ x: 1, y: 0 }]);
    expect(gridHeatmap(grid).layout.annotations).toHaveLength(3);
  });

  it("takes fields that vary together as one side", () => {
    const shards = [
      pointOf({ save_freq: 2, merge_freq: 4, act_margin: [2, 20, 10] }),
      pointOf({ save_freq: 5, merge_freq: 10, act_margin: [5, 20, 10] }),
    ];
    const grid = sweepGrid(shards, { x: ["options.save_freq", "options.merge_freq"], y: "options.act_margin" });
    expect(grid.x).toEqual({ title: "save_freq, merge_freq", values: ["2, 4", "5, 10"] });
    expect(grid.y).toEqual({ title: "act_margin", values: ["[2,20,10]", "[5,20,10]"] });
  });

  it("refuses runs that differ in anything else, two of one cell, and an unknown field", () => {
    const other = pointOf({ edit_lr: 2, mask_ratio: 0.2, seed: 3 });
    const fields = { x: "options.edit_lr", y: "options.mask_ratio" };
    expect(() => sweepGrid([...runs, other], fields)).toThrow(/options\.seed is 3/);
    expect(() => sweepGrid([...runs, pointOf({ edit_lr: 1, mask_ratio: 0.2 })], fields)).toThrow(
      /options\.edit_lr 1, options\.mask_ratio 0\.2/,
    );
    expect(() => sweepGrid([run], { x: "options.rate", y: "T" })).toThrow(RefusedInput);
    expect(() => sweepGrid([], fields)).toThrow(RefusedInput);
  });
});

describe("gridHeatmap", () => {
  it("frames the best cells and the run's own, and writes numbers only where they fit", () => {
    const grid = gridOf(run, { values: [0, 1], steps: [1, 5] });
    const { layout, data } = gridHeatmap(grid);
    const numbers = grid.cells.flat().map((cell) => `${cell?.mean.toFixed(2)}${cell?.isOff ? "<br>off" : ""}`);
    expect(layout.annotations?.map(({ text }) => text)).toEqual(numbers);
    expect(layout.shapes).toHaveLength(9 + bestCells(grid).length + 2);
    expect(data.map((trace) => (trace as { name: string }).name)).toEqual(["Avg", "best", "the run's own"]);
    const wide = gridOf(run, { values: Array.from({ length: 41 }, (_, i) => i / 20), steps: [5] });
    expect(gridHeatmap(wide).layout.annotations).toEqual([]);
  });

  it("takes the colour, and the frame of the best, from cells where the router was off", () => {
    const grid = gridOf(run, { values: [0, 1], steps: [1, 5] });
    const { layout, data } = gridHeatmap(grid);
    const fills = layout.shapes?.slice(0, 9).map(({ fillcolor }) => fillcolor) as string[];
    expect(fills.map((fill) => fill === colors.grid)).toEqual(grid.cells.flat().map((cell) => cell?.isOff));
    expect(titleText({ data, layout, config: {} })).toContain("grey: the router is off");
    const crowded = gridOf(run, { values: [0], steps: run.scoreSteps });
    const marks = gridHeatmap({ ...crowded, y: { ...crowded.y, values: [...crowded.y.values, 30, 40, 50] } }).layout;
    expect(marks.annotations?.[0]?.text).toBe("off"); // two lines have no room
    const on = gridHeatmap(gridOf(run, { values: [1], steps: [5] }));
    expect(titleText(on)).not.toContain("grey");
  });

  it("refuses a grid without numbers", () => {
    const grid = gridOf(run, { values: [0], steps: [1], measure: "portability" });
    expect(() => gridHeatmap(grid)).toThrow(/no cell with a number/);
  });
});
