import { afterAll, beforeAll, expect, test } from "vitest";
import { meanOverTokens, tokenDistances } from "../../src/edit/wise/routing.js";
import { batchCuts, type Cut, type CutBatch, logitsAt, mainOutput, valueInput } from "../../src/model/cut.js";
import { runFrozen } from "../../src/model/frozen.js";
import {
  embed,
  forward,
  headLogits,
  type LlamaLayer,
  layerBeforeValue,
  layerForward,
  layerFromValue,
  rmsNorm,
  silu,
} from "../../src/model/llama.js";
import type { LlamaModel } from "../../src/model/model.js";
import { type Change, deltaChange, lowRankChange, outputChange } from "../../src/model/patch.js";
import { linear } from "../../src/model/weight.js";
import { layerOps } from "../../src/tensor/layer-ops.js";
import { tf } from "../../src/tensor/tf.js";
import { atValue } from "../support/points.js";
import { weightsOf } from "../support/whole-model.js";
import { loadTiny } from "./support.js";

let model: LlamaModel;
let batch: CutBatch;
let layer: LlamaLayer;
let tokens: tf.Tensor1D;
beforeAll(async () => {
  model = await loadTiny("tiny-llama3");
  layer = model.layer(1);
  batch = batchCuts(model, (await runFrozen(model, [[0, 5, 6, 7]], { point: atValue(1) })) as Cut[]);
  tokens = tf.tensor1d([0, 5, 6, 7], "int32");
});
afterAll(() => {
  batch.dispose();
  tokens.dispose();
  model.dispose();
});

const D = () => model.config.hiddenSize;
const M = () => model.config.intermediateSize;
const distances = () => tf.tidy(() => tf.ones<tf.Rank.R1>([4]));

const spots = [{ row: 0, position: 2 }];

/** Logits under a change of the value matrix at the cut. */
function logitsUnder(change: Change): tf.Tensor2D {
  return logitsAt(model, batch, { patch: [{ site: { layer: 1, matrix: "down" }, change }], spots });
}

/** Each function with the number of tensors that are its result. Arguments made on the way are counted in. */
const calls: Record<string, [tensors: number, call: () => unknown]> = {
  linear: [1, () => linear(valueInput(batch), layer.down)],
  rmsNorm: [1, () => rmsNorm(batch.stream, layer.inputNorm, 1e-5)],
  silu: [1, () => silu(batch.stream)],
  gated: [1, () => layerOps().gated(valueInput(batch), valueInput(batch))],
  layerBeforeValue: [2, () => layerBeforeValue(batch.stream, layer, model.config, { at: batch.at })],
  layerFromValue: [1, () => layerFromValue({ stream: batch.stream, mlpIn: valueInput(batch) }, layer)],
  layerForward: [1, () => layerForward(batch.stream, layer, model.config, { at: batch.at })],
  "layerForward, some rows alone": [
    2,
    () => {
      const asked = { rows: tf.tensor1d([0, 1, 2, 3], "int32"), at: batch.at };
      return layerForward(batch.stream, layer, model.config, { at: batch.at, asked });
    },
  ],
  headLogits: [1, () => headLogits(batch.stream, model.output, model.config)],
  embed: [1, () => embed(tokens, layer.q as tf.Tensor2D)],
  forward: [1, () => forward(batch.stream, weightsOf(model), model.config, batch.at)],
  mainOutput: [1, () => mainOutput(model, batch)],
  logitsAt: [1, () => logitsAt(model, batch, { spots })],
  "logitsAt, under a delta": [2, () => logitsUnder(deltaChange(tf.zerosLike(layer.down as tf.Tensor2D)))],
  "logitsAt, under a delta of low rank": [3, () => logitsUnder(lowRankChange(tf.zeros([D(), 2]), tf.zeros([M(), 2])))],
  "logitsAt, under another output": [1, () => logitsUnder(outputChange(batch.stream))],
  "tokenDistances, identity": [1, () => tokenDistances(batch.stream, batch.stream, { distance_act: false })],
  "tokenDistances, SiLU": [1, () => tokenDistances(batch.stream, batch.stream, { distance_act: true })],
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
