import type { Data } from "plotly.js-dist";
import { describe, expect, it } from "vitest";
import { RefusedInput } from "../../src/core/errors.js";
import { createRng } from "../../src/core/rng.js";
import { marginOf } from "../../src/edit/overlay.js";
import type { ProbeReading } from "../../src/eval/types.js";
import { exploreRouter } from "../../src/explore/router/exploreRouter.js";
import { routerCurves } from "../../src/explore/router/routerCurves.js";
import { routerRocCurve } from "../../src/explore/router/routerRocCurve.js";
import { routingHistogram } from "../../src/explore/router/routingHistogram.js";
import { stopsOverSteps } from "../../src/explore/steps/stopsOverSteps.js";
import { titleText } from "../../src/figures/figure.js";
import { lossCurve } from "../../src/figures/lossCurve.js";
import { routingDistances } from "../../src/figures/routingDistances.js";
import { tRollback } from "../../src/figures/tRollback.js";
import { readPublished } from "../../src/published/published.js";
import { publishedOverT } from "../../src/published/publishedOverT.js";
import type { Protocol, RunResult } from "../../src/run/types.js";
import { rowsOf, summaryFrame } from "../../src/tables/tables.js";
import { sampleRun, sampleTrace, sampleUnroutedRun } from "../tables/sample.js";
import { sampleFigures, samplePublished } from "./sample-figures.js";

