import { afterAll, beforeAll, expect, test } from "vitest";
import { layoutOf } from "../../../src/edit/lora/factors.js";
import { loraBytes, startLora } from "../../../src/edit/lora/lora.js";
import { forcedRow } from "../../../src/edit/rows.js";
import { loadModel } from "../../../src/model/folder.js";
import type { LlamaModel } from "../../../src/model/model.js";
import { cutBefore } from "../../../src/model/patch.js";
import { stepNumbers } from "../../../src/run/memory-parts.js";
import { selectBackend } from "../../../src/tensor/backend.js";
import { TINY_MODEL } from "../../run/support.js";
import { countBuffers } from "../../support/buffers.js";
import { fact } from "../support.js";
import { ALL_MODULES, loraSetting, loraTiny } from "./support.js";

let model: LlamaModel;
beforeAll(async () => {
  await selectBackend("cpu"); // where clones share their buffer, as in native TensorFlow, and TensorFlow.js can tell
  model = await loadModel(TINY_MODEL);
});
afterAll(() => model.dispose());

/** Beside large factors all else is little; beside small ones, the activations are all. */
test.each([
  ["small factors", ["rank=2"], 2],
  ["small factors of every matrix", ["rank=2", ALL_MODULES], 1.5],
  ["those without dropout", ["rank=2", ALL_MODULES, "lora_dropout=0"], 1.5],
  ["large factors", ["rank=512"], 1.15],
  ["large factors of every matrix", ["rank=512", ALL_MODULES], 1.15],
  ["large factors that decay", ["rank=512", "weight_decay=0.1"], 1.15],
  ["large factors of adalora", ["lora_type=adalora", "init_r=256", "layers=[2, 3]"], 1.5],
])("foresees %s", async (_, set, slack) => {
  const options = await loraTiny(...set);
  const layout = layoutOf(options, model.config);
  const { kept, stepping, perToken = 0, reading, working, variants } = loraBytes(options, model.config);
  const { ids, promptTokens } = forcedRow(fact(0), model.tokenizer);
  const targets = ids.length - promptTokens;
  const sizes = { sequences: 1, longest: ids.length, targets, targetsOfOne: targets };
  const step = 4 * stepNumbers(model.config, cutBefore(layout.sites), sizes) + perToken * ids.length;

  const buffers = countBuffers();
  const session = startLora(options, loraSetting(model, layout));
  expect(buffers.now()).toBe(kept);
  const seen: number[] = [];
  await session.edit([fact(0)], { onStep: () => seen.push(buffers.most()) });
  const moving = buffers.most();
  const steps = Math.max(...seen);
  expect(kept + stepping + step).toBeGreaterThanOrEqual(steps);
  expect(kept + stepping + step).toBeLessThan(slack * steps);
  // What the batch holds, beside the factors, while they are moved.
  expect(kept + working + step).toBeGreaterThanOrEqual(moving);

  expect(buffers.now()).toBe(kept);
  const overlay = await session.overlay();
  expect(buffers.now()).toBeLessThanOrEqual(kept + reading);
  expect(variants).toBe(1);
  overlay.dispose();
  session.dispose();
  expect(buffers.now()).toBe(0);
});
