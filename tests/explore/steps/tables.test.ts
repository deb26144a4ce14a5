import { describe, expect, it } from "vitest";
import { RefusedInput } from "../../../src/core/errors.js";
import { mean } from "../../../src/core/stats.js";
import { atSteps } from "../../../src/explore/steps/numSteps.js";
import { stepsCurve } from "../../../src/explore/steps/stepsCurve.js";
import { bySteps, recordOverSteps, stepsFindings, stepsFrame, stepsView } from "../../../src/explore/steps/tables.js";
import type { RunResult } from "../../../src/run/types.js";
import { rowsOf } from "../../../src/tables/tables.js";
import { measures } from "../../../src/tables/values.js";
import { sampleUnroutedRun } from "../../tables/sample.js";
import { sampleStepsRun } from "../../tables/sample-steps.js";

const pass = sampleStepsRun();
const runs = [1, 3, 10, 20].map((steps) => atSteps(pass, steps));
const averages = (run: RunResult | undefined) => (run?.scores ?? []).map((score) => measures.average(score) as number);

describe("stepsFrame", () => {
  const rows = rowsOf(stepsFrame([...runs].reverse()));

  it("has a row per n_iter, rising, with the gain over the row before", () => {
    expect(rows.map(({ steps }) => steps)).toEqual([1, 3, 10, 20]);
    expect([rows[0]?.gain, rows[0]?.gainRecords]).toEqual([null, 0]);
    rows.slice(1).forEach((row, i) => {
      expect(row.gain).toBeCloseTo(mean(averages(runs[i + 1])) - mean(averages(runs[i])), 12);
      expect(row.gainLow as number).toBeLessThanOrEqual(row.gain as number);
      expect(row.gainHigh as number).toBeGreaterThanOrEqual(row.gain as number);
    });
  });

  it("tells where early stopping cut in", () => {
    const stopped = pass.edits.filter(({ stoppedEarly }) => stoppedEarly).length;
    expect(rows.map(({ stoppedEarly }) => stoppedEarly)).toEqual([
      0,
      0,
      mean(pass.edits.map(({ steps }): number => (steps.length <= 10 ? 1 : 0))),
      stopped / pass.edits.length,
    ]);
    expect(rows.map(({ medianSteps }) => medianSteps).slice(0, 3)).toEqual([1, 3, 10]);
    expect(stepsFindings(stepsFrame(runs))[0]).toBe(
      `With n_iter = 20, ${((100 * stopped) / 40).toFixed(0)}% of the edits stopped early; half or more from n_iter = 20 on.`,
    );
  });

  it("says up to where steps changed Avg", () => {
    expect(stepsFindings(stepsFrame(runs.slice(0, 2)))[1]).toBe("The last steps, up to n_iter = 3, still changed Avg.");
    const same = { ...runs[3], scores: runs[2]?.scores } as RunResult;
    expect(stepsFindings(stepsFrame([...runs.slice(0, 3), same]))[1]).toMatch(/^After n_iter = 10 no row differs/);
    expect(stepsFindings(stepsFrame(runs.slice(3)))).toHaveLength(1);
  });

  it("is read with intervals in one cell, and without seconds where they were dropped", () => {
    const frame = stepsFrame(runs);
    const [first] = rowsOf(stepsView(frame));
    expect(first).toMatchObject({ n_iter: 1, "Gain in Avg": "-", "Stopped early": "0%" });
    expect(first?.Avg).toMatch(/^0\.\d{3} \[0\.\d{3}, 0\.\d{3}\]$/);
    expect(stepsView(frame).columns).toContain("s/edit");
    expect(stepsView(frame.drop({ columns: ["secondsPerEdit"] })).columns).not.toContain("s/edit");
  });
});

describe("recordOverSteps", () => {
  it("follows one record, with the text of what is predicted", () => {
    const named = runs.map((run) => ({ ...run, tokens: new Map(run.scores[2]?.rewrite.post.map((id) => [id, "ab"])) }));
    const rows = rowsOf(recordOverSteps(named, 2));
    expect(rows.map(({ rewrite }) => rewrite)).toEqual(runs.map((run) => run.scores[2]?.rewrite.score));
    expect(rows.map(({ predicted }) => predicted)).toEqual(["abababab", "abababab", "abababab", "abababab"]);
    expect(rows[1]?.loss).toBe(pass.edits[2]?.steps[2]?.loss);
    expect(() => recordOverSteps(runs, 40)).toThrow(/record 40/);
  });
});

describe("stepsCurve", () => {
  it("draws the table's means, and the share that stopped early under them", () => {
    const rows = rowsOf(stepsFrame(runs));
    const lines = stepsCurve(runs).data as { name: string; x: number[]; y: number[] }[];
    expect(lines.map(({ name }) => name)).toEqual(["rewrite", "rephrase", "locality", "Avg", "stopped early"]);
    for (const { x } of lines) expect(x).toEqual([1, 3, 10, 20]); // each mark where its number is
    expect(lines[1]?.y).toEqual(rows.map(({ rephrase }) => rephrase));
    expect(lines[4]?.y).toEqual(rows.map(({ stoppedEarly }) => stoppedEarly));
  });
});

describe("runs over n_iter", () => {
  it("are refused when they differ in more, have one n_iter twice, or have none", () => {
    const [one, two] = runs as [RunResult, RunResult];
    const other = { ...two, protocol: { ...two.protocol, seed: 8 } };
    expect(() => bySteps([one, other])).toThrow(/seed is 8/);
    expect(() => stepsCurve([one, one])).toThrow(/n_iter = 1 twice/);
    expect(() => stepsFrame([{ ...one, protocol: { ...one.protocol, options: {} } }])).toThrow(RefusedInput);
    expect(() => stepsFrame([])).toThrow(RefusedInput);
    const always = sampleUnroutedRun({ T: 1 });
    expect(stepsView(stepsFrame([always])).columns[0]).toBe("v_num_grad_steps");
  });
});
