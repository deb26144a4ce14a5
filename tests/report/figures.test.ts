import type { Data } from "plotly.js-dist";
import { describe, expect, it } from "vitest";
import { RefusedInput } from "../../src/core/errors.js";
import { createRng } from "../../src/core/rng.js";
import { lossCurve } from "../../src/report/figures/lossCurve.js";
import { publishedOverT } from "../../src/report/figures/publishedOverT.js";
import { routingDistances } from "../../src/report/figures/routingDistances.js";
import { routingHistogram } from "../../src/report/figures/routingHistogram.js";
import { tRollback } from "../../src/report/figures/tRollback.js";
import { readPublished } from "../../src/report/published.js";
import { rowsOf, summaryFrame } from "../../src/report/tables.js";
import type { RunResult } from "../../src/run/types.js";
import { sampleRun, sampleTrace } from "./sample.js";
import { sampleFigures, samplePublished } from "./sample-figures.js";

/** Fields that the tests look at, of traces of any type. */
interface Drawn {
  uid: string;
  name: string;
  x: number[];
  y: number[];
  marker: { color: string | string[] };
  error_y: { array: number[]; arrayminus: number[] };
}

function drawn(data: readonly Data[]): Drawn[] {
  return data as unknown as Drawn[];
}

describe("every figure", () => {
  it.each(Object.entries(sampleFigures()))(
    "%s is plain data with fixed names, titles as objects and no upload button",
    (_, figure) => {
      expect(JSON.parse(JSON.stringify(figure))).toEqual(figure);
      const uids = drawn(figure.data).map((trace) => trace.uid);
      expect(uids.every((uid) => typeof uid === "string" && uid !== "")).toBe(true);
      expect(new Set(uids).size).toBe(uids.length);
      for (const [name, part] of Object.entries({ layout: figure.layout, ...figure.layout })) {
        const title = (part as { title?: unknown } | null)?.title;
        expect(typeof title, `title of ${name}`).not.toBe("string");
      }
      expect(figure.config.showSendToCloud).toBe(false);
      expect(figure.layout.width).toBeGreaterThan(300);
    },
  );

  it("is the same every time", () => {
    expect(JSON.stringify(sampleFigures())).toBe(JSON.stringify(sampleFigures()));
  });
});

describe("lossCurve", () => {
  const trace = sampleTrace(createRng(4), 0, 12);

  it("draws each loss over the steps, replay only where there is some", () => {
    const lines = drawn(lossCurve(trace).data);
    expect(lines.map((line) => line.name)).toEqual(["total", "fine-tuning", "routing"]);
    expect(lines[1]?.y).toEqual(trace.steps.map((step) => step.ft));
    expect(lines[2]?.y).toEqual(trace.steps.map((step) => step.act));
    const replayed = { ...trace, steps: trace.steps.map((step) => ({ ...step, replay: 1 })) };
    expect(drawn(lossCurve(replayed).data).map((line) => line.name)).toContain("replay");
  });

  it("says where an edit stopped early", () => {
    expect(lossCurve(trace).layout.annotations?.[0]?.text).toBe("stopped early, step 11");
    expect(lossCurve({ ...trace, stoppedEarly: false }).layout.annotations).toEqual([]);
  });

  it("refuses a trace without steps", () => {
    expect(() => lossCurve({ ...trace, steps: [] })).toThrow(RefusedInput);
    expect(() => routingDistances({ ...trace, steps: [] })).toThrow(RefusedInput);
  });
});

describe("routingDistances", () => {
  const trace = sampleTrace(createRng(4), 0);

  it("draws both distances and the lines they should cross", () => {
    const figure = routingDistances(trace, { alpha: 2, beta: 20, actRatio: 0.5 });
    expect(drawn(figure.data).map((line) => line.y.at(-1))).toEqual([
      trace.steps.at(-1)?.inScope,
      trace.steps.at(-1)?.outOfScope,
    ]);
    expect(figure.layout.shapes?.map((shape) => shape.y0)).toEqual([2, 20, trace.minAct * 0.5]);
  });

  it("keeps the names of close lines apart", () => {
    const figure = routingDistances(trace, { alpha: 2, beta: 20, actRatio: 20.1 / trace.minAct });
    const size = figure.layout.height ?? 0;
    const heights = (figure.layout.annotations ?? []).map((note) => (note.y as number) * size).sort((a, b) => a - b);
    const gaps = heights.slice(1).map((height, i) => height - (heights[i] as number));
    expect(Math.min(...gaps)).toBeGreaterThan(10); // pixels: the height of the text
  });
});

describe("tRollback", () => {
  const runs = (["all", 10, 1] as const).map((T) => sampleRun({ T }));

  it("draws the summary's means and intervals in the order of T, all last", () => {
    const figure = tRollback(runs);
    expect(figure.layout.xaxis?.ticktext).toEqual(["1", "10", "all"]);
    const rows = rowsOf(summaryFrame([...runs].reverse()));
    const rephrase = drawn(figure.data)[1] as Drawn;
    expect(rephrase.y).toEqual(rows.map((row) => row.rephrase));
    rephrase.y.forEach((mean, i) => {
      expect(mean + (rephrase.error_y.array[i] as number)).toBeCloseTo(rows[i]?.rephraseHigh as number, 12);
      expect(mean - (rephrase.error_y.arrayminus[i] as number)).toBeCloseTo(rows[i]?.rephraseLow as number, 12);
    });
  });

  it("refuses runs that differ in more than T, and two of one T", () => {
    expect(() => tRollback([...runs, sampleRun({ T: 30, when: "after-each" })])).toThrow(/when is after-each/);
    expect(() => tRollback([...runs, sampleRun({ T: 10 })])).toThrow(/T = 10 twice/);
    expect(() => tRollback([])).toThrow(RefusedInput);
  });
});

