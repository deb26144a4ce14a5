import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { LabFailure } from "../../../src/core/errors.js";
import { createRng } from "../../../src/core/rng.js";
import type { EditRequest, EditSession } from "../../../src/edit/contract.js";
import { createProblem, grace, startGrace } from "../../../src/edit/grace/grace.js";
import type { GraceOptions } from "../../../src/edit/grace/options.js";
import { placesOf } from "../../../src/edit/grace/reading.js";
import { MAIN, type Overlay } from "../../../src/edit/overlay.js";
import { prepareNamed } from "../../../src/edit/registry.js";
import { restoreEdits, saveEdits } from "../../../src/edit/saved.js";
import { type EditOwner, hashEdits } from "../../../src/edit/state.js";
import { type ProbeKind, scoreProbes } from "../../../src/eval/score.js";
import type { Cut } from "../../../src/model/cut.js";
import type { LlamaModel } from "../../../src/model/model.js";
import { encodeForced, PLAIN } from "../../../src/model/prompt.js";
import { tf } from "../../../src/tensor/tf.js";
import { refusal, temporaryFolder } from "../../model/support.js";
import { expectTidy } from "../../support/tensor-matcher.js";
import { errorOf, fact, goldenRecords, largestDifference, loadTiny, settingOf } from "../support.js";
import { graceTiny, type Kept, radiiOf, startTiny } from "./support.js";

let model: LlamaModel;
beforeAll(async () => {
  model = await loadTiny();
});
afterAll(() => model.dispose());

/** Owner of the edits of the tiny checkpoint. */
async function ownerOf(...set: string[]): Promise<EditOwner> {
  const method = await prepareNamed("grace", { preset: "tiny", set: ["n_iter=4", ...set] }, model.config);
  return { method, model, assets: new Map() };
}

/** The first fact with another prompt or target. */
const like = (change: Partial<EditRequest>): EditRequest => ({ ...fact(0), ...change });
const rephrased = () => like({ prompt: goldenRecords.records[0]?.rephrase as string });

/** Scores of the facts' own questions under an overlay. */
async function scoresOf(overlay: Overlay, kind: ProbeKind = "rewrite") {
  const probes = [0, 1, 2].map((i) => ({ kind, prompt: fact(i).prompt, answer: fact(i).target }));
  return scoreProbes(probes, overlay, { ...settingOf(model, overlay.cut.layer), style: PLAIN });
}

async function readScores(session: EditSession) {
  const overlay = await session.overlay();
  const scores = await scoresOf(overlay);
  overlay.dispose();
  return scores;
}

describe("the gradient of the value", () => {
  const long = () => like({ target: "Leeds College" });

  /** Loss and gradient at a value. */
  async function problemOf(options: GraceOptions, request = long()) {
    const row = encodeForced(model.tokenizer, { prompt: request.prompt, answer: request.target }, PLAIN);
    const [cut] = (await settingOf(model, options.layer).cuts.get([row.ids])) as [Cut];
    const problem = createProblem(model, options, { row, cut });
    const places = placesOf(problem.batch, [row.promptTokens - 1], options);
    return {
      async at(value: Float32Array) {
        const tensor = tf.tensor2d(value, [1, value.length]);
        const made = problem.lossAndGradient(tensor, places);
        const [[loss], gradient] = await Promise.all([made.loss.data(), made.gradient.data<"float32">()]);
        tf.dispose([tensor, made.loss, made.gradient]);
        return { loss: loss as number, gradient };
      },
      dispose: () => {
        tf.dispose([places.stands, places.keep]);
        problem.dispose();
      },
    };
  }

  test.each([
    [0, "replace_last"],
    [2, "replace_all"],
    [1, "replace_prompt"],
    [3, "replace_last"],
    [3, "replace_all"],
  ])("is that of finite differences, at layer %i under %s", async (layer, replacement) => {
    const problem = await problemOf(await graceTiny(`layer=${layer}`, `replacement=${replacement}`));
    const rng = createRng(3);
    const value = Float32Array.from({ length: model.config.hiddenSize }, rng.uniform);
    const { gradient } = await problem.at(value);
    const along = gradient.map((x) => x / Math.hypot(...gradient));
    for (const direction of [along, Float32Array.from(value, rng.normal)]) {
      const moved = async (step: number) =>
        (await problem.at(value.map((v, j) => v + step * (direction[j] as number)))).loss;
      const slope = ((await moved(0.01)) - (await moved(-0.01))) / 0.02;
      const own = gradient.reduce((sum, g, j) => sum + g * (direction[j] as number), 0);
      expect(Math.abs(slope - own)).toBeLessThan(0.02 * Math.abs(own) + 2e-3);
    }
    problem.dispose();
  });

  test("is zero where no token lies before the key token", async () => {
    const options = await graceTiny("replacement=replace_prompt");
    const problem = await problemOf(options, like({ prompt: "", target: "Leeds College" }));
    const { gradient } = await problem.at(new Float32Array(model.config.hiddenSize).fill(0.5));
    expect(new Set(gradient)).toEqual(new Set([0]));
    problem.dispose();
  });
});

