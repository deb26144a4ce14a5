import { describe, expect, it, test } from "vitest";
import { LabFailure, RefusedInput } from "../../src/core/errors.js";
import { LARGEST_MARGIN } from "../../src/edit/overlay.js";
import { methodNamed } from "../../src/edit/registry.js";
import type { RecordScore } from "../../src/eval/types.js";
import { ANSWERS_ALL } from "../../src/report/app/charts.js";
import { packCases, unpackCases } from "../../src/report/app/pack.js";
import { caseView } from "../../src/report/app/view.js";
import { caseOf, casesOf } from "../../src/report/case.js";
import { casesWhere, causeRows, causesFrame } from "../../src/report/select.js";
import { caseText } from "../../src/report/text.js";
import { wordsOf } from "../../src/report/words.js";
import { rowsOf } from "../../src/tables/tables.js";
import { openQuickLab } from "../run/support.js";
import {
  answered,
  editedProbe,
  localityProbe,
  probe,
  reading,
  record,
  runOf,
  unreachable,
  unroutedMethod,
  unroutedRun,
} from "./sample.js";

const right = [1, 2];
const wrong = [8, 9];
const half = [1, 9];

/** A run whose record 0 is as described; `later` more records follow in its block. */
const withFirst = (first: Partial<RecordScore>, { later = 0, lastLoss = 0.01 } = {}) =>
  runOf([record(0, first), ...Array.from({ length: later }, (_, i) => record(i + 1))], lastLoss);

