import { describe, expect, it } from "vitest";
import { LabFailure, RefusedInput } from "../../src/core/errors.js";
import { createRng } from "../../src/core/rng.js";
import { bootstrapInterval } from "../../src/core/stats.js";
import type { ProbeScore, RecordScore } from "../../src/eval/types.js";
import type { RunResult } from "../../src/run/types.js";
import { footnotes } from "../../src/tables/protocols.js";
import { blocksFrame, casesFrame, rowsOf, summaryFrame } from "../../src/tables/tables.js";
import { sampleRun, sampleUnroutedRun } from "./sample.js";

const run = sampleRun({ T: 7, records: 16 });

const always = sampleUnroutedRun({ T: 7, records: 16 });

/** The run with some of its records changed. */
function changed(records: Record<number, (score: RecordScore) => Partial<RecordScore>>): RunResult {
  return { ...run, scores: run.scores.map((score, i) => ({ ...score, ...records[i]?.(score) })) };
}

function average(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0) / values.length;
}

describe("casesFrame", () => {
  it("has one row per record, in order, with its scores and its edit", () => {
    const rows = rowsOf(casesFrame(run));
    expect(rows.map((row) => row.record)).toEqual(run.scores.map((score) => score.record));
    const score = run.scores[9] as RecordScore;
    expect(rows[9]).toMatchObject({
      block: 1,
      subject: score.subject,
      rewrite: score.rewrite.score,
      preRewrite: 0.25,
      rewriteRoute: score.rewrite.route,
      localityExact: score.locality[0]?.exact,
      steps: 30,
      stoppedEarly: false,
    });
    expect(rows[9]).not.toHaveProperty("portability");
  });

  it("has null only where a record has no such probe", () => {
    const rows = rowsOf(casesFrame(changed({ 0: () => ({ rephrase: null }), 1: () => ({ locality: [] }) })));
    expect(rows[0]).toMatchObject({ rephrase: null, rephraseExact: null, rephraseRoute: null, average: null });
    expect(rows[0]?.locality).not.toBeNull();
    expect(rows[1]).toMatchObject({ locality: null, localityRoute: null, average: null });
    expect(Object.values(rows[2] ?? {})).not.toContain(null);
  });

  it("counts a record with several probes of a kind once, with their mean", () => {
    const probe = run.scores[0]?.locality[0] as ProbeScore;
    const several = [1, 0.5, 0].map((score): ProbeScore => ({ ...probe, score, exact: score === 1, route: "main" }));
    const rows = rowsOf(casesFrame(changed({ 0: () => ({ locality: several, portability: several }) })));
    expect(rows[0]).toMatchObject({ locality: 0.5, portability: 0.5, localityExact: false, localityRoute: "main" });
    expect(rows[1]).toMatchObject({ portability: null });
  });

  it("shows a NaN as a NaN", () => {
    const rows = rowsOf(casesFrame(changed({ 3: (score) => ({ rewrite: { ...score.rewrite, score: Number.NaN } }) })));
    expect(rows[3]?.rewrite).toBeNaN();
    expect(rows[3]?.average).toBeNaN();
  });

  it("refuses a run without records", () => {
    expect(() => casesFrame({ ...run, scores: [] })).toThrow(RefusedInput);
  });
});

describe("blocksFrame", () => {
  it("has one row per block, the short last one too, and says how many records stand behind each mean", () => {
    const rows = rowsOf(blocksFrame(changed({ 15: () => ({ rephrase: null }) })));
    expect(rows.map((row) => [row.block, row.firstRecord, row.lastRecord, row.records])).toEqual([
      [0, 0, 6, 7],
      [1, 7, 13, 7],
      [2, 14, 15, 2],
    ]);
    expect(rows[0]?.rewrite).toBeCloseTo(average(run.scores.slice(0, 7).map((score) => score.rewrite.score)), 12);
    expect(rows[2]).toMatchObject({ rephrase: run.scores[14]?.rephrase?.score, rephraseRecords: 1, averageRecords: 1 });
    expect(rows[2]?.seconds).toBeCloseTo(2 * 1.7, 12);
  });
});