describe("an edit", () => {
  test("lowers its loss, says what it did at every step, and answers its own prompt", async () => {
    await expectTidy(async () => {
      const session = await startTiny(model, ["n_iter=12"]);
      const shown: number[] = [];
      const [trace] = await session.edit([fact(2)], { onStep: ({ step }) => shown.push(step) });
      expect(shown).toEqual(Array.from({ length: 12 }, (_, i) => i));
      expect(trace).toMatchObject({ record: 2, stoppedEarly: false });
      const losses = trace?.steps.map(({ loss }) => loss) as number[];
      expect(losses[11]).toBeLessThan(losses[0] as number);
      for (const { loss, terms, numbers } of trace?.steps ?? []) expect([terms, numbers]).toEqual([{ ce: loss }, {}]);
      const scores = await readScores(session);
      expect(scores.map(({ route }) => route)).toEqual([MAIN, MAIN, "codebook"]);
      expect(scores[2]?.readings[0]?.numbers).toMatchObject({ distance: 0, key: 0 });
      session.dispose();
    });
  });

  test("tells what became of the codebook", async () => {
    const session = await startTiny(model);
    const requests = [fact(0), rephrased(), rephrased(), like({ target: "Osaka" }), fact(1)];
    const traces = await session.edit(requests);
    expect(traces.map(({ numbers }) => [numbers.event, numbers.nearest, numbers.key, numbers.keys])).toEqual([
      ["new", undefined, 0, 1],
      ["expand", 0, 0, 1],
      ["none", 0, 0, 1],
      ["split", 0, 1, 2],
      ["new", expect.any(Number), 2, 3],
    ]);
    const apart = traces[1]?.numbers.distance as number;
    expect(traces[2]?.numbers).toMatchObject({ distance: apart, nearest_distance: apart });
    expect(await radiiOf(session)).toEqual([-1e-5, 0, (await graceTiny()).eps]);
    session.dispose();
  });

  test("starts a new value from the seed and its place among the edits, or from the model's own output", async () => {
    const startOf = async (set: string[], seed: number, edits = [0]) => {
      const session = await startTiny(model, ["edit_lr=1e-12", "n_iter=1", ...set], {
        setting: settingOf(model, 2, seed),
      });
      await session.edit(edits.map(fact));
      return (await session.state()).tensors.values?.data as Float32Array;
    };
    const cold = await startOf([], 0);
    expect(Math.min(...cold)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...cold)).toBeLessThan(1);
    expect(await startOf([], 0, [1])).toEqual(cold);
    expect(await startOf([], 1)).not.toEqual(cold);
    expect((await startOf([], 0, [0, 1])).subarray(cold.length)).not.toEqual(cold);
    // The model's own output in its place changes nothing: the loss is that of the untouched model.
    const lossOf = async (set: string[]) => {
      const [trace] = await (await startTiny(model, set)).edit([fact(0)]);
      return trace?.steps[0]?.loss as number;
    };
    const warm = await lossOf(["val_init=warm"]);
    expect(warm).not.toBeCloseTo(await lossOf([]), 2);
    expect(await lossOf(["val_init=warm", "layer=3"])).toBeCloseTo(warm, 4);
  });

  test("as released, of the same prompt with another target, trains a value that does not answer: nothing moves", async () => {
    const session = await startTiny(model, ["variant=released"]);
    await session.edit([fact(0)]);
    const before = (await session.state()).tensors.values?.data as Float32Array;
    const [trace] = await session.edit([like({ target: "Osaka" })]);
    expect(trace?.numbers).toMatchObject({ event: "split", key: 0, distance: 0, keys: 2 });
    expect(new Set(trace?.steps.map(({ loss }) => loss)).size).toBe(1);
    expect((await session.state()).tensors.values?.data.subarray(0, before.length)).toEqual(before);
    expect((await readScores(session))[0]?.route).toBe(MAIN);
  });

  test.each([
    ["the first", 0, "replace_last"],
    ["the last", 3, "replace_last"],
    ["the last", 3, "replace_all"],
  ])("can be made at %s layer (%i, %s), of prompts of any length", async (_, layer, replacement) => {
    await expectTidy(async () => {
      const session = await startTiny(model, [`layer=${layer}`, `replacement=${replacement}`, "n_iter=8"]);
      const requests = [fact(1), like({ prompt: "", target: "Oslo" }), like({ prompt: "a", target: "Oslo" })];
      const traces = await session.edit(requests);
      for (const { steps } of traces) expect(steps[7]?.loss).toBeLessThan(steps[0]?.loss as number);
      const overlay = await session.overlay();
      const probes = requests.map(({ prompt, target }) => ({ kind: "rewrite" as const, prompt, answer: target }));
      const scores = await scoreProbes(probes, overlay, { ...settingOf(model, layer), style: PLAIN });
      expect(scores.map(({ route, readings }) => [route, readings[0]?.numbers.distance])).toEqual(
        Array(3).fill(["codebook", 0]),
      );
      session.dispose();
    });
  });

  test("whose loss is not finite fails with a word on what to change, and leaves the session as before", async () => {
    const session = await startTiny(model, ["edit_lr=1e39"]);
    const before = await session.state();
    const error = await expectTidy(() => errorOf(session.edit([fact(0)])));
    expect(error).toBeInstanceOf(LabFailure);
    expect(error.message).toMatch(/loss .* became (NaN|Infinity) at step 1 .*smaller edit_lr/);
    expect(await session.state()).toEqual(before);
  });

  test.each(["", "  "])("with the target %j is refused", async (target) => {
    const session = await startTiny(model);
    const error = await refusal(() => session.edit([like({ target })]));
    expect(error).toMatchObject({
      where: `edit of ${JSON.stringify(fact(0).prompt)}`,
      found: JSON.stringify(target),
      expected: "a text of at least one token",
    });
    expect((await session.state()).edits).toBe(0);
  });
});

