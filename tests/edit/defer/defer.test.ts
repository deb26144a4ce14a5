import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createRng } from "../../../src/core/rng.js";
import type { EditSession } from "../../../src/edit/contract.js";
import { deferBytes, startDefer } from "../../../src/edit/defer/defer.js";
import { drawModule, moduleMatrix, PARTS, shapesOf } from "../../../src/edit/defer/module.js";
import type { DeferOptions } from "../../../src/edit/defer/options.js";
import { deferOverlay, deferRouter } from "../../../src/edit/defer/reading.js";
import { MAIN } from "../../../src/edit/overlay.js";
import type { EditState } from "../../../src/edit/state.js";
import { batchCuts, type Cut, logitsAt } from "../../../src/model/cut.js";
import { loadModel } from "../../../src/model/folder.js";
import { runFrozen } from "../../../src/model/frozen.js";
import type { LlamaModel } from "../../../src/model/model.js";
import { selectBackend } from "../../../src/tensor/backend.js";
import { tf } from "../../../src/tensor/tf.js";
import { refusal } from "../../model/support.js";
import { TINY_MODEL } from "../../run/support.js";
import { countBuffers } from "../../support/buffers.js";
import { atValue } from "../../support/points.js";
import { expectTidy } from "../../support/tensor-matcher.js";
import { fact, largestDifference, settingOf } from "../support.js";

let model: LlamaModel;
beforeAll(async () => {
  await selectBackend("cpu"); // where clones share their buffer, and TensorFlow.js can tell
  model = await loadModel(TINY_MODEL);
});
afterAll(() => model.dispose());

const options: DeferOptions = { layer: 1, edit_lr: 1e-3, n_iter: 2, threshold: 0.5 };
const start = (set: Partial<DeferOptions> = {}, saved?: EditState): EditSession =>
  startDefer({ ...options, ...set }, settingOf(model, options.layer), saved && { saved });

/** A module of the model's size. */
const drawn = () => drawModule(model.config, createRng(5));

const sequences = [0, 1, 2].map((i) => fact(i)).map(({ prompt }) => prompt);
async function cutsOf(): Promise<Cut[]> {
  return runFrozen(
    model,
    sequences.map((text) => model.tokenizer.encode(text)),
    { point: atValue(options.layer) },
  );
}

describe("a module", () => {
  test("begins uniform within 1 / sqrt(M), of one seed always the same, of each part its own", () => {
    const { config } = model;
    const bound = 1 / Math.sqrt(config.intermediateSize);
    const [one, again, other] = [1, 1, 2].map((seed) => drawModule(config, createRng(seed)));
    expect(again).toEqual(one);
    expect(other).not.toEqual(one);
    for (const part of PARTS) {
      const values = one?.[part] as Float32Array;
      expect(values).toHaveLength(shapesOf(config)[part].reduce((size, side) => size * side, 1));
      expect(Math.max(...values.map(Math.abs))).toBeLessThanOrEqual(bound);
    }
    expect(Math.max(...(one?.A ?? []))).toBeGreaterThan(0.99 * bound);
    expect(one?.a.subarray(0, 4)).not.toEqual(one?.A.subarray(0, 4));
  });
});

describe("an overlay", () => {
  test("gates each sequence at its last token, and gives an open one its value at every position", async () => {
    const cuts = await cutsOf();
    const { hiddenSize: D, intermediateSize: M } = model.config;
    await expectTidy(async () => {
      const module = drawn();
      const inputs = cuts.map(({ mlpIn, tokens }) => (mlpIn as Float32Array).slice((tokens.length - 1) * M));
      const row = (matrix: Float32Array, i: number) => matrix.subarray(i * M, (i + 1) * M);
      const dot = (q: Float32Array, w: Float32Array) => q.reduce((sum, x, i) => sum + x * (w[i] as number), 0);
      const gates = inputs.map((q) => 1 / (1 + Math.exp(-dot(q, module.a) - (module.b[0] as number))));
      const valueAt = (q: Float32Array) =>
        Float32Array.from({ length: D }, (_, i) => dot(q, row(module.A, i)) + (module.c[i] as number));
      const [lowest, second] = [...gates].sort((a, b) => a - b) as [number, number];
      const middle = (lowest + second) / 2;
      const overlay = deferOverlay(moduleMatrix(module, model.config), { ...options, threshold: middle });
      const batch = batchCuts(model, cuts);
      const routed = await overlay.route(batch);
      const read = routed.decisions.map(({ readings: [reading] }) => reading?.numbers.gate as number);
      expect(largestDifference(read, gates)).toBeLessThan(1e-6);
      expect(routed.decisions.map(({ variant }) => variant)).toEqual(
        [...gates].map((gate) => (gate >= middle ? "module" : MAIN)),
      );
      for (const [row, cut] of cuts.entries()) {
        const spots = [{ row, position: cut.tokens.length - 1 }];
        const logits = logitsAt(model, batch, { patch: routed.patch("module"), spots });
        const alone = batchCuts(model, [cut]);
        const value = valueAt(inputs[row] as Float32Array);
        const change = () => tf.tile(tf.tensor2d(value, [1, D]), [cut.tokens.length, 1]);
        const wanted = logitsAt(model, alone, {
          patch: [{ site: { layer: options.layer, matrix: "down" }, change }],
          spots: [{ row: 0, position: cut.tokens.length - 1 }],
        });
        expect(largestDifference(await logits.data<"float32">(), await wanted.data<"float32">())).toBeLessThan(1e-4);
        alone.dispose();
        tf.dispose([logits, wanted]);
      }
      for (const held of [routed, batch, overlay]) held.dispose();
    });
  });
});