/** Fields that the tests look at, of traces of any type. */
interface Drawn {
  uid: string;
  name: string;
  x: number[];
  y: number[];
  marker: { color: string | string[] };
  line: { color: string };
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

describe("figures of runs", () => {
  const ofRuns = /^(router-|routing-histogram|t-rollback|steps-curve|grid-heatmap)/;

  it.each(Object.entries(sampleFigures()).filter(([name]) => ofRuns.test(name)))(
    "%s says what was run",
    (_, figure) => {
      expect(titleText(figure)).toMatch(/\d+ records · T = [\w, ]+ · invented · scored after-all/);
    },
  );
});

describe("lossCurve", () => {
  const trace = sampleTrace(createRng(4), 0, 12);

  it("draws each term of the loss over the steps, replay only where there is some", () => {
    const lines = drawn(lossCurve(trace, { method: "wise" }).data);
    expect(lines.map((line) => line.name)).toEqual(["total", "fine-tuning", "routing"]);
    expect(lines[1]?.y).toEqual(trace.steps.map(({ terms }) => terms.ft));
    expect(lines[2]?.y).toEqual(trace.steps.map(({ terms }) => terms.act));
    const steps = trace.steps.map((step) => ({ ...step, terms: { ...step.terms, replay: 1 } }));
    const replayed = lossCurve({ ...trace, steps }, { method: "wise" });
    expect(drawn(replayed.data).map((line) => line.name)).toContain("replay");
  });

  it("draws the terms of any method, by their own names where it has no words for them", () => {
    const steps = trace.steps.map((step) => ({ ...step, terms: { nll: 3, kl: 1, wd: 0.5, norm: 0.1 } }));
    const lines = drawn(lossCurve({ ...trace, steps }).data);
    expect(lines.map((line) => line.name)).toEqual(["total", "nll", "kl", "wd", "norm"]);
    expect(new Set(lines.map(({ line }) => line.color)).size).toBe(5);
  });

  it("draws a loss of one term once", () => {
    const steps = trace.steps.map((step) => ({ ...step, terms: { nll: step.loss } }));
    const { data, layout } = lossCurve({ ...trace, steps });
    expect(drawn(data).map((line) => line.name)).toEqual(["nll"]);
    expect(layout.showlegend).toBe(true);
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
  const minAct = trace.numbers.min_act as number;
  const optionsWith = (ratio: number) => ({ act_margin: [2, 20, 10], act_ratio: ratio, retrieve: true });

  it("draws both distances and the lines they should cross", () => {
    const figure = routingDistances(trace, { method: "wise", options: optionsWith(0.5) });
    const last = trace.steps.at(-1)?.numbers;
    expect(drawn(figure.data).map((line) => line.name)).toEqual(["edit prompt", "irrelevant"]);
    expect(drawn(figure.data).map((line) => line.y.at(-1))).toEqual([last?.in_scope, last?.out_of_scope]);
    expect(figure.layout.shapes?.map((shape) => shape.y0)).toEqual([2, 20, minAct * 0.5]);
    const names = figure.layout.annotations?.map(({ text }) => text);
    expect(names).toEqual([
      "edit prompt",
      "irrelevant",
      "α = 2",
      "β = 20",
      expect.stringMatching(/^threshold [\d.]+$/),
    ]);
  });

  it("draws the numbers of any method by their own names, below 0 too, and refuses an edit without any", () => {
    const numbers = { slope: -3 };
    const figure = routingDistances({ ...trace, steps: trace.steps.map((step) => ({ ...step, numbers })) });
    expect(drawn(figure.data).map((line) => line.name)).toEqual(["slope"]);
    expect(figure.layout.shapes).toEqual([]);
    expect(figure.layout.yaxis?.range?.[0]).toBeLessThan(-3);
    const bare = { ...trace, steps: trace.steps.map((step) => ({ ...step, numbers: {} })) };
    expect(() => routingDistances(bare)).toThrow(/measured nothing beside its loss/);
  });

  it("keeps the names of close lines apart", () => {
    const figure = routingDistances(trace, { method: "wise", options: optionsWith(20.1 / minAct) });
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
  const reading = (variant: string, delta: number, threshold = 4): ProbeReading => {
    const numbers = { delta, min_act: 2 * threshold };
    return { variant, margin: marginOf(delta, threshold), numbers, predicted: [1], score: 1 };
  };

  /** A run whose rewrite probes have these ratios of Delta to threshold. */
  function runWith(ratios: readonly number[], threshold = 4, protocol: Partial<Protocol> = {}): RunResult {
    const run = sampleRun({ records: ratios.length, ...protocol });
    const scores = run.scores.map((score, i) => {
      const readings = [reading("side", (ratios[i] as number) * threshold, threshold)];
      return { ...score, rewrite: { ...score.rewrite, readings }, rephrase: null, locality: [] };
    });
    return { ...run, scores };
  }

  /** Share of the probes in bins before and behind a place, and the colours there. */
  function sidesOf(bars: Drawn, place: number) {
    const colors = bars.marker.color as string[];
    const side = (isThere: (x: number) => boolean) => {
      const bins = bars.x.flatMap((x, bin) => (isThere(x) ? [bin] : []));
      const share = bins.reduce((total, bin) => total + (bars.y[bin] as number), 0);
      return { share, colors: new Set(bins.map((bin) => colors[bin])) };
    };
    return { before: side((x) => x < place), behind: side((x) => x > place) };
  }

  it("never puts both sides of the threshold into one bin, and loses no probe", () => {
    const [bars] = drawn(routingHistogram(runWith([0.2, 0.999, 1, 1.001, 9])).data) as [Drawn];
    expect(bars.y.reduce((total, share) => total + share, 0)).toBeCloseTo(1, 12);
    const { before, behind } = sidesOf(bars, 1);
    expect(before.share).toBeCloseTo(2 / 5, 12);
    expect([before.colors.size, behind.colors.size]).toEqual([1, 1]);
    expect(before.colors).not.toEqual(behind.colors);
  });

  it.each([0.37, 0.004, 0, 2, 30])("does so too over the router's option, at a run's own value of %d", (own) => {
    const turns = [0.2, 0.999, 1, 1.001, 9].map((factor) => 0.5 * factor * (own || 0.1));
    const figure = routingHistogram(runWith(turns, 1, { options: { act_ratio: own, retrieve: true } }), {
      unit: "option",
    });
    const [bars] = drawn(figure.data) as [Drawn];
    const { before, behind } = sidesOf(bars, own);
    const below = turns.filter((turn) => turn / 2 < own).length / 5;
    expect(before.share).toBeCloseTo(below, 12);
    expect(behind.share).toBeCloseTo(1 - below, 12);
    expect(before.colors).not.toEqual(behind.colors);
    expect(figure.layout.shapes?.[0]?.x0).toBe(own);
    expect(figure.layout.xaxis?.range?.[1]).toBeGreaterThan(own);
    expect(figure.layout.xaxis?.title).toMatchObject({ text: "act_ratio up to which an edit answers" });
    expect(bars.x.length).toBeLessThan(60);
  });

  it("has the edits on the other side for an option from whose value on they answer", () => {
    const run = runWith([1, 2, 3], 4, { method: "grace", options: { eps_ratio: 1 } });
    const near = [0.5, 1, 1.5].map((distance) => ({ distance, radius: 1, slack: 0, key: 0 }));
    const scores = run.scores.map((score, i) => {
      const readings = [{ ...reading("codebook", 1), numbers: near[i] as (typeof near)[number] }];
      return { ...score, rewrite: { ...score.rewrite, readings } };
    });
    const figure = routingHistogram({ ...run, scores }, { unit: "option" });
    const { before, behind } = sidesOf(drawn(figure.data)[0] as Drawn, 1);
    expect([before.share, behind.share]).toEqual([expect.closeTo(2 / 3, 12), expect.closeTo(1 / 3, 12)]);
    const pale = sidesOf(drawn(routingHistogram(runWith([0.5])).data)[0] as Drawn, 1).before.colors;
    expect(behind.colors).toEqual(pale);
    expect(figure.layout.xaxis?.title).toMatchObject({ text: "eps_ratio from which an edit answers" });
  });

  it("counts the variant nearest to answering", () => {
    const run = runWith([0.5]);
    const [score] = run.scores;
    const readings = [reading("side", 1), reading("memory-0", 6)];
    const rewrite = { ...(score as NonNullable<typeof score>).rewrite, readings };
    const [bars] = drawn(
      routingHistogram({ ...run, scores: [{ ...run.scores[0], rewrite }] as typeof run.scores }).data,
    );
    const place = bars?.x[bars.y.indexOf(1)] as number;
    expect(place).toBeGreaterThan(1.49);
    expect(place).toBeLessThan(1.6);
  });

  it("puts what answers at every value behind all else", () => {
    const [bars] = drawn(routingHistogram(runWith([1, 2], 0)).data) as [Drawn];
    expect(bars.y.at(-1)).toBe(1);
  });

  it("refuses a run without readings, and a method whose edits always answer", () => {
    const run = runWith([1, 2]);
    const bare = run.scores.map((score) => ({ ...score, rewrite: { ...score.rewrite, readings: [] } }));
    expect(() => routingHistogram({ ...run, scores: bare })).toThrow(/no probe .* was decided by a router/);
    expect(() => routingHistogram(sampleUnroutedRun())).toThrow(/the edits of ROME always answer/);
  });
});

describe("figures of explored routers", () => {
  const explored = ([10, 30] as const).map((T) => exploreRouter(sampleRun({ T }), [0, 0.5, 1]));

  it("name the option, and the run's own value", () => {
    const curves = routerCurves(explored);
    expect(curves.layout.xaxis2?.title).toMatchObject({ text: "act_ratio" });
    expect(curves.layout.annotations?.map(({ text }) => text)).toContain("run's own 0.5");
    expect(routerRocCurve(explored).layout.annotations?.[0]?.text).toBe("marks: act_ratio 0.5");
  });

  it("of unlike options have no common axis of values, but one of shares", () => {
    const [first, second] = explored as [(typeof explored)[0], (typeof explored)[0]];
    const other = { ...second, option: { key: "eps_ratio", answers: "above" as const } };
    expect(() => routerCurves([first, other])).toThrow(/share no axis/);
    expect(routerRocCurve([first, other]).layout.annotations?.[0]?.text).toBe("marks: act_ratio 0.5 and eps_ratio 0.5");
  });
});

describe("stopsOverSteps", () => {
  const runs = (["none", "eos"] as const).flatMap((targetStop) =>
    [5, 1].map((n_iter) => sampleRun({ targetStop, options: { n_iter } })),
  );

  it("has a panel for each stop, and a place for each step limit, rising", () => {
    const { data, layout } = stopsOverSteps(runs);
    expect(drawn(data).map(({ uid }) => uid)).toEqual(
      ["1", "2"].flatMap((panel) => ["rewrite", "rephrase", "locality"].map((name) => `stops-${panel}-${name}`)),
    );
    expect(layout.xaxis?.ticktext).toEqual(["1", "5"]);
    const [row] = rowsOf(summaryFrame([runs[3] as RunResult])); // eos, one step
    expect(drawn(data)[3]?.y[0]).toBe(row?.rewrite);
  });

  it("is refused where a run is missing or there are two", () => {
    expect(() => stopsOverSteps(runs.slice(1))).toThrow("every stop needs one run of each step limit");
    expect(() => stopsOverSteps([...runs, runs[0] as RunResult])).toThrow("2 runs");
  });
});
