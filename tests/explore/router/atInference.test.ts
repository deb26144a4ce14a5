import { describe, expect, test, vi } from "vitest";
import { LabFailure } from "../../../src/core/errors.js";
import type { EditMethod, Router } from "../../../src/edit/contract.js";
import { methods } from "../../../src/edit/registry.js";
import type { RecordScore } from "../../../src/eval/types.js";
import { atInference } from "../../../src/explore/router/atInference.js";
import type { RunRequest } from "../../../src/run/request.js";
import type { RunResult, ScoredRun } from "../../../src/run/types.js";
import { refusal } from "../../model/support.js";
import { openQuickLab } from "../../run/support.js";
import { sampleRun, sampleUnroutedRun } from "../../tables/sample.js";

vi.setConfig({ testTimeout: 180_000 }); // many runs of the tiny model

async function runAt(ratio: number, set: readonly string[], request: RunRequest): Promise<RunResult> {
  const lab = await openQuickLab("n_iter=4", ...set, `act_ratio=${ratio}`);
  try {
    return await lab.run(request);
  } finally {
    lab.close();
  }
}

/** Parts of a result that a rerun must give: all but the seconds. */
function comparable({ protocol, edits, scores, stepScores }: RunResult) {
  return { protocol, edits: edits.map(({ seconds: _, ...edit }) => edit), scores, stepScores };
}

function routesOf({ scores }: ScoredRun): string {
  return scores
    .flatMap(({ rewrite, rephrase, locality }) => [rewrite, rephrase, ...locality].map((p) => p?.route))
    .join();
}

/** Ten values among which routes change: spread over those at which some activation meets its threshold, with both ends. */
function tenRatios(scores: readonly RecordScore[]): number[] {
  const probes = scores.flatMap(({ rewrite, rephrase, locality }) => [
    rewrite,
    ...(rephrase ? [rephrase] : []),
    ...locality,
  ]);
  const meets = probes
    .flatMap(({ readings }) => readings.map(({ numbers }) => (numbers.delta as number) / (numbers.min_act as number)))
    .filter((r) => r > 0);
  const rising = [...new Set(meets)].sort((a, b) => a - b);
  const spread = Array.from({ length: 8 }, (_, i) => rising[Math.floor(((i + 0.5) * rising.length) / 8)] as number);
  return [0, ...spread, (rising.at(-1) as number) * 1.5];
}

describe("a run at another act_ratio, by arithmetic", () => {
  test.each([
    ["retrieve: a merged memory, an open shard", ["retrieve=true"]],
    ["merge: shards merged for the reading", ["retrieve=false"]],
  ])("equals ten reruns: %s", async (_, set) => {
    const run = await runAt(0.9, set, { T: 5 }); // shards of 2, merged at 4, and one edit more; then a block of one
    const variants = new Set(run.scores.flatMap(({ rewrite }) => rewrite.readings.map(({ variant }) => variant)));
    expect(variants.size).toBe(2);
    const ratios = tenRatios(run.scores);
    expect(new Set(ratios).size).toBe(10);
    const routes = new Set<string>();
    for (const ratio of ratios) {
      const rerun = await runAt(ratio, set, { T: 5 });
      expect(comparable(atInference(run, ratio))).toEqual(comparable(rerun));
      routes.add(routesOf(rerun));
    }
    expect(routes.size).toBeGreaterThanOrEqual(7); // the values tell different runs apart
  });

  test("scores after chosen steps follow too", async () => {
    const set = ["save_freq=500", "merge_freq=1000"];
    const request: RunRequest = { T: 1, limit: 3, scoreSteps: [2, 3] };
    const run = await runAt(0.9, set, request);
    expect(run.stepScores).toHaveLength(6);
    const routes = new Set<string>();
    for (const ratio of [0, 4, 9].map((place) => tenRatios(run.stepScores)[place] as number)) {
      const rerun = await runAt(ratio, set, request);
      expect(comparable(atInference(run, ratio))).toEqual(comparable(rerun));
      routes.add(routesOf({ ...rerun, scores: rerun.stepScores }));
    }
    expect(routes.size).toBe(3);
  });

  test("a summary's probes, which hold no predictions, get the same routes and scores", () => {
    const run = sampleRun({ options: { act_ratio: 0.5, retrieve: true } });
    const bare = structuredClone<ScoredRun>({ protocol: run.protocol, scores: run.scores });
    for (const { rewrite } of bare.scores) Reflect.deleteProperty(rewrite, "post");
    const wanted = atInference(run, 0.8).scores.map(({ rewrite: { post: _, ...rest } }) => rest);
    expect(atInference(bare, 0.8).scores.map(({ rewrite }) => rewrite)).toEqual(wanted);
    expect(wanted.some(({ route }) => route === "main")).toBe(true);
    expect(wanted.some(({ route }) => route === "side")).toBe(true);
  });
});

describe("what cannot be explored is refused", () => {
  const run = sampleRun({ options: { act_ratio: 0.5, retrieve: true } });

  test.each([-0.1, Number.NaN, Number.POSITIVE_INFINITY])("an act_ratio of %d", async (ratio) => {
    const error = await refusal(() => atInference(run, ratio));
    expect(error).toMatchObject({ where: "act_ratio", found: String(ratio), expected: "a number from 0" });
  });

  test("a run that does not say its act_ratio", async () => {
    const error = await refusal(() => atInference(sampleRun({ options: { retrieve: true } }), 1));
    expect(error.where).toBe("act_ratio of the run");
  });

  test("a method that is not known, one without a router, and one whose router has no such option", async () => {
    const unknown = { ...run, protocol: { ...run.protocol, method: "gpt" } };
    expect((await refusal(() => atInference(unknown, 1))).where).toBe("method");
    const always = await refusal(() => atInference(sampleUnroutedRun(), 1));
    expect(always).toMatchObject({ where: "run of rome", found: "no router" });
    expect(always.message).toMatch(/^the edits of ROME always answer/);
    const { router, ...bare } = methods.wise as EditMethod;
    const { inference: _, ...fixed } = router as Router;
    const error = await refusal(() => atInference(run, 1, { ...bare, router: fixed }));
    expect(error.message).toMatch(/^the router of WISE has no option to explore/);
  });
});

test("a router that chooses what it said could never answer is a fault", () => {
  const run = sampleRun({ options: { act_ratio: 0.5, retrieve: true } });
  const [first] = run.scores as [RecordScore];
  const readings = first.rewrite.readings.map((reading) => ({ ...reading, predicted: null, score: null }));
  const unasked = { ...run, scores: [{ ...first, rewrite: { ...first.rewrite, readings } }] };
  expect(() => atInference(unasked, 0)).toThrow(LabFailure);
  expect(() => atInference(unasked, 0)).toThrow(/chose "side", of which the run logged no answer/);
  expect(atInference(unasked, 100).scores[0]?.rewrite.route).toBe("main");
});