describe("the router", () => {
  const reading = (gate: number) => ({ variant: "module", margin: 0, numbers: { gate } });
  const { decide, turn } = deferRouter.inference as NonNullable<typeof deferRouter.inference>;

  test.each([
    [0.5, 0.5, "module"],
    [0.49999, 0.5, MAIN],
    [0.2, 0, "module"],
    [0.99, 1, MAIN],
  ])("with a gate of %d and a threshold of %d answers %s", (gate, threshold, variant) => {
    expect(decide([reading(gate)], { threshold }).variant).toBe(variant);
  });

  test("the module answers up to its gate", () => {
    expect(turn([reading(0.3)], { threshold: 0.5 })).toBe(0.3);
    expect(turn([], { threshold: 0.5 })).toBe(Number.NEGATIVE_INFINITY);
    expect(decide([], { threshold: 0.5 }).variant).toBe(MAIN);
  });

  test.each([[{}], [{ threshold: -1 }], [{ threshold: "1" }]])("refuses a run that says %j", async (wrong) => {
    const error = await refusal(async () => decide([reading(0.3)], wrong));
    expect(error).toMatchObject({ where: "options of the protocol", expected: "threshold, a number from 0" });
  });
});

test("a state goes on at another threshold: editing never reads it", async () => {
  const [low, high] = [start({ threshold: 0.1 }), start({ threshold: 0.9 })];
  for (const session of [low, high]) await session.edit([fact(0)]);
  expect(await low.state()).toEqual(await high.state());
  for (const session of [low, high]) session.dispose();
});

test("the first step of an edit is one down its loss", async () => {
  const session = start({ n_iter: 1, edit_lr: 1e-4 });
  const before = await session.state();
  const [trace] = await session.edit([fact(0)]);
  const after = await session.state();
  session.dispose();
  // Adam's first step is lr times the sign of the gradient: along it the loss must fall, against it rise.
  const lossAt = async (share: number): Promise<number> => {
    const tensors = Object.fromEntries(
      PARTS.map((part) => {
        const [from, to] = [before, after].map(({ tensors }) => tensors[part]?.data as Float32Array);
        const data = (from as Float32Array).map((x, i) => x + share * ((to?.[i] as number) - x));
        return [part, { shape: before.tensors[part]?.shape as number[], data }];
      }),
    );
    const other = start({ n_iter: 1 }, { ...before, tensors });
    const [made] = await other.edit([fact(0)]);
    other.dispose();
    return made?.steps[0]?.loss as number;
  };
  const loss = trace?.steps[0]?.loss as number;
  expect(await lossAt(0)).toBe(loss);
  expect(await lossAt(1)).toBeLessThan(loss);
  expect(await lossAt(-1)).toBeGreaterThan(loss);
});

test("foresees its module", async () => {
  const { hiddenSize: D, intermediateSize: M } = model.config;
  const { now, most } = countBuffers((tensor) => tensor.size === (D + 1) * (M + 1));
  const { kept, working } = deferBytes(model.config);
  const session = start();
  for (let i = 0; i < 3; i++) await session.edit([{ ...fact(0), target: "Oslo" }]);
  expect(now()).toBe(kept);
  expect(most()).toBe(kept + working);
  session.dispose();
});
