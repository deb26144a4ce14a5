import { afterAll, beforeAll, expect, it } from "vitest";
import { crossEntropy, oneHotTargets, targetsOf } from "../../src/edit/loss.js";
import type { TokenRow } from "../../src/edit/rows.js";
import { createWiseOverlay } from "../../src/edit/wise/routing.js";
import { createProblem, runStep } from "../../src/edit/wise/step.js";
import { predictedTokens } from "../../src/eval/score.js";
import { batchCuts, type Cut, logitsAt, type Spot } from "../../src/model/cut.js";
import { loadModel } from "../../src/model/folder.js";
import { generate } from "../../src/model/generate.js";
import { layerForward, positions } from "../../src/model/llama.js";
import type { LlamaModel } from "../../src/model/model.js";
import { type CutPoint, deltaChange, MATRICES } from "../../src/model/patch.js";
import {
  cutNumbers,
  frozenNumbers,
  layerWeights,
  matrixWeights,
  scoreNumbers,
  stepNumbers,
  writtenNumbers,
} from "../../src/run/memory-parts.js";
import { selectBackend } from "../../src/tensor/backend.js";
import { tf } from "../../src/tensor/tf.js";
import { tinyOptions } from "../edit/support.js";
import { countBuffers } from "../support/buffers.js";
import { atInput, atValue } from "../support/points.js";
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
function cutsOf(point: CutPoint): Cut[] {
  const { hiddenSize, intermediateSize } = model.config;
  return Array.from({ length: SEQUENCES }, () => ({
    point,
    tokens: Array.from({ length: LENGTH }, (_, i) => i),
    stream: new Float32Array(LENGTH * hiddenSize).fill(0.1),
    mlpIn: point.at === "mlpIn" ? new Float32Array(LENGTH * intermediateSize).fill(0.1) : null,
  }));
}

/** Token rows of any tokens, with targets at their ends. */
function rowsWithTargets(count: number): TokenRow[] {
  // No two begin alike: then nothing is shared.
  const idsOf = (row: number) => Array.from({ length: LENGTH }, (_, i) => i + row + 1);
  return Array.from({ length: count }, (_, row) => ({ ids: idsOf(row), promptTokens: LENGTH - TARGETS }));
}

/** An upper bound, and not much above. */
function expectBound(foreseen: number, found: number, slack = 1.5): void {
  expect(foreseen).toBeGreaterThanOrEqual(found);
  expect(foreseen).toBeLessThan(slack * found);
}

/** Spots of the targets of every sequence. */
const spotsOfTargets = (): Spot[] =>
  Array.from({ length: SEQUENCES }, (_, row) =>
    Array.from({ length: TARGETS }, (_, i) => ({ row, position: LENGTH - 2 - i })),
  ).flat();

/** Sizes of a batch of scoring at those spots, as the plan is told them. */
const score = {
  padded: SEQUENCES * LENGTH,
  longest: LENGTH,
  answers: SEQUENCES * TARGETS,
  sequences: SEQUENCES,
  answersOfOne: TARGETS,
};

it("counts the weights of a layer", () => {
  const weights = Object.values(model.layer(0)) as tf.Tensor[];
  expect(layerWeights(model.config)).toBe(weights.reduce((sum, { size }) => sum + size, 0));
});

it.each(MATRICES)("counts the weights of the matrix %s", (matrix) => {
  expect(matrixWeights(model.config, matrix)).toBe(model.matrix({ layer: 0, matrix }).size);
});

it("counts the numbers of a cut, for one token", () => {
  for (const point of [atInput(1), atValue(1)]) {
    const { stream, mlpIn } = cutsOf(point)[0] as Cut;
    expect(cutNumbers(model.config, point)).toBe((stream.length + (mlpIn?.length ?? 0)) / LENGTH);
  }
});

it("foresees a frozen layer over a batch", () => {
  const batch = SEQUENCES * LENGTH;
  const x = tf.zeros([batch, model.config.hiddenSize]) as tf.Tensor2D;
  const at = positions(model.config, LENGTH);
  const buffers = countBuffers();
  const y = layerForward(x, model.layer(0), model.config, { at });
  expectBound(
    4 * frozenNumbers(model.config, { batch, longest: LENGTH, pass: 0, padded: 0, tokens: 0 }),
    buffers.most(),
  );
  tf.dispose([x, y, at.cos, at.sin, at.causal]);
});