describe("saved", () => {
  const requests = () => [fact(0), rephrased(), like({ target: "Osaka" }), fact(1)];

  test.each([
    ["mended", []],
    ["released", ["variant=released"]],
  ])("edits are brought back bit for bit, and go on as they would have (%s)", async (_, set) => {
    const path = join(await temporaryFolder(), "edits.safetensors");
    const owner = await ownerOf(...set);
    const setting = settingOf(model);
    await expectTidy(async () => {
      const session = await startTiny(model, set, { setting });
      await session.edit(requests());
      await saveEdits(path, session, owner);
      const { session: restored, edits } = await restoreEdits(path, setting, owner);
      expect(edits).toBe(4);
      expect(await restored.state()).toEqual(await session.state());
      expect(await readScores(restored)).toEqual(await readScores(session));
      for (const each of [session, restored]) await each.edit([fact(3), rephrased()]);
      expect(await hashEdits(restored, owner)).toBe(await hashEdits(session, owner));
      session.dispose();
      restored.dispose();
    });
  });

  test("a state goes on at another eps_ratio, but not with another radius", async () => {
    const path = join(await temporaryFolder(), "edits.safetensors");
    const session = await startTiny(model);
    await session.edit([fact(0)]);
    await saveEdits(path, session, await ownerOf());
    const { edits } = await restoreEdits(path, settingOf(model), await ownerOf("eps_ratio=2"));
    expect(edits).toBe(1);
    const error = await refusal(async () => restoreEdits(path, settingOf(model), await ownerOf("eps=2")));
    expect(error).toMatchObject({ where: `${path}, option eps` });
  });

  test("a session is at its state alone: what is done with the state's arrays afterwards does not reach it", async () => {
    const session = await startTiny(model);
    await session.edit([fact(0)]);
    const { tensors, json } = await session.state();
    tensors.values?.data.fill(7);
    (json as Kept).radii[0] = 99;
    expect((await session.state()).tensors.values?.data).not.toEqual(tensors.values?.data);
    expect(await radiiOf(session)).not.toContain(99);
  });
});

describe("the plan", () => {
  test("foresees what the codebook takes", async () => {
    const session = await startTiny(model);
    await session.edit([fact(0), fact(1), fact(2)]);
    const { tensors } = await session.state();
    const held = Object.values(tensors).reduce((sum, { data }) => sum + data.byteLength, 0);
    const { bytes } = grace.plan(await graceTiny(), model.config);
    expect(bytes(3, 9)).toMatchObject({ kept: held, variants: 1 });
    expect(bytes(1000, 3000).kept).toBe(4000 * (model.config.hiddenSize + model.config.intermediateSize));
  });

  test("asks for nothing beside prompt and target", async () => {
    const { cut, sites, needs, style, together, rows } = grace.plan(await graceTiny("layer=1"), model.config);
    expect({ cut, sites, needs, style, together }).toEqual({
      cut: { layer: 1, at: "mlpIn" },
      sites: [],
      needs: { templates: null, irrelevant: false, subject: false, assets: [] },
      style: PLAIN,
      together: 1,
    });
    const [row, ...more] = rows(fact(0), { tokenizer: model.tokenizer, templates: ["{}"] });
    expect(more).toEqual([]);
    expect(row).toEqual(encodeForced(model.tokenizer, { prompt: fact(0).prompt, answer: fact(0).target }, PLAIN));
  });

  test("takes layers that the model has", async () => {
    expect(await refusal(() => graceTiny("layer=4"))).toMatchObject({
      where: "--set, key layer",
      found: 4,
      expected: "a layer of the model: 0 to 3",
    });
  });
});

test("edits hand their own start in where they must match another run", async () => {
  const options = await graceTiny("edit_lr=1e-12");
  const given = new Float32Array(model.config.hiddenSize).fill(0.25);
  const session = startGrace(options, settingOf(model), { coldOf: () => given });
  await session.edit([fact(0)]);
  expect(largestDifference((await session.state()).tensors.values?.data as Float32Array, given)).toBeLessThan(1e-6);
});
