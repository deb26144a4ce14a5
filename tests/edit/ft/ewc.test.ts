import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Consolidation, consolidationOf, startEwc } from "../../../src/edit/ft/ewc.js";
import type { EwcOptions } from "../../../src/edit/ft/ewc-options.js";
import { forcedExample, lossAndGradients, problemOf } from "../../../src/edit/ft/objective.js";
import { tuningBytes } from "../../../src/edit/ft/tuning.js";
import { forcedRow, type TokenRow } from "../../../src/edit/rows.js";
import { stateTensor } from "../../../src/edit/state.js";
import { loadModel } from "../../../src/model/folder.js";
import type { LlamaModel } from "../../../src/model/model.js";
import { selectBackend } from "../../../src/tensor/backend.js";
import { tf } from "../../../src/tensor/tf.js";
import { refusal } from "../../model/support.js";
import { TINY_MODEL } from "../../run/support.js";
import { countBuffers } from "../../support/buffers.js";
import { expectTidy } from "../../support/tensor-matcher.js";
import { fact, largestDifference } from "../support.js";
import { ftSetting } from "./support.js";

let model: LlamaModel;
beforeAll(async () => {
  await selectBackend("cpu"); // where clones share their buffer, and TensorFlow.js can tell
  model = await loadModel(TINY_MODEL);
});
afterAll(() => model.dispose());

const options: EwcOptions = {
  ...{ layer: 3, num_steps: 3, lr: 1e-3, ewc_lambda: 50, fisher_mem: 2 },
  fisher_sum: "mean",
};
const row = (i: number): TokenRow => forcedRow(fact(i), model.tokenizer);
const setting = () => ftSetting(model, [options.layer]);
const startOf = () => {
  return tf.randomNormal(
    [model.config.hiddenSize, model.config.intermediateSize],
    0,
    0.01,
    "float32",
    3,
  ) as tf.Tensor2D;
};

/** Gradient of one edit's cross entropy, as plain numbers. */
async function gradientAt(start: tf.Tensor2D, i: number): Promise<Float32Array> {
  const problem = await problemOf(setting(), { layers: [options.layer] }, forcedExample(row(i)));
  const { loss, gradients } = lossAndGradients(problem, [start]);
  const values = await (gradients[0] as tf.Tensor2D).data<"float32">();
  tf.dispose([loss, ...gradients]);
  problem.dispose();
  return values;
}

describe("what holds an edit back", () => {
  test.each(["mean", "running"] as const)("%s: the sums written out", async (fisher_sum) => {
    await expectTidy(async () => {
      const start = startOf();
      const begun = { row: row(4), past: [row(1), row(2), row(3)], deltas: [start], signal: undefined };
      const held = (await consolidationOf(begun, { ...options, fisher_sum }, setting())) as Consolidation;
      const [own, newest, older] = await Promise.all([4, 1, 2].map((i) => gradientAt(start, i)));
      const squares = (parts: readonly (readonly (Float32Array | undefined)[])[]) =>
        Float32Array.from({ length: start.size }, (_, j) =>
          parts.reduce((sum, added) => sum + added.reduce((g, part) => g + (part?.[j] as number), 0) ** 2 / 2, 0),
        );
      const fisher = fisher_sum === "mean" ? squares([[newest], [older]]) : squares([[own], [own, newest]]);
      const scale = Math.max(...fisher);
      expect(largestDifference(await held.fisher.data<"float32">(), fisher) / scale).toBeLessThan(1e-5);
      // Two of two edits: nothing is scaled, and the anchor is where the edit begins.
      expect(largestDifference(await held.anchor.data<"float32">(), await start.data<"float32">())).toBeLessThan(1e-7);
      tf.dispose([start, held.fisher, held.anchor]);
    });
  });

  test("running, with fewer edits than it remembers: the anchor is a share of the weights", async () => {
    await expectTidy(async () => {
      const start = startOf();
      const begun = { row: row(0), past: [], deltas: [start], signal: undefined };
      const running = { ...options, fisher_sum: "running", fisher_mem: 4 } as const;
      const held = (await consolidationOf(begun, running, setting())) as Consolidation;
      const wanted = tf.tidy(() => {
        const weights = tf.add(model.matrix({ layer: 3, matrix: "down" }), start);
        return tf.sub(tf.add(held.anchor, model.matrix({ layer: 3, matrix: "down" })), tf.mul(weights, 0.25));
      });
      expect(Math.max(...(await wanted.data()).map(Math.abs))).toBeLessThan(1e-6);
      tf.dispose([start, wanted, held.fisher, held.anchor]);
    });
  });

  test("mean, before any edit: nothing", async () => {
    const start = startOf();
    const begun = { row: row(0), past: [], deltas: [start], signal: undefined };
    expect(await consolidationOf(begun, options, setting())).toBeNull();
    start.dispose();
  });
});

test("a stronger penalty keeps the second edit nearer to where it began", async () => {
  const movedBy = async (ewc_lambda: number): Promise<number> => {
    const session = startEwc({ ...options, ewc_lambda }, setting());
    await session.edit([fact(0)]);
    const shape = [model.config.hiddenSize, model.config.intermediateSize];
    const before = stateTensor(await session.state(), "layers.3.down", shape);
    const [trace] = await session.edit([fact(1)]);
    const after = stateTensor(await session.state(), "layers.3.down", shape);
    session.dispose();
    expect(trace?.steps[0]?.terms.penalty).toBe(0);
    return Math.sqrt(after.reduce((sum, x, i) => sum + (x - (before[i] as number)) ** 2, 0));
  };
  expect(await movedBy(1e7)).toBeLessThan(await movedBy(0));
});

test.each(["mean", "running"] as const)("foresees its matrices: %s", async (fisher_sum) => {
  const size = model.config.hiddenSize * model.config.intermediateSize;
  const { now, most } = countBuffers((tensor) => tensor.size === size);
  const { kept, working } = tuningBytes({ layers: [3] }, model.config, 2);
  const session = startEwc({ ...options, fisher_sum }, setting());
  const short = { ...fact(0), target: "Oslo" };
  for (let i = 0; i < 3; i++) await session.edit([short]);
  expect(now()).toBe(kept);
  expect(most()).toBeLessThanOrEqual(kept + working);
  session.dispose();
  expect(now()).toBe(0);
});

test("a state without the tokens of its past edits is refused", async () => {
  const session = startEwc(options, setting());
  await session.edit([fact(0)]);
  const state = await session.state();
  session.dispose();
  for (const json of [null, { past: [] }, { past: [{ ids: [1, 2], promptTokens: 0 }] }]) {
    const error = await refusal(async () => startEwc(options, setting(), { ...state, json }));
    expect(error).toMatchObject({ where: "saved edits", expected: "the tokens of the last 1 edits" });
  }
});
