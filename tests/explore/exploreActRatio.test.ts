import { describe, expect, test } from "vitest";
import { atActRatio } from "../../src/explore/actRatio.js";
import { exploreActRatio } from "../../src/explore/exploreActRatio.js";
import { actRatioFindings } from "../../src/explore/findings.js";
import { evenRatios, ratioPoints } from "../../src/explore/ratioScores.js";
import { probeReaches, routerRoc } from "../../src/explore/routerRoc.js";
import { rowsOf, summaryFrame } from "../../src/report/tables.js";
import type { RunResult } from "../../src/run/types.js";
import { refusal } from "../model/support.js";
import { sampleRun } from "../report/sample.js";

const options = { actRatio: 0.5, retrieve: true };
const run = sampleRun({ options });
const explored = exploreActRatio(run);

/** The run with other activations: `delta` says it of each probe, all against a min_act of 10. */
function withDeltas(delta: (kind: "rewrite" | "rephrase" | "locality", record: number) => number): RunResult {
  const scores = run.scores.map((score) => {
    const probe = (kind: "rewrite" | "rephrase" | "locality", one: typeof score.rewrite) => ({
      ...one,
      readings: one.readings.map((reading) => ({ ...reading, delta: delta(kind, score.record), minAct: 10 })),
    });
    return {
      ...score,
      rewrite: probe("rewrite", score.rewrite),
      rephrase: score.rephrase && probe("rephrase", score.rephrase),
      locality: score.locality.map((one) => probe("locality", one)),
    };
  });
  return atActRatio({ ...run, scores }, options.actRatio);
}

describe("curves over act_ratio", () => {
  test("are the table of the run at each value, intervals included", () => {
    for (const ratio of [0, 0.31, 0.5, 1.2]) {
      const [row] = rowsOf(summaryFrame([atActRatio(run, ratio)]));
      const point = explored.points.find((one) => one.ratio === ratio);
      for (const name of ["rewrite", "rephrase", "locality", "average"] as const) {
        expect(point?.[name].mean).toBeCloseTo(row?.[name] as number, 12);
        expect(point?.[name].low).toBeCloseTo(row?.[`${name}Low`] as number, 12);
        expect(point?.[name].high).toBeCloseTo(row?.[`${name}High`] as number, 12);
      }
      expect(point?.toMemory.locality).toBeCloseTo(1 - (row?.localityToMain as number), 12);
    }
  });

  test("have 201 values from 0 to 2 that read as they are written, or chosen ones, rising", () => {
    expect(explored.points.map(({ ratio }) => ratio)).toEqual(evenRatios());
    expect(evenRatios()[55]).toBe(0.55);
    expect(ratioPoints(run, [0.7, 0.2, 0.7]).map(({ ratio }) => ratio)).toEqual([0.2, 0.7]);
  });

  test("are the same every time", () => {
    expect(exploreActRatio(run)).toEqual(explored);
  });
});

describe("the best act_ratio", () => {
  test("has the largest Avg of all values looked at", () => {
    const { best, points } = explored;
    const largest = Math.max(...points.map(({ average }) => average.mean));
    expect(best.average.mean).toBeCloseTo(largest, 9);
    expect(best.low).toBeLessThanOrEqual(best.from);
    expect(best.high).toBeGreaterThanOrEqual(best.to);
    expect(best.gain.mean).toBeCloseTo(largest - explored.own.average.mean, 9);
  });

  test("is a stretch, and its middle, where edited and other prompts lie apart", () => {
    const apart = withDeltas((kind) => (kind === "locality" ? 3 : 8));
    const right = apart.scores.map((score) => ({
      ...score,
      rewrite: { ...score.rewrite, readings: score.rewrite.readings.map((reading) => ({ ...reading, score: 1 })) },
      locality: score.locality.map((one) => ({
        ...one,
        readings: one.readings.map((reading) => ({ ...reading, score: 0 })),
      })),
    }));
    const { best } = exploreActRatio({ ...apart, scores: right });
    expect(best).toMatchObject({ from: 0.31, to: 0.8, ratio: 0.55, low: 0.31, high: 0.8 });
  });

  test("chosen on one half gains no more on the other than on all", () => {
    expect(explored.best.halves?.gain).toBeLessThanOrEqual(explored.best.gain.mean + 1e-9);
    const single = { ...run, scores: run.scores.slice(0, 1) };
    expect(exploreActRatio(single).best.halves).toBeNull();
  });
});

