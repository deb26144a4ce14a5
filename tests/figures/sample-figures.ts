import { createRng } from "../../src/core/rng.js";
import { gridHeatmap } from "../../src/explore/grid/gridHeatmap.js";
import { gridOf } from "../../src/explore/grid/grids.js";
import { ladder } from "../../src/explore/ladder/ladder.js";
import { forgettingCurves } from "../../src/explore/retention/forgettingCurves.js";
import { retentionGrid } from "../../src/explore/retention/retention.js";
import { exploreRouter } from "../../src/explore/router/exploreRouter.js";
import { routerCurves } from "../../src/explore/router/routerCurves.js";
import { routerRocCurve } from "../../src/explore/router/routerRocCurve.js";
import { routingHistogram } from "../../src/explore/router/routingHistogram.js";
import { atSteps } from "../../src/explore/steps/numSteps.js";
import { stepsCurve } from "../../src/explore/steps/stepsCurve.js";
import { stopsOverSteps } from "../../src/explore/steps/stopsOverSteps.js";
import type { Figure } from "../../src/figures/figure.js";
import { lossCurve } from "../../src/figures/lossCurve.js";
import { routingDistances } from "../../src/figures/routingDistances.js";
import { tRollback } from "../../src/figures/tRollback.js";
import type { PublishedRow } from "../../src/published/published.js";
import { publishedOverT } from "../../src/published/publishedOverT.js";
import { panelsTwice } from "../../src/verdict/panelsTwice.js";
import { trainingLoss } from "../../src/workshop/train/trainingLoss.js";
import { sampleCheckpointRun, sampleLadder, sampleRun, sampleTrace } from "../tables/sample.js";
import { sampleStepsRun } from "../tables/sample-steps.js";

/** Every figure of the project, drawn from invented numbers, in its usual and its odd shapes. */
export function sampleFigures(): Record<string, Figure> {
  const trace = sampleTrace(createRng(4), 0);
  const short = sampleTrace(createRng(3), 0, 24);
  const single = sampleTrace(createRng(3), 0, 1);
  const replayed = {
    ...trace,
    steps: trace.steps.map((step) => ({ ...step, terms: { ...step.terms, replay: (step.terms.act as number) / 2 } })),
  };
  const method = "wise";
  const options = { act_margin: [2, 20, 10], act_ratio: 0.5, retrieve: true };
  const runs = ([1, 10, 30, "all"] as const).map((T) => sampleRun({ T }));
  const [one, ten] = runs as [(typeof runs)[0], (typeof runs)[0]];
  const routed = ([10, 30] as const).map((T) => sampleRun({ T, options: { act_ratio: 0.5, retrieve: T === 10 } }));
  const explored = routed.map((run) => exploreRouter(run));
  const [first] = explored as [(typeof explored)[0]];
  const stepped = sampleStepsRun();
  const limits = [...stepped.scoreSteps, 20];
  const many = Array.from({ length: 41 }, (_, i) => i / 20);
  return {
    "router-curves": routerCurves([first]),
    "router-curves-two": routerCurves(explored, { title: "act_ratio", medium: "screen" }),
    "router-roc": routerRocCurve([first]),
    "router-roc-two": routerRocCurve(explored, { title: "Router", medium: "screen" }),
    "routing-histogram-option": routingHistogram(first.run, { unit: "option" }),
    "loss-curve": lossCurve(trace, { method }),
    "loss-curve-stopped": lossCurve(short, { method, title: "Loss of one edit", medium: "screen" }),
    "loss-curve-replay": lossCurve(replayed, { method }),
    "loss-curve-single": lossCurve(single),
    "routing-distances": routingDistances(trace, { method, options }),
    "routing-distances-close": routingDistances(trace, {
      method,
      options: { ...options, act_ratio: 0.75 },
      title: "Routing",
      medium: "screen",
    }),
    "routing-distances-bare": routingDistances(single),
    "t-rollback": tRollback(runs),
    "t-rollback-single": tRollback([ten], { title: "Quality over T", medium: "screen" }),
    ladder: ladder([1, 10].flatMap((T) => [sampleLadder({ T }), sampleLadder({ T, targetStop: "eos" })])),
    "ladder-single": ladder([sampleLadder({})], { title: "The ladder", medium: "screen" }),
    "stops-over-steps": stopsOverSteps(
      (["none", "newline"] as const).flatMap((targetStop) =>
        [1, 5, 10, 20, 100].map((n_iter) => sampleRun({ targetStop, options: { n_iter } })),
      ),
    ),
    "published-over-t": publishedOverT(samplePublished(9)),
    "published-over-t-few": publishedOverT(samplePublished(2), { title: "Published", medium: "screen" }),
    ...Object.fromEntries([1, 2, 4, 6, 9].map((methods) => [`methods-twice-${methods}`, sampleTwice(methods)])),
    "routing-histogram": routingHistogram(ten),
    "routing-histogram-titled": routingHistogram(one, { title: "Router", medium: "screen" }),
    "steps-curve": stepsCurve(limits.map((steps) => atSteps(stepped, steps))),
    "steps-curve-single": stepsCurve([stepped], { title: "One n_iter", medium: "screen" }),
    "grid-heatmap": gridHeatmap(gridOf(stepped, { values: [0, 0.25, 0.75, 1, 1.25], steps: limits })),
    "grid-heatmap-fine": gridHeatmap(gridOf(stepped, { values: many, steps: limits, measure: "rewrite" }), {
      title: "act_ratio and n_iter",
      medium: "screen",
    }),
    "forgetting-curves": forgettingCurves(sampleCheckpointRun()),
    "forgetting-curves-few": forgettingCurves(sampleCheckpointRun(9), { title: "Forgetting", medium: "screen" }),
    "retention-heatmap": gridHeatmap(retentionGrid(sampleCheckpointRun())),
    "training-loss": trainingLoss(sampleTraining(300)),
    "training-loss-single": trainingLoss(sampleTraining(1), { title: "Training", medium: "screen" }),
  };
}

