import { describe, expect, it } from "vitest";
import { exploreRouter } from "../../../src/explore/router/exploreRouter.js";
import { routerPoints } from "../../../src/explore/router/routerScores.js";
import {
  bestValuesFrame,
  bestValuesView,
  rocFrame,
  routerFrame,
  routerView,
  runNames,
} from "../../../src/explore/router/tables.js";
import { rowsOf } from "../../../src/tables/tables.js";
import { sampleRun, sampleUnroutedRun } from "../../tables/sample.js";

const run = sampleRun({ options: { act_ratio: 0.5, retrieve: true } });
const explored = exploreRouter(run, [0, 0.5, 1]);

describe("routerFrame and routerView", () => {
  it("name their first column by the option", () => {
    const points = routerPoints(run, [0.25, 1]);
    expect(rowsOf(routerFrame(points)).map((row) => row.act_ratio)).toEqual([0.25, 1]);
    expect(rowsOf(routerFrame(points))[1]).toMatchObject({
      average: points[1]?.average.mean,
      averageLow: points[1]?.average.low,
      localityToEdit: points[1]?.toEdit.locality,
    });
    const [row] = rowsOf(routerView(points));
    expect(Object.entries(row ?? {})[0]).toEqual(["act_ratio", "0.25"]);
    expect(row?.["Edit answers rew / reph / loc"]).toMatch(/^\d\.\d\d \/ \d\.\d\d \/ \d\.\d\d$/);
  });
});

describe("bestValuesFrame and bestValuesView", () => {
  it("name the option of each run", () => {
    const [row] = rowsOf(bestValuesFrame([explored]));
    expect(row).toMatchObject({ run: "T = 10, Retrieve", option: "act_ratio", own: 0.5, best: explored.best.value });
    expect(rowsOf(bestValuesView([explored]))[0]).toMatchObject({ option: "act_ratio", own: "0.5" });
  });
});

describe("rocFrame", () => {
  it("has no value where no edit answers", () => {
    const rows = rowsOf(rocFrame(explored.roc));
    expect(rows[0]).toEqual({ value: null, inScope: 0, outOfScope: 0 });
    expect(rows[1]?.value).toBe(explored.roc.points[1]?.value);
  });
});

describe("runNames", () => {
  it("name T, what a method has words for, and every field in which a run differs", () => {
    const merge = sampleRun({ options: { act_ratio: 0.7, retrieve: false } });
    expect(runNames([run, merge])).toEqual(["T = 10, Retrieve, act_ratio = 0.5", "T = 10, Merge, act_ratio = 0.7"]);
    expect(runNames([run, sampleUnroutedRun()])).toEqual(["T = 10, Retrieve, method = wise", "T = 10, method = rome"]);
  });
});