describe("the router's ROC", () => {
  test("passes through every act_ratio's shares of probes that a memory answers", () => {
    const { points } = routerRoc(run);
    for (const ratio of [0.2, 0.5, 0.9]) {
      const at = routerRoc(atActRatio(run, ratio)).own;
      const point = points.filter((one) => one.ratio >= ratio).at(-1);
      expect(point?.inScope).toBeCloseTo(at.inScope, 12);
      expect(point?.outOfScope).toBeCloseTo(at.outOfScope, 12);
    }
    expect(points[0]).toEqual({ ratio: Number.POSITIVE_INFINITY, inScope: 0, outOfScope: 0 });
    expect(points.at(-1)).toMatchObject({ inScope: 1, outOfScope: 1 });
  });

  test("has the area of all pairs counted one by one, ties half", () => {
    const tied = withDeltas((kind, record) => (kind === "locality" ? record % 5 : 2 + (record % 4)));
    const reaches = probeReaches(tied);
    const of = (...kinds: string[]) => reaches.filter(({ kind }) => kinds.includes(kind)).map(({ reach }) => reach);
    const share = (inScope: number[]) => {
      const pairs = inScope.flatMap((a) => of("locality").map((b) => (a > b ? 1 : a === b ? 0.5 : 0) as number));
      return pairs.reduce((sum, pair) => sum + pair, 0) / pairs.length;
    };
    const { auc } = routerRoc(tied);
    expect(auc.both?.mean).toBeCloseTo(share(of("rewrite", "rephrase")), 12);
    expect(auc.rewrite?.mean).toBeCloseTo(share(of("rewrite")), 12);
    expect(auc.rephrase?.mean).toBeCloseTo(share(of("rephrase")), 12);
    expect(auc.both?.low).toBeLessThan(auc.both?.mean as number);
    expect(auc.both?.high).toBeGreaterThan(auc.both?.mean as number);
  });

  test("needs locality probes", async () => {
    const scores = run.scores.map((score) => ({ ...score, locality: [] }));
    expect((await refusal(() => routerRoc({ ...run, scores }))).found).toBe(
      "120 rewrite and rephrase, 0 locality probes",
    );
  });
});

describe("what was found, in words", () => {
  test("says that no edit is ever used, and from where on one would be", () => {
    const unused = withDeltas((kind, record) => (kind === "locality" ? 1 : record === 0 ? 4.4 : 3));
    expect(unused.scores.every(({ rewrite }) => rewrite.route === "main")).toBe(true);
    expect(actRatioFindings(exploreActRatio(unused))[0]).toBe(
      "No edit is ever used at act_ratio 0.5: the untouched model answers all 120 rewrites and rephrases. A memory answers the first of them at 0.440 and below, half of them at 0.300 and below.",
    );
  });

  test("says how often a memory answers, what the best value gains, and that this is too good", () => {
    const text = actRatioFindings(exploreActRatio(atActRatio(run, 0.9))).join("\n");
    expect(text).toMatch(/^At act_ratio 0\.9 a memory answers [\d.]+% of rewrites, /);
    expect(text).toMatch(/Avg is largest .* against .* at 0\.9\./);
    expect(text).toMatch(/too good: it was chosen on the records it is measured on\. Chosen on one half/);
    expect(text).toMatch(/AUC [01]\.\d{4} \[/);
  });
});

test.each([[{ from: 1, to: 1 }], [{ points: 1 }], [{ points: 2.5 }]])(
  "a range that is none is refused: %o",
  async (range) => {
    expect((await refusal(() => evenRatios(range))).where).toBe("from, to, points");
  },
);

test("records without rephrase have no Avg to weigh by", async () => {
  const scores = run.scores.map((score) => ({ ...score, rephrase: null }));
  expect((await refusal(() => exploreActRatio({ ...run, scores }))).message).toMatch(/no Avg/);
});
