import { describe, expect, it, test } from "vitest";
import { LabFailure, RefusedInput } from "../../../src/core/errors.js";
import type { RecordScore } from "../../../src/eval/types.js";
import { caseOf, casesOf } from "../../../src/report/cases/case.js";
import { packCases, unpackCases } from "../../../src/report/cases/page/pack.js";
import { casesWhere, causesFrame } from "../../../src/report/cases/select.js";
import { caseText } from "../../../src/report/cases/text.js";
import { rowsOf } from "../../../src/report/tables.js";
import { openQuickLab } from "../../run/support.js";
import { answered, localityProbe, probe, reading, record, runOf } from "./sample.js";

const right = [1, 2];
const wrong = [8, 9];
const half = [1, 9];

/** A run whose record 0 is as described; `later` more records follow in its block. */
const withFirst = (first: Partial<RecordScore>, { later = 0, lastLoss = 0.01 } = {}) =>
  runOf([record(0, first), ...Array.from({ length: later }, (_, i) => record(i + 1))], lastLoss);

describe("the cause of a probe that is not right", () => {
  const forgottenAt = { later: 3 };
  test.each<[cause: string, kind: string, first: Partial<RecordScore>, at: object, why: RegExp]>([
    ["not routed", "rewrite", { rewrite: probe("main", [reading("side", right, 0.5)]) }, {}, /side memory.* 50 %/],
    [
      "wrong memory",
      "rephrase",
      { rephrase: probe("memory-1", [reading("memory-0", right), reading("memory-1", half, 3)]) },
      {},
      /memory-1 answered \(Δ 30, threshold 10\); memory-0 \(Δ 20\) would be right/i,
    ],
    ["over-edited", "locality", { locality: [localityProbe("side", [reading("side", half)])] }, {}, /had to stay/],
    ["over-edited", "rephrase", { rephrase: probe("side", [reading("side", half)], right) }, {}, /had it right/],
    ["not carried over", "rephrase", { rephrase: probe("side", [reading("side", half)]) }, {}, /1 of 2 tokens/],
    ["not carried over", "portability", { portability: [probe("main", [reading("side", wrong, 0.1)])] }, {}, /0 of 2/],
    ["forgotten", "rewrite", { rewrite: probe("side", [reading("side", wrong)]) }, forgottenAt, /loss 0\.01.*3 later/],
    [
      "forgotten",
      "rewrite",
      { rewrite: probe("memory-0", [reading("memory-0", wrong)]) },
      {},
      /after the merge 0 of 2/,
    ],
    ["not learned", "rewrite", { rewrite: probe("side", [reading("side", wrong)]) }, {}, /No memory has it/],
    [
      "not learned",
      "rewrite",
      { rewrite: probe("side", [reading("side", wrong)]) },
      { later: 3, lastLoss: 0.4 }, // two tokens at 0.4 nats each: less likely than not
      /loss of the last step was 0\.4/,
    ],
  ])("is %s (%s)", (cause, kind, first, at, why) => {
    const { probes } = caseOf(withFirst(first, at), 0);
    const found = probes.find((each) => each.kind === kind);
    expect(found?.cause).toBe(cause);
    expect(found?.why).toMatch(why);
  });

  it("is none where every token is right, whoever answered", () => {
    const routes = [probe("main", [reading("side", wrong, 0.5)], right), answered()];
    for (const rewrite of routes) {
      expect(caseOf(withFirst({ rewrite }), 0).probes[0]).toMatchObject({ cause: null, why: "", outcome: "right" });
    }
  });

  it("does not blame later edits for a record that was scored before them", () => {
    const rewrite = probe("side", [reading("side", wrong)]);
    const run = runOf([record(0, { rewrite }), record(1)], 0.01, { when: "after-each" });
    expect(caseOf(run, 0).probes[0]?.cause).toBe("not learned");
  });
});

