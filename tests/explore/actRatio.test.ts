import { describe, expect, test, vi } from "vitest";
import { methods } from "../../src/edit/registry.js";
import type { RecordScore } from "../../src/eval/types.js";
import { atActRatio } from "../../src/explore/actRatio.js";
import { requireRouter } from "../../src/explore/router.js";
import type { RunRequest } from "../../src/run/lab.js";
import type { RunResult, ScoredRun } from "../../src/run/types.js";
import { refusal } from "../model/support.js";
import { sampleRun } from "../report/sample.js";
import { openQuickLab } from "../run/support.js";

vi.setConfig({ testTimeout: 180_000 }); // many runs of the tiny model

async function runAt(ratio: number, set: readonly string[], request: RunRequest): Promise<RunResult> {
  const lab = await openQuickLab("n_iter=4", ...set, `act_ratio=${ratio}`);
  try {
    return await lab.run(request);
  } finally {
    lab.close();
  }
}

/** What a rerun must give: all but the seconds. */
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
    .flatMap(({ readings }) => readings.map(({ delta, minAct }) => delta / minAct))
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
    const memories = new Set(run.scores.flatMap(({ rewrite }) => rewrite.readings.map(({ memory }) => memory)));
    expect(memories.size).toBe(2);
    const ratios = tenRatios(run.scores);
    expect(new Set(ratios).size).toBe(10);
    const routes = new Set<string>();
    for (const ratio of ratios) {
      const rerun = await runAt(ratio, set, { T: 5 });
      expect(comparable(atActRatio(run, ratio))).toEqual(comparable(rerun));
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
      expect(comparable(atActRatio(run, ratio))).toEqual(comparable(rerun));
      routes.add(routesOf({ ...rerun, scores: rerun.stepScores }));
    }
    expect(routes.size).toBe(3);
  });

  test("a summary's probes, which hold no predictions, get the same routes and scores", () => {
    const run = sampleRun({ options: { actRatio: 0.5, retrieve: true } });
    const bare = structuredClone<ScoredRun>({ protocol: run.protocol, scores: run.scores });
    for (const { rewrite } of bare.scores) Reflect.deleteProperty(rewrite, "post");
    const wanted = atActRatio(run, 0.8).scores.map(({ rewrite: { post: _, ...rest } }) => rest);
    expect(atActRatio(bare, 0.8).scores.map(({ rewrite }) => rewrite)).toEqual(wanted);
    expect(wanted.some(({ route }) => route === "main")).toBe(true);
    expect(wanted.some(({ route }) => route === "side")).toBe(true);
  });
});

describe("what cannot be explored is refused", () => {
  const run = sampleRun({ options: { actRatio: 0.5, retrieve: true } });

  test.each([-0.1, Number.NaN, Number.POSITIVE_INFINITY])("an act_ratio of %d", async (ratio) => {
    const error = await refusal(() => atActRatio(run, ratio));
    expect(error).toMatchObject({ where: "act_ratio", found: String(ratio), expected: "a number from 0" });
  });

  test("a run that does not say its act_ratio", async () => {
    const error = await refusal(() => atActRatio(sampleRun({ options: { retrieve: true } }), 1));
    expect(error.where).toBe("actRatio of the run");
  });

  test("a method that is not known, and one without a router", async () => {
    const unknown = { ...run, protocol: { ...run.protocol, method: "rome" } };
    expect((await refusal(() => atActRatio(unknown, 1))).where).toBe("method");
    const { router: _, ...bare } = methods.wise;
    expect((await refusal(() => requireRouter(bare))).message).toMatch(/no router that decides/);
  });
});
