import { describe, expect, it } from "vitest";
import type { ScoredRun } from "../../src/run/types.js";
import { intervalOf, rowsOf } from "../../src/tables/tables.js";
import { causesOverT, causesOverTFrame } from "../../src/verdict/causes.js";
import { verdictFindings } from "../../src/verdict/findings.js";
import { ordersFrame, ordersOf } from "../../src/verdict/orders.js";
import { panelsTwice } from "../../src/verdict/panelsTwice.js";
import { rowsUnder } from "../../src/verdict/rows.js";
import { methodsLatex, methodsOverT, noteOn } from "../../src/verdict/table.js";
import { bestOf, pairsFrame, pairTests } from "../../src/verdict/tests.js";
import { refusal } from "../model/support.js";
import { sampleRun } from "../tables/sample.js";
import { publishedRows, sampleRows } from "./support.js";

describe("orders of methods", () => {
  it("stand side by side at every T of both, best first, with tau and an interval that holds it", () => {
    const orders = ordersOf(sampleRows(), publishedRows());
    expect(orders.map(({ T }) => T)).toEqual([1, 10, 100]);
    for (const { measured, published, tau } of orders) {
      expect(measured.map(({ method }) => method)).toEqual(["WISE", "ROME"]);
      expect((measured[0]?.value ?? 0) > (measured[1]?.value ?? 1)).toBe(true);
      expect(tau?.low).toBeLessThanOrEqual(tau?.value as number);
      expect(tau?.high).toBeGreaterThanOrEqual(tau?.value as number);
      expect(tau?.value).toBe(published[0]?.method === "WISE" ? 1 : -1);
    }
    expect(orders.map(({ tau }) => tau?.value)).toEqual([-1, 1, 1]);
    expect(rowsOf(ordersFrame(orders))[2]).toMatchObject({ T: 100, methods: 2, tau: 1 });
  });

  it("refuses published rows of two tables", async () => {
    const other = publishedRows().map((row) => ({ ...row, model: "Mistral-7B" }));
    expect((await refusal(() => ordersOf(sampleRows(), [...publishedRows(), ...other]))).message).toContain(
      "unlike kind",
    );
  });

  it("leave out records that a run has no such score of, and never count them as 0", () => {
    const rows = sampleRows();
    const without = rows.map((row) => ({
      ...row,
      runs: row.runs.map((run) => ({
        ...run,
        scores: run.scores.map((score, i) => (i % 2 === 0 ? score : { ...score, rephrase: null })),
      })),
    }));
    const [half] = ordersOf(without, publishedRows(), "rephrase");
    const [run] = without[0]?.runs ?? [];
    expect(half?.measured[0]?.value).toBeCloseTo(intervalOf(run as ScoredRun, "rephrase")?.mean as number, 12);
    expect(pairTests(without, 1, "rephrase")[0]?.adjusted).toBeLessThan(0.05);
  });

  it("has no tau where a side is all ties, and no row where fewer than two methods are shared", () => {
    const [wise] = sampleRows();
    const twice = [wise, { title: "ROME", runs: wise?.runs ?? [] }] as ReturnType<typeof sampleRows>;
    expect(ordersOf(twice, publishedRows()).map(({ tau }) => tau)).toEqual([null, null, null]);
    expect(ordersOf(sampleRows().slice(0, 2), publishedRows())).toEqual([]);
  });
});

describe("paired tests", () => {
  it("find what is worse on the same records, and no difference where there is none", () => {
    const rows = sampleRows();
    const tests = pairTests(rows, 10);
    expect(tests.map(({ first, second }) => `${first} ${second}`)).toEqual([
      "WISE WISE-Merge",
      "WISE ROME",
      "WISE-Merge ROME",
    ]);
    expect(tests[0]).toMatchObject({ difference: 0, p: 1, adjusted: 1 });
    expect(tests[1]?.adjusted).toBeLessThan(0.01);
    expect(tests.every(({ p, adjusted }) => adjusted >= p)).toBe(true);
    expect(bestOf(rows, 10, "average")).toEqual(new Set(["WISE", "WISE-Merge"]));
    expect(bestOf(rows, 10, "average", "lower")).toEqual(new Set(["ROME"]));
    expect(bestOf(rows, 1000, "average")).toEqual(new Set());
    expect(rowsOf(pairsFrame(tests))).toHaveLength(3);
  });

  it("refuse runs that are of other records", async () => {
    const rows = [
      ...sampleRows(),
      { title: "FT-L", runs: [sampleRun({ T: 10, method: "ft-l", dataSha256: "9".repeat(64) })] },
    ];
    expect((await refusal(() => pairTests(rows, 10))).message).toContain("dataSha256");
  });
});

