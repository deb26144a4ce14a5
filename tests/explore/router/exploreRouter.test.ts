import { describe, expect, test } from "vitest";
import { marginOf } from "../../../src/edit/overlay.js";
import type { ProbeScore } from "../../../src/eval/types.js";
import { atInference } from "../../../src/explore/router/atInference.js";
import { exploreRouter } from "../../../src/explore/router/exploreRouter.js";
import { routerFindings } from "../../../src/explore/router/findings.js";
import { probeTurns, routerRoc } from "../../../src/explore/router/routerRoc.js";
import { evenValues, routerPoints } from "../../../src/explore/router/routerScores.js";
import type { RunResult } from "../../../src/run/types.js";
import { rowsOf, summaryFrame } from "../../../src/tables/tables.js";
import { refusal } from "../../model/support.js";
import { sampleRun } from "../../tables/sample.js";

const options = { act_ratio: 0.5, retrieve: true };
const run = sampleRun({ options });
const explored = exploreRouter(run);

/** The run with other activations: `delta` says it of each probe, all against a min_act of 10. */
function withDeltas(delta: (kind: "rewrite" | "rephrase" | "locality", record: number) => number): RunResult {
  const scores = run.scores.map((score) => {
    const probe = (kind: "rewrite" | "rephrase" | "locality", one: typeof score.rewrite) => ({
      ...one,
      readings: one.readings.map((reading) => ({
        ...reading,
        numbers: { delta: delta(kind, score.record), min_act: 10 },
      })),
    });
    return {
      ...score,
      rewrite: probe("rewrite", score.rewrite),
      rephrase: score.rephrase && probe("rephrase", score.rephrase),
      locality: score.locality.map((one) => probe("locality", one)),
    };
  });
  return atInference({ ...run, scores }, options.act_ratio);
}

describe("curves over act_ratio", () => {
  test("are the table of the run at each value, intervals included", () => {
    for (const ratio of [0, 0.31, 0.5, 1.2]) {
      const [row] = rowsOf(summaryFrame([atInference(run, ratio)]));
      const point = explored.points.find((one) => one.value === ratio);
      for (const name of ["rewrite", "rephrase", "locality", "average"] as const) {
        expect(point?.[name].mean).toBeCloseTo(row?.[name] as number, 12);
        expect(point?.[name].low).toBeCloseTo(row?.[`${name}Low`] as number, 12);
        expect(point?.[name].high).toBeCloseTo(row?.[`${name}High`] as number, 12);
      }
      expect(point?.toEdit.locality).toBeCloseTo(1 - (row?.localityToMain as number), 12);
    }
  });

  test("have 201 values from 0 to 2 that read as they are written, or chosen ones, rising", () => {
    expect(explored.points.map(({ value }) => value)).toEqual(evenValues());
    expect(evenValues()[55]).toBe(0.55);
    expect(routerPoints(run, [0.7, 0.2, 0.7]).map(({ value }) => value)).toEqual([0.2, 0.7]);
  });

  test("are the same every time", () => {
    expect(exploreRouter(run)).toEqual(explored);
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
    const { best } = exploreRouter({ ...apart, scores: right });
    expect(best).toMatchObject({ from: 0.31, to: 0.8, value: 0.55, low: 0.31, high: 0.8 });
  });

  test("chosen on one half gains no more on the other than on all", () => {
    expect(explored.best.halves?.gain).toBeLessThanOrEqual(explored.best.gain.mean + 1e-9);
    const single = { ...run, scores: run.scores.slice(0, 1) };
    expect(exploreRouter(single).best.halves).toBeNull();
  });
});