const published: Omit<PublishedRow, "method" | "algorithm" | "T" | "scores"> = {
  source: "an invented table",
  url: null,
  read: "primary",
  readFrom: "nothing",
  file: "none.json",
  model: "invented",
  lacks: null,
  data: "invented",
  dataSha256: "unknown",
  records: "unknown",
  when: "unknown",
  metric: "unknown",
  locality: "unknown",
  chatTemplate: "unknown",
  options: {},
  printed: {},
  decimals: 2,
  notes: [],
};

/** Rows of an invented table of so many methods, with a dash in it. */
export function samplePublished(methods: number): PublishedRow[] {
  const rng = createRng(5);
  return Array.from({ length: methods }, (_, m) => m).flatMap((m) =>
    [1, 10, 100, 1000].map((T, i) => {
      const rewrite = 1 - 0.2 * i * rng.uniform();
      const rephrase = m === 1 && i === 2 ? null : 0.9 * rewrite;
      const method = `Method ${m + 1}`;
      return { ...published, method, algorithm: method, T, scores: { rewrite, rephrase, locality: 1 - 0.1 * i } };
    }),
  );
}

/** So many methods, run at T = 1 and 10 alone, beside a table of twelve. */
function sampleTwice(methods: number): Figure {
  const table = samplePublished(12);
  const titles = [...new Set(table.map(({ method }) => method))].slice(0, methods);
  const rows = titles.map((title) => ({ title, runs: [1, 10].map((T) => sampleRun({ T })) }));
  return panelsTwice(rows, table);
}

/** A training whose losses fall, with noise. */
function sampleTraining(steps: number) {
  const rng = createRng(9);
  return Array.from({ length: steps }, (_, i) => {
    const loss = 6 * Math.exp(-i / 60) + 0.5 + 0.1 * rng.uniform();
    return { step: i + 1, loss, answerLoss: 0.8 * loss, learningRate: 1e-3, tokens: 3000 };
  });
}
