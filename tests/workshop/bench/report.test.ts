import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { benchMarkdown, benchText } from "../../../src/cli/bench.js";
import type { Measured, ShapeResult } from "../../../src/workshop/bench/bench.js";
import { alike, type Computed, differencesOf } from "../../../src/workshop/bench/compare.js";
import type { Edited } from "../../../src/workshop/bench/protocol.js";
import { type BenchReport, benchNotes, benchRows } from "../../../src/workshop/bench/report.js";
import { repository } from "../../support/shared.js";

const step = (loss: number) => ({ ft: loss / 4, act: (3 * loss) / 4, loss });
const edit = (...losses: number[]): Edited => ({ seconds: 1, frozen: null, losses: losses.map(step) });

function computed(change: Partial<Computed & { edit: Edited }> = {}): Computed & { edit: Edited } {
  return {
    losses: [step(20), step(10)],
    scored: { activations: [8, 0.1], before: [[1, 2], [3]], after: [[4, 5], [3]] },
    delta: Float32Array.of(3, -4),
    edit: edit(20, 10, 5),
    ...change,
  };
}

describe("two sides are compared", () => {
  const against = (change: Parameters<typeof computed>[0]) => differencesOf(computed(), computed(change));

  test("by what they computed, and are alike where they agree", () => {
    const same = { loss: 0, matrix: 0, activation: 0, tokens: 0, ofTokens: 6, lossInTheEnd: 0 };
    expect(against({})).toEqual(same);
    expect(alike(same)).toBe(true);
  });

  test.each<[what: string, change: Parameters<typeof computed>[0], found: object]>([
    ["a loss", { losses: [step(20), step(10.01)] }, { loss: expect.closeTo(0.001, 5) }],
    ["losses whose sum is the same", { losses: [step(20), { ft: 2, act: 8, loss: 10 }] }, { loss: 0.05 }],
    ["a step", { losses: [step(20)] }, { loss: Number.POSITIVE_INFINITY }],
    ["a step in the end", { edit: edit(20, 10) }, { lossInTheEnd: Number.POSITIVE_INFINITY }],
    ["a loss that is no number", { losses: [step(Number.NaN), step(10)] }, { loss: Number.NaN }],
    ["the matrix", { delta: Float32Array.of(3, -4.05) }, { matrix: expect.closeTo(0.01, 5) }],
    ["the size of the matrix", { delta: Float32Array.of(3) }, { matrix: Number.NaN }],
    [
      "an activation",
      { scored: { ...computed().scored, activations: [8, 0.11] } },
      { activation: expect.closeTo(0.0909, 4) },
    ],
    ["predictions", { scored: { ...computed().scored, after: [[9, 9], [3]] } }, { tokens: 2 }],
  ])("%s decides", (_, change, found) => {
    expect(against(change)).toMatchObject(found);
    expect(alike(against(change))).toBe(false);
  });

  test("one prediction may be a tie, and what rounding grows to in the end decides nothing", () => {
    const almost = against({ scored: { ...computed().scored, after: [[4, 9], [3]] }, edit: edit(20, 10, 5.5) });
    expect(almost).toMatchObject({ tokens: 1, lossInTheEnd: expect.closeTo(0.0909, 4) });
    expect(alike(almost)).toBe(true);
  });
});

const differences = { loss: 1e-6, matrix: 2e-5, activation: 3e-6, tokens: 0, ofTokens: 18, lossInTheEnd: 1e-4 };

function measured(side: Measured["side"], edit: number[], change: Partial<Measured> = {}): Measured {
  const own = side === "cut" ? { frozen: edit.map((s) => s / 5), differences: null } : { frozen: null, differences };
  const runsOn = side === "reference" ? "PyTorch" : "tensorflow";
  return { side, runsOn, device: "cpu", edit, score: [0.5, 0.7, 0.6], peakBytes: 2.5e9, ...own, ...change };
}

function report(change: Partial<ShapeResult> = {}): BenchReport {
  const shape: ShapeResult = {
    shape: "1b",
    model: "llama-3.2-1b",
    modelSha256: "0123456789abcdef".repeat(4),
    standIn: true,
    residence: "whole",
    layer: 13,
    layers: 16,
    rows: 12,
    tokens: 250,
    probes: 3,
    probeTokens: 44,
    steps: 10,
    sides: [measured("whole", [81, 80, 200]), measured("cut", [9, 10, 11]), measured("reference", [50, 60, 40])],
    alike: true,
    ...change,
  };
  const machine = { processor: "P", cores: 2, memoryBytes: 2 ** 34, platform: "linux x64", node: "v20", wiseLab: "1" };
  const skipped = ["8b was not measured."];
  return {
    date: "2026-11-22",
    command: "npm run bench",
    machine,
    precision: "float32",
    rounds: 3,
    shapes: [shape],
    skipped,
  };
}