describe("the cause of a probe that is not right", () => {
  const forgottenAt = { later: 3 };
  test.each<[cause: string, kind: string, first: Partial<RecordScore>, at: object, why: RegExp]>([
    [
      "not routed",
      "rewrite",
      { rewrite: probe("main", [reading("side", right, 0.5)]) },
      {},
      /side memory.* margin was 0\.5: 1 is needed/,
    ],
    [
      "wrong edit",
      "rephrase",
      { rephrase: probe("memory-1", [reading("memory-0", right), reading("memory-1", half, 3)]) },
      {},
      /memory.1 answered \(margin 3\); .*memory.0 \(margin 2\) would be right/i,
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
      /after .*memory.0 was made over 0 of 2/,
    ],
    ["not learned", "rewrite", { rewrite: probe("side", [reading("side", wrong)]) }, {}, /No edit has it/],
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
  it("has every token as text, before and now, and every variant that holds an edit, the closest first", () => {
    const empty = { ...reading("side", right, 0), numbers: { delta: 0, min_act: 1e9 } };
    const readings = [empty, reading("memory-0", wrong), unreachable("memory-2", 0.4), reading("memory-1", half, 3)];
    const rewrite = probe("memory-1", readings, [1, 8]);
    const { probes, edit } = caseOf(withFirst({ rewrite }), 0);
    expect(probes[0]?.tokens).toEqual([
      { wanted: " one", before: " one", now: " one", wasRight: true, right: true },
      { wanted: " two", before: " no", now: " never", wasRight: false, right: false },
    ]);
    expect(probes[0]?.outcome).toBe("partly right");
    expect(probes[0]?.readings).toEqual([
      { variant: "memory-1", margin: 3, numbers: [30, 20], predicted: [" one", " never"], score: 0.5 },
      { variant: "memory-0", margin: 2, numbers: [20, 20], predicted: [" no", " never"], score: 0 },
      { variant: "memory-2", margin: 0.4, numbers: [4, 20], predicted: null, score: null },
    ]);
    expect(edit).toEqual({
      steps: [
        { ft: 3, act: 6 },
        { ft: 0.01, act: 0.02 },
      ],
      stoppedEarly: true,
      numbers: { min_act: 20 },
      seconds: 0.75,
    });
  });

  it("refuses a record that was not scored, and fails on a token without a text", () => {
    expect(() => caseOf(runOf([record(0)]), 7)).toThrow(RefusedInput);
    expect(() => caseOf({ ...runOf([record(0)]), tokens: new Map() }, 0)).toThrow(LabFailure);
  });

  it("reads as plain text", () => {
    const rewrite = probe("main", [reading("side", right, 0.5), unreachable("memory-0", 0.2)], half);
    const text = caseText(caseOf(withFirst({ rewrite }), 0), wordsOf(methodNamed("wise")));
    expect(text).toContain("Rewrite: partly right, 0.5 (not routed)");
    expect(text).toContain('wanted   " one"  " two"');
    expect(text).toContain('now     +" one" -" never"');
    expect(text).toMatch(/ {4}side: .* 5, .* 20, margin 0\.5: one two \(1\)/);
    expect(text).toContain("* untouched");
    expect(text).toContain("1 more can never answer");
    expect(text).toContain("2 steps, stopped early, 0.75 s; it left min_act 20");
    expect(text).toMatch(/loss 3 0\.01\n.*loss 6 0\.02/);
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
    expect(found({ route: "not-main", outcome: "partly right" })).toEqual([2]);
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

describe("a run of a method without a router", () => {
  const locality = [{ ...editedProbe(half, right), preScore: null }];
  test.each<
    [cause: string, kind: string, first: Partial<RecordScore>, at: { later?: number; lastLoss?: number }, why: RegExp]
  >([
    [
      "over-edited",
      "locality",
      { rewrite: editedProbe(right), locality },
      {},
      /the edited model answered; .*had to stay/,
    ],
    ["over-edited", "rephrase", { rephrase: editedProbe(half, right) }, {}, /had it right/],
    ["not carried over", "rephrase", { rewrite: editedProbe(right), rephrase: editedProbe(half) }, {}, /1 of 2 tokens/],
    ["forgotten", "rewrite", { rewrite: editedProbe(wrong) }, { later: 1 }, /loss 0\.01.*after 1 later edit 0 of 2/],
    ["not learned", "rewrite", { rewrite: editedProbe(wrong) }, {}, /loss of the last step was 0\.01/],
    ["not learned", "rewrite", { rewrite: editedProbe(wrong) }, { later: 1, lastLoss: 0.4 }, /was 0\.4/],
  ])("has probes that are %s (%s)", (cause, kind, first, { later = 0, lastLoss = 0.01 }, why) => {
    const scores = [record(0, first), ...Array.from({ length: later }, (_, i) => record(i + 1))];
    const { probes } = caseOf(unroutedRun(scores, lastLoss), 0, unroutedMethod);
    const found = probes.find((each) => each.kind === kind);
    expect(found?.cause).toBe(cause);
    expect(found?.why).toMatch(why);
  });

  it("reads as plain text without a word on routing", () => {
    const one = caseOf(unroutedRun([record(0, { rewrite: editedProbe(half) })]), 0, unroutedMethod);
    const text = caseText(one, wordsOf(unroutedMethod));
    expect(text).toContain("it left event new\n  cross entropy loss 3 0.01\n  decay loss 1 1");
    expect(text).not.toMatch(/untouched|margin|memory/);
  });

  it("counts only the causes it can have, and is packed and unpacked without loss", () => {
    const cases = casesOf(unroutedRun([record(0, { rewrite: editedProbe(half) })]), unroutedMethod);
    const names = causeRows(cases, unroutedMethod.router).map(({ cause }) => cause);
    expect(names).toEqual(["over-edited", "not carried over", "forgotten", "not learned", "right"]);
    expect(unpackCases(JSON.parse(JSON.stringify(packCases(cases))))).toEqual(cases);
  });
});

describe("a margin that answers everything", () => {
  it("is shown as without an end, on the page too, which has the number for itself", () => {
    expect(ANSWERS_ALL).toBe(LARGEST_MARGIN);
    const rewrite = probe("side", [reading("side", wrong, LARGEST_MARGIN)]);
    const one = caseOf(withFirst({ rewrite }), 0);
    expect(caseText(one, wordsOf(methodNamed("wise")))).toContain("margin ∞: no never (0)");
    const { html } = caseView(one, wordsOf(methodNamed("wise")));
    expect(html).toContain('aria-label="margin ∞, 1 is needed"');
    expect(html).toMatch(/<rect [^>]*width="158"[\s\S]*?<line [^>]*x1="80"/);
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
