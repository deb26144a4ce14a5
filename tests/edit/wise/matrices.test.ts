import { afterAll, beforeAll, expect, it } from "vitest";
import type { EditBytes } from "../../../src/edit/contract.js";
import type { Decision, Overlay } from "../../../src/edit/overlay.js";
import { wiseBytes } from "../../../src/edit/wise/matrices.js";
import type { WiseOptions } from "../../../src/edit/wise/options.js";
import { startWise } from "../../../src/edit/wise/wise.js";
import { batchCuts } from "../../../src/model/cut.js";
import { loadModel } from "../../../src/model/folder.js";
import type { LlamaModel } from "../../../src/model/model.js";
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

/** Entries of the value matrix. */
const size = () => model.config.hiddenSize * model.config.intermediateSize;

/** Counts tensors as large as a value matrix. */
function countMatrices() {
  const { now, most } = countBuffers((tensor) => tensor.size === size());
  return { now: () => now() / (4 * size()), most: () => most() / (4 * size()) };
}

/** Memory of a block of edits, in float32 matrices; `variants` as they are. */
function matricesOf(options: WiseOptions, block: number): EditBytes {
  const { kept, stepping, reading, working, variants } = wiseBytes(options, model.config, block);
  const matrix = 4 * size();
  return {
    kept: kept / matrix,
    stepping: stepping / matrix,
    reading: reading / matrix,
    working: working / matrix,
    variants,
  };
}

interface Measured {
  kept: number;
  most: number;
  reading: number;
  /** Variants that a reading would run the model under. */
  variants: number;
}

/** The number of variants that change anything. */
async function variantsOf(overlay: Overlay): Promise<number> {
  const batch = batchCuts(model, await settingOf(model).cuts.get([[0, 5, 9]]));
  const routed = await overlay.route(batch);
  const changing = (routed.decisions[0] as Decision).readings.filter(({ variant }) => routed.patch(variant).length > 0);
  routed.dispose();
  batch.dispose();
  return changing.length;
}

/** Makes edits and reads them as a run does that scores after each. */
async function measure(options: WiseOptions, edits: number): Promise<Measured> {
  const count = countMatrices();
  const session = startWise(options, settingOf(model));
  const measured: Measured = { kept: 0, most: 0, reading: 0, variants: 0 };
  for (let i = 0; i < edits; i++) {
    await session.edit([facts[i % facts.length] as (typeof facts)[number]]);
    measured.kept = Math.max(measured.kept, count.now());
    const own = count.now();
    const overlay = await session.overlay();
    measured.reading = Math.max(measured.reading, count.now() - own);
    measured.variants = Math.max(measured.variants, await variantsOf(overlay));
    overlay.dispose();
  }
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
  const foreseen = matricesOf(options, edits);
  const { kept, most, reading, variants } = await measure(options, edits);
  expect(kept).toBe(foreseen.kept);
  expect(reading).toBe(foreseen.reading);
  expect(variants).toBeLessThanOrEqual(foreseen.variants);
  // When a shard has just been saved, the side memory is empty and changes nothing.
  expect(variants).toBeGreaterThanOrEqual(options.retrieve ? foreseen.variants - 1 : 1);
  expect(most).toBeLessThanOrEqual(foreseen.kept + foreseen.working);
  expect(most).toBeGreaterThanOrEqual(foreseen.kept + foreseen.stepping);
});

it("a step of one edit moves exactly as many matrices as foreseen, but for the mask as it was drawn", async () => {
  const options = await tinyOptions("n_iter=2");
  const { kept, working } = matricesOf(options, 1);
  expect((await measure(options, 1)).most).toBe(kept + working - 0.25);
});

it("merging takes more matrices the more shards there are, and twice as many where it leaves entries out", async () => {
  const options = await tinyOptions("save_freq=500", "merge_freq=10000");
  const at = (block: number, merge_alg: WiseOptions["merge_alg"] = "ties") =>
    matricesOf({ ...options, merge_alg }, block);
  expect(at(499)).toEqual({ kept: 1, stepping: 2.5, reading: 0, working: 5.5, variants: 1 });
  expect(at(9999)).toEqual({ kept: 20, stepping: 2.5, reading: 0, working: 20, variants: 20 });
  expect(at(10000).working).toBe(7 + 2 * 20 + 2);
  expect(at(10000, "linear").working).toBe(7 + 20);
  expect(at(10000, "slerp").working).toBe(7 + 20 + 1);
});
