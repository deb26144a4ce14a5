import { describe, expect, test } from "vitest";
import { gridHeatmap } from "../../../src/explore/grid/gridHeatmap.js";
import {
  forgettingFrame,
  forgettingView,
  retentionFrame,
  retentionGrid,
} from "../../../src/explore/retention/retention.js";
import { rowsOf } from "../../../src/tables/tables.js";
import { measures } from "../../../src/tables/values.js";
import { refusal } from "../../model/support.js";
import { sampleCheckpointRun, sampleRun } from "../../tables/sample.js";

const run = sampleCheckpointRun(); // 60 records in two blocks of 30, checkpoints every 10

describe("the retention triangle", () => {
  const rows = rowsOf(retentionFrame(run));

  test("has every record right after its edit, at each later checkpoint, and at the end of its block", () => {
    const of = (record: number) => rows.filter((row) => row.record === record).map(({ edits }) => edits);
    expect(of(0)).toEqual([1, 10, 20, 30]);
    expect(of(9)).toEqual([10, 20, 30]);
    expect(of(34)).toEqual([5, 10, 20, 30]);
    expect(of(59)).toEqual([30]); // once, although it was scored alone and with the others
    for (const { edits, position, age } of rows) expect(age).toBe((edits as number) - (position as number));
  });

  test("ends with what the run is scored by", () => {
    const last = rows.filter(({ edits, block }) => edits === 30 && block === 1);
    expect(last.map(({ locality }) => locality)).toEqual(run.scores.slice(30).map(measures.locality));
  });

  test("as a grid holds means of groups of edits, and nothing before their edits", () => {
    const { x, y, cells } = retentionGrid(run);
    expect(x.values).toEqual([10, 20, 30]);
    expect(y.values).toEqual(Array.from({ length: 15 }, (_, i) => 2 * i + 1));
    expect(cells[0]?.map((cell) => cell?.mean)).toEqual([1, 0, expect.any(Number)]); // ages 8 and 9, then beyond ten
    expect(cells[5]?.[0]).toBeNull(); // edits 11 and 12 after ten edits
    expect(cells[5]?.[1]?.mean).toBe(1);
    const drawn = JSON.stringify(gridHeatmap(retentionGrid(run)));
    expect(drawn).not.toContain("grid-best"); // no cell of a triangle is a choice
  });

  test("is refused for a run without checkpoints, with the way to get them", async () => {
    expect((await refusal(() => retentionFrame(sampleRun()))).hint).toContain("--checkpoint-every");
  });
});

describe("forgetting", () => {
  const rows = rowsOf(forgettingFrame(run));

  test("counts each record about once in each group of ages", () => {
    expect(rows.map(({ age }) => age)).toEqual([0, 10, 20, 29]);
    expect(rows[0]?.scores).toBe(60);
    expect(rows.map(({ rewrite }) => rewrite).slice(0, 1)).toEqual([1]);
    for (const { scores } of rows) expect(scores as number).toBeLessThanOrEqual(60);
  });

  test("reads as a table", () => {
    const view = rowsOf(forgettingView(forgettingFrame(run)));
    expect(view.map((row) => row["Later edits"])).toEqual(["none", "up to 10", "up to 20", "up to 29"]);
    expect(view[0]?.Rewrite).toBe("1.000 [1.000, 1.000]");
  });
});