describe("caseOf", () => {
  it("has every token as text, before and now, and every memory that holds an edit, the closest first", () => {
    const empty = { ...reading("side", right, 0), minAct: 1e9, threshold: 5e8 };
    const rewrite = probe("memory-1", [empty, reading("memory-0", wrong), reading("memory-1", half, 3)], [1, 8]);
    const { probes, edit } = caseOf(withFirst({ rewrite }), 0);
    expect(probes[0]?.tokens).toEqual([
      { wanted: " one", before: " one", now: " one", wasRight: true, right: true },
      { wanted: " two", before: " no", now: " never", wasRight: false, right: false },
    ]);
    expect(probes[0]?.outcome).toBe("partly right");
    expect(probes[0]?.memories).toEqual([
      { memory: "memory-1", delta: 30, threshold: 10, predicted: [" one", " never"], score: 0.5 },
      { memory: "memory-0", delta: 20, threshold: 10, predicted: [" no", " never"], score: 0 },
    ]);
    expect(edit).toEqual({
      steps: [
        { ft: 3, act: 6 },
        { ft: 0.01, act: 0.02 },
      ],
      stoppedEarly: true,
      seconds: 0.75,
    });
  });

  it("refuses a record that was not scored, and fails on a token without a text", () => {
    expect(() => caseOf(runOf([record(0)]), 7)).toThrow(RefusedInput);
    expect(() => caseOf({ ...runOf([record(0)]), tokens: new Map() }, 0)).toThrow(LabFailure);
  });

  it("reads as plain text", () => {
    const rewrite = probe("main", [reading("side", right, 0.5)], half);
    const text = caseText(caseOf(withFirst({ rewrite }), 0));
    expect(text).toContain("Rewrite: partly right, 0.5 (not routed)");
    expect(text).toContain('wanted   " one"  " two"');
    expect(text).toContain('now     +" one" -" never"');
    expect(text).toContain("* untouched");
    expect(text).toContain("2 steps, stopped early, 0.75 s");
  });
});

describe("selecting records", () => {
  const run = runOf([
    record(0),
    record(1, { rewrite: probe("main", [reading("side", right, 0.5)]), subject: "Ada Lovelace" }),
    record(2, { rephrase: probe("side", [reading("side", half)]) }),
    record(3, { block: 1, locality: [localityProbe("side", [reading("side", wrong)])] }),
  ]);
  const found = (filter: Parameters<typeof casesWhere>[1]) => casesWhere(run, filter).map((each) => each.record);

  it("asks for one probe that is everything at once", () => {
    expect(found({})).toEqual([0, 1, 2, 3]);
    expect(found({ cause: "not routed" })).toEqual([1]);
    expect(found({ outcome: "not right" })).toEqual([1, 2, 3]);
    expect(found({ probe: "rewrite", outcome: "not right" })).toEqual([1]);
    expect(found({ probe: "rephrase", route: "main" })).toEqual([]);
    expect(found({ route: "memory", outcome: "partly right" })).toEqual([2]);
    expect(found({ block: 1 })).toEqual([3]);
    expect(found({ text: "lovelace ADA" })).toEqual([1]);
    expect(found({ text: "#2" })).toEqual([2]);
  });

  it("counts causes so that the counts lead to as many records, and add up to all probes", () => {
    const rows = rowsOf(causesFrame(run));
    const row = (cause: string) => rows.find((each) => each.cause === cause);
    expect(row("not routed")).toMatchObject({ rewrite: 1, rephrase: 0, locality: 0, records: 1 });
    expect(row("over-edited")).toMatchObject({ locality: 1 });
    expect(row("right")).toMatchObject({ rewrite: 3, records: 3 });
    for (const { cause, records } of rows.filter((each) => each.cause !== "right")) {
      expect(found({ cause: cause as "forgotten" })).toHaveLength(records as number);
    }
    const total = (kind: string) => rows.reduce((sum, each) => sum + (each[kind] as number), 0);
    expect(["rewrite", "rephrase", "locality"].map(total)).toEqual([4, 1, 1]);
  });
});

describe("a real run", () => {
  it("is understood to its last probe, and packed and unpacked without loss", async () => {
    const lab = await openQuickLab();
    try {
      const run = await lab.run({ T: "all" });
      const cases = casesOf(run);
      expect(cases).toHaveLength(run.scores.length);
      for (const { probes } of cases) {
        for (const each of probes) expect(each.cause === null).toBe(each.outcome === "right");
      }
      const round = (_: string, value: unknown) => (typeof value === "number" ? Number(value.toPrecision(5)) : value);
      const sent = JSON.parse(JSON.stringify(packCases(cases))) as ReturnType<typeof packCases>;
      expect(unpackCases(sent)).toEqual(JSON.parse(JSON.stringify(cases, round)));
    } finally {
      lab.close();
    }
  });
});