describe("the table of methods", () => {
  it("has a row per method and a column per T, a dash where nothing was run", () => {
    const rows = rowsOf(methodsOverT(sampleRows()));
    expect(rows.map((row) => row.method)).toEqual(["WISE", "WISE-Merge", "ROME"]);
    expect(rows[0]?.["T = 1"]).toMatch(/^\d\.\d\d \/ \d\.\d\d \/ \d\.\d\d \/ \d\.\d\d$/);
    expect(rows[1]?.["T = 1"]).toBe("-");
  });

  it("says what a reader must know of its rows, by any metric", () => {
    expect(noteOn(rowsUnder(sampleRows(), "exact-match"))).toBe(noteOn(sampleRows()));
    expect(noteOn(sampleRows())).toBe("WISE: all edits in one memory. WISE-Merge: several memories.");
    expect(noteOn(sampleRows().slice(2))).toBe("");
  });

  it("is LaTeX with ties of the best in bold, an interval behind each mean, and the note first", () => {
    const latex = methodsLatex(sampleRows(), { label: "tab:methods" });
    expect(latex).toContain("\\caption{WISE: all edits in one memory.");
    expect(latex).toMatch(/^% wise: save_freq 1000 or 5/m);
    expect(latex.match(/\\caption\{.*\}/)?.[0]).not.toContain("save_freq");
    const [wise, merge, rome] = ["WISE &", "WISE-Merge &", "ROME &"].map((start) =>
      latex.split("\n").find((line) => line.trim().startsWith(start)),
    );
    expect(wise).toMatch(/\\textbf\{0\.\d\d\}\{\\tiny \$\\pm0\.\d\d\$\}/);
    expect(merge?.split("--")).toHaveLength(5);
    expect(merge).toContain("\\textbf");
    expect(rome?.split("&").slice(5).join()).not.toContain("\\textbf");
  });

  it("refuses two runs of one row and T", async () => {
    const [wise, ...others] = sampleRows();
    const twice = {
      title: "WISE",
      runs: [...(wise?.runs ?? []), sampleRun({ options: { save_freq: 1000, merge_freq: 1000 } })],
    };
    expect((await refusal(() => methodsOverT([twice, ...others]))).message).toContain("two runs of one T");
  });
});

describe("the panels, twice", () => {
  it("hold the same methods on both sides, with intervals on the measured one alone", () => {
    const { data, layout } = panelsTwice(sampleRows(), publishedRows());
    expect(data).toHaveLength(2 * 2 * 3);
    const texts = (layout.annotations ?? []).map(({ text }) => text);
    expect(texts.filter((text) => text === "ROME")).toHaveLength(2);
    expect(texts).toEqual(expect.arrayContaining(["<b>measured here</b>", "<b>published</b>"]));
    const arms = data.map((trace) => ("error_y" in trace ? trace.error_y : undefined) as { array: number[] });
    const widest = arms.map(({ array }) => Math.max(...array));
    expect(widest.slice(0, 6).filter((arm) => arm > 0).length).toBeGreaterThan(2); // invented locality has no width
    expect(widest.slice(6)).toEqual([0, 0, 0, 0, 0, 0]);
  });

  it("refuses sides without a common method", async () => {
    const error = await refusal(() => panelsTwice(sampleRows().slice(1, 2), publishedRows()));
    expect(error.message).toContain("WISE-Merge");
  });
});

it("causes of every run add up with what is right, the largest first", () => {
  const rows = sampleRows();
  const all = causesOverT(rows);
  expect(all.map(({ method, T }) => `${method} ${T}`)).toEqual(
    rows.flatMap(({ title, runs }) => runs.map(({ protocol }) => `${title} ${protocol.T}`)),
  );
  for (const { right, wrong } of all) {
    expect(wrong.reduce((sum, { share }) => sum + share, right)).toBeCloseTo(1, 12);
    expect(wrong.map(({ share }) => share)).toEqual(wrong.map(({ share }) => share).sort((a, b) => b - a));
  }
  const [first] = rowsOf(causesOverTFrame(rows));
  expect(first).toMatchObject({ method: "WISE", T: "1", right: all[0]?.right });
  expect(rowsOf(causesOverTFrame(rows, 100)).map(({ method, T }) => `${method} ${T}`)).toEqual([
    "WISE 100",
    "WISE-Merge 100",
    "ROME 100",
  ]);
});

it("an edit of one step says nothing of what it learned: its loss is the untouched model's", () => {
  const run = sampleRun({ T: 100, records: 60, method: "mend", options: {} });
  const edits = run.edits.map((edit) => ({ ...edit, steps: edit.steps.slice(0, 1) }));
  const [{ wrong } = { wrong: [] }] = causesOverT([{ title: "MEND", runs: [{ ...run, edits }] }]);
  const names = wrong.map(({ cause }) => cause);
  expect(names).toContain("forgotten or not learned");
  expect(names).not.toContain("forgotten");
});

it("the findings name the best, tau, and who falls with T", () => {
  const findings = verdictFindings(sampleRows(), publishedRows());
  expect(findings).toHaveLength(5);
  expect(findings[1]).toMatch(
    /^T = 10, 2 methods: first here WISE \(0\.\d\d\), ROME .* Kendall's tau of the orders is 1\.00 \[/,
  );
  expect(findings[3]).toContain(
    "here and as published ROME; here alone none; as published alone none; on neither side WISE.",
  );
  expect(findings[4]).toMatch(/^T = 100: .*WISE-Merge 0\.\d\d \([a-z ]+ 0\.\d\d(, [a-z ]+ 0\.\d\d)?\)/);
});