describe("the report", () => {
  test("has medians, what is left for a step, and ratios of medians", () => {
    const [whole, cut, reference] = benchRows(report());
    expect(whole).toMatchObject({
      "s/edit": "81",
      "of it frozen part": null,
      "s/step": "8.1",
      "s/scored record": "0.6",
    });
    expect(cut).toMatchObject({ "s/edit": "10", "of it frozen part": "2", "s/step": "0.8", "peak memory, GB": "2.5" });
    expect(cut).toMatchObject({ "times faster than (a)": "8.1", "times faster than (c)": "5" });
    expect(reference).toMatchObject({ "times faster than (a)": "1.62", "times faster than (c)": null });
  });

  test("holds a record against its products, where they were counted", () => {
    const [whole, cut, reference] = benchRows(report({ floor: { gflop: 106, rate: 50 } }));
    expect(whole).toMatchObject({ "s/record": "81.6", "its floor": "2.12", "times the floor": "38.5" });
    expect(cut).toMatchObject({ "s/record": "10.6", "its floor": "2.12", "times the floor": "5" });
    expect(reference).toMatchObject({ "s/record": "50.6", "its floor": null, "times the floor": null });
    expect(benchRows(report())[1]).toMatchObject({ "s/record": "10.6", "its floor": null });
    expect(benchNotes(report({ floor: { gflop: 106, rate: 50 } })).join()).toContain("are 106 GFLOP");
    expect(benchNotes(report({ dispatches: 251 })).join()).toContain("1b: a step of (b) is 251 dispatches");
    expect(benchNotes(report({ dispatches: null })).join()).not.toContain("dispatches");
  });

  test("compares no times of sides that did not compute the same thing, and says so", () => {
    const unlike = report({ alike: false });
    for (const row of benchRows(unlike)) {
      expect(row).toMatchObject({ "times faster than (a)": null, "times faster than (c)": null });
    }
    expect(benchNotes(unlike).join("\n")).toMatch(/not the same computation: no times are compared/);
    expect(benchNotes(report()).join("\n")).not.toMatch(/not the same computation/);
  });

  test("says on what, on which rows, what was left out, and whether a GPU was tried", () => {
    const notes = benchNotes(report()).join("\n");
    for (const said of [
      "2026-11-22",
      "P, 2 cores, 16 GiB",
      "PyTorch",
      "random weights in the shapes of llama-3.2-1b",
      "every fourth",
      "layer 13 of 16",
      "12 rows of 250 tokens",
      "3 rounds",
      "8b was not measured.",
      "GPU: not tried.",
    ]) {
      expect(notes).toContain(said);
    }
    const onGpu = report({ sides: [measured("cut", [1], { device: "gpu" })] });
    expect(benchNotes(onGpu).join("\n")).toContain("GPU: used by (b).");
  });

  test("is a table and a list, as text and as Markdown", () => {
    expect(benchText(report())).toMatch(/^model +what is run.*\n-+.*\n *1b +\(a\)[\s\S]*GPU: not tried\.$/);
    expect(benchMarkdown(report())).toMatch(/^\| model \|.*\n\| ---.*\n\| 1b \| \(a\)[\s\S]*\n- GPU: not tried\.\n$/);
    expect(benchText({ ...report(), shapes: [] })).toMatch(/8b was not measured\./);
  });
});

const text = (...path: string[]) => readFileSync(join(repository, ...path), "utf8");
const folder = join(repository, "data/bench");
const saved = existsSync(folder) ? readdirSync(folder).filter((name) => /^\d{4}-\d\d-\d\d\.json$/.test(name)) : [];
const methodsSaved = existsSync(folder) ? readdirSync(folder).filter((name) => /^methods-.*\.json$/.test(name)) : [];

describe("the measurements that come with the project", () => {
  test.runIf(saved.length > 0)("latest.md is the newest of them", () => {
    const newest = JSON.parse(text("data/bench", saved.sort().at(-1) as string)) as BenchReport;
    expect(text("data/bench/latest.md")).toBe(benchMarkdown(newest));
  });

  test.runIf(methodsSaved.length > 0)("methods.md is the newest of its own", () => {
    const newest = JSON.parse(text("data/bench", methodsSaved.sort().at(-1) as string)) as BenchReport;
    expect(text("data/bench/methods.md")).toBe(benchMarkdown(newest));
  });
});
