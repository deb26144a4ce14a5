import { afterAll, beforeAll, expect, it } from "vitest";
import { createWiseOverlay } from "../../src/edit/wise/routing.js";
import { createProblem, runStep } from "../../src/edit/wise/step.js";
import { predictedTokens } from "../../src/eval/score.js";
import { batchCuts, type Cut, type Spot } from "../../src/model/cut.js";
import { layerForward, positions } from "../../src/model/llama.js";
import { type LlamaModel, loadModel } from "../../src/model/model.js";
import { frozenNumbers, layerWeights, scoreNumbers, stepNumbers } from "../../src/run/memory-parts.js";
import { selectBackend } from "../../src/tensor/backend.js";
import { tf } from "../../src/tensor/tf.js";
import { tinyOptions } from "../edit/support.js";
import { countBuffers } from "../support/buffers.js";
import { TINY_MODEL } from "./support.js";

let model: LlamaModel;
beforeAll(async () => {
  await selectBackend("cpu");
  model = await loadModel(TINY_MODEL);
});
afterAll(() => model.dispose());

const SEQUENCES = 7;
const LENGTH = 24;
const TARGETS = 3;

/** Cuts of any numbers: only their sizes count. */
function cutsOf(layer: number): Cut[] {
  const { hiddenSize, intermediateSize } = model.config;
  return Array.from({ length: SEQUENCES }, () => ({
    layer,
    tokens: Array.from({ length: LENGTH }, (_, i) => i),
    residual: new Float32Array(LENGTH * hiddenSize).fill(0.1),
    mlpIn: new Float32Array(LENGTH * intermediateSize).fill(0.1),
  }));
}

/** An upper bound, and not much above. */
function expectBound(foreseen: number, found: number): void {
  expect(foreseen).toBeGreaterThanOrEqual(found);
  expect(foreseen).toBeLessThan(1.5 * found);
}

it("counts the weights of a layer", () => {
  const weights = Object.values(model.layer(0)) as tf.Tensor[];
  expect(layerWeights(model.config)).toBe(weights.reduce((sum, { size }) => sum + size, 0));
});

it("foresees a frozen layer over a batch", () => {
  const batch = SEQUENCES * LENGTH;
  const x = tf.zeros([batch, model.config.hiddenSize]) as tf.Tensor2D;
  const at = positions(model.config, LENGTH);
  const buffers = countBuffers();
  const y = layerForward(x, model.layer(0), model.config, at);
  expectBound(
    4 * frozenNumbers(model.config, { batch, longest: LENGTH, pass: 0, padded: 0, tokens: 0 }),
    buffers.most(),
  );
  tf.dispose([x, y, at.cos, at.sin, at.causal]);
});

it.each([0, 1, 2, 3])("foresees a step of an edit at layer %i of 4", async (layer) => {
  const options = await tinyOptions(`layer=${layer}`);
  const buffers = countBuffers();
  const rows = Array.from({ length: SEQUENCES - 1 }, () => ({
    ids: Array.from({ length: LENGTH }, (_, i) => i),
    promptTokens: LENGTH - TARGETS,
  }));
  const problem = createProblem(model, options, batchCuts(model, cutsOf(layer)), rows);
  const { shape } = model.valueMatrix(layer);
  const delta: tf.Tensor2D = tf.zeros(shape);
  const step = runStep(problem, delta, null);
  const targets = (SEQUENCES - 1) * TARGETS;
  const edit = { sequences: SEQUENCES, longest: LENGTH, targets, targetsOfOne: TARGETS };
  // Beside the numbers of the step: the side memory and its gradient.
  expectBound(4 * stepNumbers(model.config, layer, edit) + 2 * 4 * shape[0] * shape[1], buffers.most());
  step.dispose();
  problem.dispose();
  delta.dispose();
});

it.each([0, 1, 2, 3])("foresees a batch of scoring at layer %i of 4", async (layer) => {
  const spots: Spot[] = Array.from({ length: SEQUENCES }, (_, row) =>
    Array.from({ length: TARGETS }, (_, i) => ({ row, position: LENGTH - 2 - i })),
  ).flat();
  const buffers = countBuffers();
  const batch = batchCuts(model, cutsOf(layer));
  const delta: tf.Tensor2D = tf.zeros(model.valueMatrix(layer).shape);
  const rule = { ...(await tinyOptions(`layer=${layer}`)), retrieve: true };
  const overlay = createWiseOverlay(layer, [{ name: "side", delta, minAct: 1 }], rule);
  const answer = await overlay.answer(model, batch);
  const side = answer.under("side");
  await predictedTokens(model, batch, side, { layer, spots });
  const score = {
    padded: SEQUENCES * LENGTH,
    longest: LENGTH,
    answers: spots.length,
    sequences: SEQUENCES,
    answersOfOne: TARGETS,
  };
  expectBound(4 * scoreNumbers(model.config, layer, { score, memories: 1 }) + 4 * delta.size, buffers.most());
  batch.dispose();
  answer.dispose();
  side.dispose();
  overlay.dispose();
});
