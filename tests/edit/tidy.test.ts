import { afterAll, beforeAll, expect, test } from "vitest";
import { meanOverTokens, tokenDistances } from "../../src/edit/wise/routing.js";
import { batchCuts, type Cut, type CutBatch, logitsAt, mainOutput } from "../../src/model/cut.js";
import { runFrozen } from "../../src/model/frozen.js";
import {
  embed,
  forward,
  gated,
  headLogits,
  type LlamaLayer,
  layerBeforeValue,
  layerForward,
  layerForwardAt,
  linear,
  rmsNorm,
  silu,
} from "../../src/model/llama.js";
import type { LlamaModel } from "../../src/model/model.js";
import { tf } from "../../src/tensor/tf.js";
import { weightsOf } from "../support/whole-model.js";
import { loadTiny } from "./support.js";

let model: LlamaModel;
let batch: CutBatch;
let layer: LlamaLayer;
let tokens: tf.Tensor1D;
beforeAll(async () => {
  model = await loadTiny("tiny-llama3");
  layer = model.layer(1);
  batch = batchCuts(model, (await runFrozen(model, [[0, 5, 6, 7]], { layer: 1 })) as Cut[]);
  tokens = tf.tensor1d([0, 5, 6, 7], "int32");
});
afterAll(() => {
  batch.dispose();
  tokens.dispose();
  model.dispose();
});

const distances = () => tf.tidy(() => tf.ones<tf.Rank.R1>([4]));

/** Each function with the number of tensors that are its result. Arguments made on the way are counted in. */
const calls: Record<string, [tensors: number, call: () => unknown]> = {
  linear: [1, () => linear(batch.mlpIn, layer.down)],
  rmsNorm: [1, () => rmsNorm(batch.residual, layer.inputNorm, 1e-5)],
  silu: [1, () => silu(batch.residual)],
  gated: [1, () => gated(batch.mlpIn, batch.mlpIn)],
  layerBeforeValue: [2, () => layerBeforeValue(batch.residual, layer, model.config, batch.at)],
  layerForward: [1, () => layerForward(batch.residual, layer, model.config, batch.at)],
  layerForwardAt: [
    2,
    () => {
      const asked = { rows: tf.tensor1d([0, 1, 2, 3], "int32"), at: batch.at };
      return layerForwardAt(batch.residual, layer, model.config, { at: batch.at, asked });
    },
  ],
  headLogits: [1, () => headLogits(batch.residual, model.output, model.config)],
  embed: [1, () => embed(tokens, layer.q as tf.Tensor2D)],
  forward: [1, () => forward(batch.residual, weightsOf(model), model.config, batch.at)],
  mainOutput: [1, () => mainOutput(model, batch, 1)],
  logitsAt: [1, () => logitsAt(model, batch, batch.residual, { layer: 1, spots: [{ row: 0, position: 2 }] })],
  "tokenDistances, identity": [
    1,
    () => tokenDistances(batch.residual, batch.residual, { activationOnDistance: false }),
  ],
  "tokenDistances, SiLU": [1, () => tokenDistances(batch.residual, batch.residual, { activationOnDistance: true })],
  meanOverTokens: [2, () => meanOverTokens(distances(), batch.shares)],
};

test.each(Object.entries(calls))("%s leaves its result and nothing else, outside of any tidy", (_, [tensors, call]) => {
  tf.engine().startScope(); // only to free the result afterwards: nothing is freed inside it
  const before = tf.memory().numTensors;
  call();
  const made = tf.memory().numTensors - before;
  tf.engine().endScope();
  expect(made).toBe(tensors);
});
