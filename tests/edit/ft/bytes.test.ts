import { afterAll, beforeAll, expect, test } from "vitest";
import { startFt } from "../../../src/edit/ft/ft.js";
import { tuningBytes } from "../../../src/edit/ft/tuning.js";
import { loadModel } from "../../../src/model/folder.js";
import type { LlamaModel } from "../../../src/model/model.js";
import { selectBackend } from "../../../src/tensor/backend.js";
import { TINY_MODEL } from "../../run/support.js";
import { countBuffers } from "../../support/buffers.js";
import { fact } from "../support.js";
import { ftOptions, ftSetting } from "./support.js";

let model: LlamaModel;
beforeAll(async () => {
  await selectBackend("cpu"); // where clones share their buffer, as in native TensorFlow, and TensorFlow.js can tell
  model = await loadModel(TINY_MODEL);
});
afterAll(() => model.dispose());

test.each([
  ["one layer", ["layers=[3]"]],
  ["several layers", ["layers=[1, 2, 3]"]],
  ["a clamp", ["layers=[3]", "norm_constraint=0.001"]],
  ["weight decay", ["layers=[2, 3]", "weight_decay=0.1", "norm_constraint=0.001"]],
])("foresees the matrices of %s", async (_, set) => {
  const options = await ftOptions("ft-m", "norm_constraint=null", ...set);
  const size = model.config.hiddenSize * model.config.intermediateSize;
  const { now, most } = countBuffers((tensor) => tensor.size === size);
  const matrices = (bytes: number) => bytes / (4 * size);
  const { kept, stepping, reading, working, variants } = tuningBytes(options, model.config);
  const session = startFt({ objective: "target_new", options }, ftSetting(model, options.layers));
  const short = { ...fact(0), target: "Oslo" }; // eleven target tokens' logits would be as large as a matrix
  for (let i = 0; i < 3; i++) await session.edit([short]);
  expect(matrices(now())).toBe(matrices(kept));
  expect(matrices(most())).toBe(matrices(kept + working));
  expect(stepping).toBeLessThan(working);
  const overlay = await session.overlay();
  expect([matrices(now()) - matrices(kept), variants]).toEqual([matrices(reading), 1]);
  overlay.dispose();
  session.dispose();
  expect(now()).toBe(0);
});