describe("summaryFrame", () => {
  it("has the mean over records of every score, with its 95% bootstrap interval", () => {
    const [row] = rowsOf(summaryFrame([run]));
    const values = run.scores.map((score) => score.rephrase?.score ?? Number.NaN);
    const rng = createRng(run.protocol.seed).fork("bootstrap", "rephrase");
    const { low, high } = bootstrapInterval(values, { rng });
    expect(row).toMatchObject({ method: "wise", T: 7, when: "after-all", records: 16, blocks: 3 });
    expect(row).toMatchObject({ rephraseLow: low, rephraseHigh: high, rephraseRecords: 16 });
    expect(row?.rephrase).toBeCloseTo(average(values), 12);
    expect(row?.secondsPerEdit).toBeCloseTo(1.7, 12);
    const three = [row?.rewrite, row?.rephrase, row?.locality] as number[];
    expect(row?.average).toBeCloseTo(average(three), 12);
  });

  it("counts only the records that have a probe, and says how many", () => {
    const [row] = rowsOf(summaryFrame([changed({ 0: () => ({ rephrase: null }), 1: () => ({ rephrase: null }) })]));
    expect(row).toMatchObject({ rephraseRecords: 14, averageRecords: 14, rewriteRecords: 16 });
  });

  it("has the share of probes that the router left to the untouched model", () => {
    const routed = changed(
      Object.fromEntries([0, 1, 2, 3].map((i) => [i, (s) => ({ rewrite: { ...s.rewrite, route: "main" } })])),
    );
    const rest = run.scores.slice(4).filter((score) => score.rewrite.route === "main").length;
    expect(rowsOf(summaryFrame([routed]))[0]?.rewriteToMain).toBeCloseTo((4 + rest) / 16, 12);
  });

  it("refuses to take a mean over a NaN, and names its record", () => {
    const faulty = changed({ 3: (score) => ({ rewrite: { ...score.rewrite, score: Number.NaN } }) });
    expect(() => summaryFrame([faulty])).toThrow(LabFailure);
    expect(() => summaryFrame([faulty])).toThrow(/rewrite of record 3 is NaN/);
  });

  it("takes runs that differ in method, T and timing, with a column for each", () => {
    const rows = rowsOf(summaryFrame([run, sampleRun({ T: "all", records: 16 })]));
    expect(rows.map((row) => row.T)).toEqual([7, "all"]);
    const other = sampleRun({ T: 7, records: 16, method: "ft-l", options: { lr: 1 }, when: "after-each" });
    expect(rowsOf(summaryFrame([run, other])).map((row) => [row.method, row.when])).toEqual([
      ["wise", "after-all"],
      ["ft-l", "after-each"],
    ]);
  });

  it("has no share of probes left to the untouched model where no router left any", () => {
    const [first, second] = rowsOf(summaryFrame([run, always]));
    expect(first?.localityToMain).toBeTypeOf("number");
    expect([second?.rewriteToMain, second?.rephraseToMain, second?.localityToMain]).toEqual([null, null, null]);
    expect(Object.keys(rowsOf(summaryFrame([always]))[0] ?? {}).filter((name) => name.endsWith("ToMain"))).toEqual([]);
    expect(Object.keys(rowsOf(casesFrame(always))[0] ?? {}).filter((name) => name.endsWith("Route"))).toEqual([]);
  });

  it("compares methods in what both need: irrelevant prompts and side data count as options where one needs none", () => {
    expect(rowsOf(summaryFrame([run, always])).map((row) => row.method)).toEqual(["wise", "rome"]);
    const trained = {
      ...always,
      protocol: { ...always.protocol, irrelevant: "another", irrelevantSha256: "f".repeat(64) },
    };
    expect(() => summaryFrame([run, trained])).toThrow(/irrelevant is another, not invented; irrelevantSha256 is f+/);
    const assets = { ...always.protocol.assets, "covariance layers.6.down": "4".repeat(64) };
    const more = { ...always, protocol: { ...always.protocol, method: "memit", assets } };
    expect(rowsOf(summaryFrame([always, more]))).toHaveLength(2);
    const moved = Object.fromEntries(Object.keys(assets).map((name) => [name, "5".repeat(64)]));
    const unlike = { ...more, protocol: { ...more.protocol, assets: moved } };
    expect(() => summaryFrame([always, unlike])).toThrow(/assets\.covariance layers\.5\.down is 5+, not 3+$/m);
  });

  it.each([
    ["dataSha256", { dataSha256: "f".repeat(64) }],
    ["records", { records: 15 }],
    ["chatTemplate", { chatTemplate: false }],
    ["doubleBos", { doubleBos: true }],
    ["modelSha256", { modelSha256: "f".repeat(64) }],
    ["seed", { seed: 8 }],
    ["backend", { backend: "wasm" }],
    ["precision", { precision: "bf16 weights" }],
    ["irrelevantSha256", { irrelevantSha256: null }],
    ["assets.statistics", { assets: { statistics: "f".repeat(64) } }],
    ["options.act_ratio", { options: { ...run.protocol.options, act_ratio: 0.88 } }],
    ["options.merge_alg", { options: { ...run.protocol.options, merge_alg: "ties" } }],
  ])("refuses runs that differ in %s, and names it", (field, difference) => {
    const other = { ...run, protocol: { ...run.protocol, ...difference } };
    expect(() => summaryFrame([run, other])).toThrow(RefusedInput);
    expect(() => summaryFrame([run, other])).toThrow(`${field} is`);
  });

  it("sees no difference in the order of keys", () => {
    const options = { a: { x: 1, y: 2 }, b: 1 };
    const reordered = { b: 1, a: { y: 2, x: 1 } };
    const runs = [options, reordered].map((each) => ({ ...run, protocol: { ...run.protocol, options: each } }));
    expect(rowsOf(summaryFrame(runs))).toHaveLength(2);
  });

  it("marks unlike runs when told to, and says in what they differ", () => {
    const runs = [{}, { seed: 8 }, { backend: "wasm" }, { seed: 8 }].map((difference) => ({
      ...run,
      protocol: { ...run.protocol, ...difference },
    }));
    expect(rowsOf(summaryFrame(runs, { mark: true })).map((row) => row.mark)).toEqual(["", "a", "b", "a"]);
    expect(footnotes(runs).notes).toEqual(["a: seed is 8, not 7", "b: backend is wasm, not cpu"]);
  });

  it("gives a column to every field that may differ", () => {
    const ratios = [0.5, 0.88].map((act_ratio) => ({
      ...run,
      protocol: { ...run.protocol, options: { ...run.protocol.options, act_ratio } },
    }));
    const rows = rowsOf(summaryFrame(ratios, { allow: ["T", "options.act_ratio"] }));
    expect(rows.map((row) => row["options.act_ratio"])).toEqual([0.5, 0.88]);
  });

  it("refuses no runs at all", () => {
    expect(() => summaryFrame([])).toThrow(RefusedInput);
  });
});