describe("the router's ROC", () => {
  test("passes through every act_ratio's shares of probes that an edit answers", () => {
    const { points } = routerRoc(run);
    for (const ratio of [0.2, 0.5, 0.9]) {
      const at = routerRoc(atInference(run, ratio)).own;
      const point = points.filter((one) => one.value >= ratio).at(-1);
      expect(point?.inScope).toBeCloseTo(at.inScope, 12);
      expect(point?.outOfScope).toBeCloseTo(at.outOfScope, 12);
    }
    expect(points[0]).toEqual({ value: Number.POSITIVE_INFINITY, inScope: 0, outOfScope: 0 });
    expect(points.at(-1)).toMatchObject({ inScope: 1, outOfScope: 1 });
  });

  test("has the area of all pairs counted one by one, ties half", () => {
    const tied = withDeltas((kind, record) => (kind === "locality" ? record % 5 : 2 + (record % 4)));
    const turns = probeTurns(tied);
    const of = (...kinds: string[]) => turns.filter(({ kind }) => kinds.includes(kind)).map(({ turn }) => turn);
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
    expect(routerFindings(exploreRouter(unused))[0]).toBe(
      "No edit is ever used at act_ratio 0.5: the untouched model answers all 120 rewrites and rephrases. An edit answers the first of them at 0.440 and below, half of them at 0.300 and below.",
    );
  });

  test("says how often an edit answers, what the best value gains, and that this is too good", () => {
    const text = routerFindings(exploreRouter(atInference(run, 0.9))).join("\n");
    expect(text).toMatch(/^At act_ratio 0\.9 an edit answers [\d.]+% of rewrites, /);
    expect(text).toMatch(/Avg is largest .* against .* at 0\.9\./);
    expect(text).toMatch(/too good: it was chosen on the records it is measured on\. Chosen on one half/);
    expect(text).toMatch(/AUC [01]\.\d{4} \[/);
  });
});

describe("an option from whose value on an edit answers", () => {
  /** The run as GRACE logs one: what was within reach up to a value is within reach from the inverse on. */
  const mirrored = mirror(run);
  const turned = exploreRouter(mirrored, evenValues({ from: 0, to: 4, points: 401 }));

  function mirror({ protocol, ...whole }: RunResult): RunResult {
    const probe = (one: ProbeScore): ProbeScore => {
      const readings = one.readings.map((reading) => {
        const { delta, min_act } = reading.numbers as { delta: number; min_act: number };
        const numbers = { distance: min_act / delta, radius: 1, slack: 0, key: 0 };
        return { ...reading, variant: "codebook", margin: marginOf(delta, min_act * 0.5), numbers };
      });
      return { ...one, readings, route: one.route === "main" ? "main" : "codebook" };
    };
    const scores = whole.scores.map((score) => ({
      ...score,
      rewrite: probe(score.rewrite),
      rephrase: score.rephrase && probe(score.rephrase),
      locality: score.locality.map(probe),
    }));
    return { ...whole, scores, protocol: { ...protocol, method: "grace", options: { eps_ratio: 2 } } };
  }

  test("has the same router, the other way round", () => {
    const { points, auc, own } = explored.roc;
    expect(turned.roc.auc).toEqual(auc);
    expect(turned.roc.own).toEqual({ ...own, value: 2 });
    expect(turned.roc.points[0]).toEqual({ value: Number.NEGATIVE_INFINITY, inScope: 0, outOfScope: 0 });
    expect(turned.roc.points.slice(1).map(({ value }) => 1 / value)).toEqual(
      points.slice(1).map(({ value }) => expect.closeTo(value, 9)),
    );
    expect(turned.roc.points.map(({ value: _, ...shares }) => shares)).toEqual(
      points.map(({ value: _, ...shares }) => shares),
    );
  });

  test("gives more to the edits the larger it is, up to what the run's own value gave", () => {
    expect(turned.option).toEqual({ key: "eps_ratio", answers: "above" });
    const shares = turned.points.map(({ toEdit }) => toEdit.rephrase);
    expect(shares).toEqual([...shares].sort((a, b) => a - b));
    expect(shares[0]).toBe(0);
    for (const name of ["rewrite", "rephrase", "locality", "average"] as const) {
      const { mean, low, high, n } = explored.own[name];
      const near = (value: number) => expect.closeTo(value, 12) as number;
      expect(turned.own[name]).toEqual({ mean: near(mean), low: near(low), high: near(high), n });
    }
    expect(atInference(mirrored, 2).scores.map(({ rewrite }) => rewrite.route)).toEqual(
      mirrored.scores.map(({ rewrite }) => rewrite.route),
    );
  });

  test("is named in the findings, with the side on which an edit answers", () => {
    expect(routerFindings(turned)[0]).toMatch(/^At eps_ratio 2 an edit answers [\d.]+% of rewrites, /);
    const unused = routerFindings(exploreRouter(atInference(mirrored, 0)))[0];
    const reaches = probeTurns(run)
      .filter(({ kind }) => kind !== "locality")
      .map(({ turn }) => 1 / turn)
      .sort((a, b) => a - b);
    const shown = [0, 59].map((place) => (Math.ceil((reaches[place] as number) * 1000) / 1000).toFixed(3));
    expect(unused).toBe(
      `No edit is ever used at eps_ratio 0: the untouched model answers all 120 rewrites and rephrases. An edit answers the first of them at ${shown[0]} and above, half of them at ${shown[1]} and above.`,
    );
  });

  test("is said to help at no value where every edit is out of reach", () => {
    const lost = mirrored.scores.map((score) => {
      const far = (one: ProbeScore): ProbeScore => ({
        ...one,
        readings: one.readings.map((reading) => ({
          ...reading,
          numbers: { ...reading.numbers, distance: 1, radius: -1 },
        })),
      });
      return { ...score, rewrite: far(score.rewrite), rephrase: score.rephrase && far(score.rephrase) };
    });
    const findings = routerFindings(exploreRouter(atInference({ ...mirrored, scores: lost }, 1)));
    expect(findings[0]).toMatch(/An edit answers the first of them at no value, half of them at no value\.$/);
  });
});

test.each([[{ from: 1, to: 1 }], [{ points: 1 }], [{ points: 2.5 }]])(
  "a range that is none is refused: %o",
  async (range) => {
    expect((await refusal(() => evenValues(range))).where).toBe("from, to, points");
  },
);

test("records without rephrase have no Avg to weigh by", async () => {
  const scores = run.scores.map((score) => ({ ...score, rephrase: null }));
  expect((await refusal(() => exploreRouter({ ...run, scores }))).message).toMatch(/no Avg/);
});