describe("publishedOverT", () => {
  const rows = samplePublished(5);

  it("draws every printed score of every method, in the order of T, a dash as a gap", () => {
    const lines = drawn(publishedOverT([...rows].reverse()).data);
    expect(lines).toHaveLength(5 * 3);
    for (const row of rows) {
      for (const name of ["rewrite", "rephrase", "locality"] as const) {
        const line = lines.find(({ uid }) => uid === `published-${row.method.replace(" ", "_")}-${name}`);
        expect(line?.y[[1, 10, 100, 1000].indexOf(row.T as number)]).toBe(row.scores[name]);
      }
    }
    expect(lines.flatMap(({ y }) => y)).toContain(null);
  });

  it("names each metric once, and each method above its own panel", () => {
    const { data, layout } = publishedOverT(rows);
    const named = data.filter((line) => (line as { showlegend: boolean }).showlegend);
    expect(drawn(named).map(({ name }) => name)).toEqual(["rewrite", "rephrase", "locality"]);
    const notes = layout.annotations ?? [];
    expect(notes.map(({ text, xref }) => [text, xref]).slice(0, 2)).toEqual([
      ["Method 1", "x domain"],
      ["Method 2", "x2 domain"],
    ]);
    expect(notes).toHaveLength(6); // and the title of all x axes
  });

  it("draws the paper's tables of both models", async () => {
    for (const model of ["LLaMA-2-7B", "Mistral-7B"]) {
      const table = await readPublished({ source: "WISE paper, Table 2", model });
      expect(publishedOverT(table).data).toHaveLength(9 * 3);
    }
  });

  it("refuses rows of unlike tables, an unknown T, and two of one place", () => {
    const [first, ...rest] = rows as [(typeof rows)[0], ...typeof rows];
    expect(() => publishedOverT([])).toThrow(RefusedInput);
    expect(() => publishedOverT([{ ...first, model: "another" }, ...rest])).toThrow(/unlike kind/);
    expect(() => publishedOverT([{ ...first, T: "unknown" }, ...rest])).toThrow(/T = unknown/);
    expect(() => publishedOverT([first, ...rows])).toThrow(/T = 1 twice/);
  });
});

describe("routingHistogram", () => {
  const answered = { minAct: 8, predicted: [1], score: 1 };

  /** A run whose rewrite probes have these ratios of Delta to threshold. */
  function runWith(ratios: readonly number[], threshold = 4): RunResult {
    const run = sampleRun({ records: ratios.length });
    const scores = run.scores.map((score, i) => {
      const readings = [{ ...answered, memory: "side" as const, delta: (ratios[i] as number) * threshold, threshold }];
      return { ...score, rewrite: { ...score.rewrite, readings }, rephrase: null, locality: [] };
    });
    return { ...run, scores };
  }

  it("never puts both sides of the threshold into one bin, and loses no probe", () => {
    const [bars] = drawn(routingHistogram(runWith([0.2, 0.999, 1, 1.001, 9])).data) as [Drawn];
    expect(bars.y.reduce((total, share) => total + share, 0)).toBeCloseTo(1, 12);
    const below = bars.y.filter((_, bin) => (bars.x[bin] as number) < 1).reduce((total, share) => total + share, 0);
    expect(below).toBeCloseTo(2 / 5, 12);
    const colors = bars.marker.color as string[];
    expect(new Set(colors.filter((_, bin) => (bars.x[bin] as number) < 1)).size).toBe(1);
    expect(colors.at(0)).not.toBe(colors.at(-1));
  });

  it("counts the memory nearest to taking over", () => {
    const run = runWith([0.5]);
    const [score] = run.scores;
    const readings = [
      { ...answered, memory: "side" as const, delta: 1, threshold: 4 },
      { ...answered, memory: "memory-0" as const, delta: 6, threshold: 4 },
    ];
    const rewrite = { ...(score as NonNullable<typeof score>).rewrite, readings };
    const [bars] = drawn(
      routingHistogram({ ...run, scores: [{ ...run.scores[0], rewrite }] as typeof run.scores }).data,
    );
    const place = bars?.x[bars.y.indexOf(1)] as number;
    expect(place).toBeGreaterThan(1.49);
    expect(place).toBeLessThan(1.6);
  });

  it("refuses a run without a router and a threshold of 0", () => {
    const run = runWith([1, 2]);
    const bare = run.scores.map((score) => ({ ...score, rewrite: { ...score.rewrite, readings: [] } }));
    expect(() => routingHistogram({ ...run, scores: bare })).toThrow(/no probe .* read against a memory/);
    expect(() => routingHistogram(runWith([1, 2], 0))).toThrow(/threshold of 0/);
  });
});