it.each([0, 1, 2, 3])("foresees a step of an edit at layer %i of 4", async (layer) => {
  const options = await tinyOptions(`layer=${layer}`);
  const buffers = countBuffers();
  const irrelevant: TokenRow = { ids: Array.from({ length: LENGTH }, (_, i) => i), promptTokens: LENGTH };
  const rows = [...rowsWithTargets(SEQUENCES - 1), irrelevant];
  const problem = createProblem(model, options, batchCuts(model, cutsOf(atValue(layer))), rows);
  const { shape } = model.matrix({ layer, matrix: "down" });
  const delta: tf.Tensor2D = tf.zeros(shape);
  const step = runStep(problem, delta, null);
  const targets = (SEQUENCES - 1) * TARGETS;
  const edit = { sequences: SEQUENCES, longest: LENGTH, targets, targetsOfOne: TARGETS };
  // Beside the numbers of the step: the side memory, its gradient, and the inputs of its matrix.
  const matrices = 4 * shape[1] * (2 * shape[0] + SEQUENCES * LENGTH);
  expectBound(4 * stepNumbers(model.config, atValue(layer), edit) + matrices, buffers.most());
  step.dispose();
  problem.dispose();
  delta.dispose();
});

it.each([0, 1, 2, 3].flatMap((layer) => [[layer, "q"] as const, [layer, "up"] as const]))(
  "foresees a step of an edit from the start of layer %i of 4, in the matrix %s",
  (layer, matrix) => {
    const site = { layer, matrix };
    const buffers = countBuffers();
    const rows = rowsWithTargets(SEQUENCES);
    const batch = batchCuts(model, cutsOf(atInput(layer)));
    const { spots, ids, weights } = targetsOf(rows);
    const targets = oneHotTargets(ids, model.config.vocabSize);
    const share = tf.tensor1d(weights);
    const delta: tf.Tensor2D = tf.zeros(model.matrix(site).shape);
    const { value, grad } = tf.valueAndGrad((x) => {
      const patch = [{ site, change: deltaChange(x as tf.Tensor2D) }];
      return crossEntropy(logitsAt(model, batch, { patch, spots }), targets, share);
    })(delta);
    const edit = { sequences: SEQUENCES, longest: LENGTH, targets: spots.length, targetsOfOne: TARGETS };
    // Beside the numbers of the step: the delta and its gradient. No router measures anything, and what comes before the
    // matrix in its layer needs no gradient.
    expectBound(4 * stepNumbers(model.config, atInput(layer), edit) + 2 * 4 * delta.size, buffers.most(), 3);
    tf.dispose([value, grad, targets, share, delta]);
    batch.dispose();
  },
);

it.each([0, 1, 2, 3])("foresees a batch of scoring at layer %i of 4", async (layer) => {
  const spots = spotsOfTargets();
  const buffers = countBuffers();
  const batch = batchCuts(model, cutsOf(atValue(layer)));
  const delta: tf.Tensor2D = tf.zeros(model.matrix({ layer, matrix: "down" }).shape);
  const rule = { ...(await tinyOptions(`layer=${layer}`)), retrieve: true };
  const overlay = createWiseOverlay(model, [{ name: "side", delta, minAct: 1 }], rule);
  const routed = await overlay.route(batch);
  await predictedTokens(model, batch, { patch: routed.patch("side"), spots });
  const foreseen = 4 * scoreNumbers(model.config, atValue(layer), { score, variants: 1 });
  expectBound(foreseen + 4 * delta.size, buffers.most());
  batch.dispose();
  routed.dispose();
  overlay.dispose();
});

it.each([0, 1, 2, 3])(
  "foresees a batch of scoring from the start of layer %i of 4, without a router",
  async (layer) => {
    const spots = spotsOfTargets();
    const site = { layer, matrix: "gate" } as const;
    const buffers = countBuffers();
    const batch = batchCuts(model, cutsOf(atInput(layer)));
    const delta: tf.Tensor2D = tf.zeros(model.matrix(site).shape);
    await predictedTokens(model, batch, { patch: [{ site, change: deltaChange(delta) }], spots });
    const foreseen = 4 * scoreNumbers(model.config, atInput(layer), { score, variants: 1 });
    expect(foreseen + 4 * delta.size).toBeGreaterThanOrEqual(buffers.most());
    batch.dispose();
    delta.dispose();
  },
);

it("foresees free answers, the untouched model's and a variant's", async () => {
  const point = atValue(1);
  const prompts = Array.from({ length: SEQUENCES }, (_, row) => Array.from({ length: LENGTH }, (_, i) => i + row + 1));
  const rows = prompts.map((_, row) => row);
  const buffers = countBuffers();
  await generate(model, prompts, {
    cut: point,
    maxNewTokens: 12,
    decide: async () => ({
      voices: ["main", "other"].map((name) => ({ name, rows, patch: [], later: [] })),
      dispose: () => {},
    }),
  });
  const written = { sequences: SEQUENCES, longest: LENGTH, tokens: 12 };
  expectBound(4 * writtenNumbers(model.config, { written, variants: 1 }), buffers.most(), 2.5);
});
