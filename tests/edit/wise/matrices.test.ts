import { afterAll, beforeAll, expect, it } from "vitest";
import { createRng } from "../../../src/core/rng.js";
import type { EditSession } from "../../../src/edit/contract.js";
import { wiseMatrices } from "../../../src/edit/wise/matrices.js";
import type { WiseOptions } from "../../../src/edit/wise/options.js";
import { startWise } from "../../../src/edit/wise/wise.js";
import { type LlamaModel, loadModel } from "../../../src/model/model.js";
import { selectBackend } from "../../../src/tensor/backend.js";
import { TINY_MODEL } from "../../run/support.js";
import { countBuffers } from "../../support/buffers.js";
import { facts, settingOf, tinyOptions } from "../support.js";

let model: LlamaModel;
beforeAll(async () => {
  await selectBackend("cpu"); // where clones share their buffer, as in native TensorFlow, and TensorFlow.js can tell
  model = await loadModel(TINY_MODEL);
});
afterAll(() => model.dispose());

/** Counts tensors as large as a value matrix. */
function countMatrices() {
  const size = model.config.hiddenSize * model.config.intermediateSize;
  const { now, most } = countBuffers((tensor) => tensor.size === size);
  return { now: () => now() / (4 * size), most: () => most() / (4 * size) };
}

interface Measured {
  kept: number;
  most: number;
  reading: number;
}

/** Makes edits and reads them as a run does. */
async function measure(options: WiseOptions, edits: number): Promise<Measured> {
  const count = countMatrices();
  const session: EditSession = startWise({ ...settingOf(model), rng: createRng(0) }, options);
  const measured: Measured = { kept: 0, most: 0, reading: 0 };
  for (let i = 0; i < edits; i++) {
    await session.edit(facts[i % facts.length] as (typeof facts)[number]);
    measured.kept = Math.max(measured.kept, count.now());
  }
  const overlay = await session.overlay();
  measured.reading = count.now() - Math.min(count.now(), measured.kept);
  overlay.dispose();
  measured.most = count.most();
  session.dispose();
  expect(count.now()).toBe(0);
  return measured;
}

it.each([
  ["one edit", 1, ["save_freq=2", "merge_freq=4"]],
  ["a shard", 2, ["save_freq=2", "merge_freq=4"]],
  ["shards that wait for their merge", 5, ["save_freq=1", "merge_freq=6"]],
  ["shards that were merged", 6, ["save_freq=1", "merge_freq=6"]],
  ["merged memories that pile up", 5, ["save_freq=1", "merge_freq=2"]],
  ["one merged memory", 5, ["save_freq=1", "merge_freq=2", "retrieve=false"]],
  ["shards merged for the reading alone", 3, ["save_freq=1", "merge_freq=6", "retrieve=false"]],
])("foresees the matrices of %s", async (_, edits, set) => {
  const options = await tinyOptions("n_iter=2", ...set);
  const foreseen = wiseMatrices(options, edits);
  const { kept, most, reading } = await measure(options, edits);
  expect(kept).toBe(foreseen.kept);
  expect(reading).toBe(foreseen.reading);
  expect(most).toBeLessThanOrEqual(foreseen.kept + foreseen.working);
  expect(most).toBeGreaterThanOrEqual(foreseen.kept + foreseen.stepping);
});

it("a step of one edit moves exactly as many matrices as foreseen, but for the mask as it was drawn", async () => {
  const options = await tinyOptions("n_iter=2");
  const { kept, working } = wiseMatrices(options, 1);
  expect((await measure(options, 1)).most).toBe(kept + working - 0.25);
});

it("merging takes more matrices the more shards there are, and twice as many where it leaves entries out", async () => {
  const options = await tinyOptions("save_freq=500", "merge_freq=10000");
  const at = (block: number, mergeAlg: WiseOptions["mergeAlg"] = "ties") =>
    wiseMatrices({ ...options, mergeAlg }, block);
  expect(at(499)).toEqual({ kept: 1, stepping: 2.5, reading: 0, working: 5.5 });
  expect(at(9999)).toEqual({ kept: 20, stepping: 2.5, reading: 0, working: 20 });
  expect(at(10000).working).toBe(7 + 2 * 20 + 2);
  expect(at(10000, "linear").working).toBe(7 + 20);
  expect(at(10000, "slerp").working).toBe(7 + 20 + 1);
});
