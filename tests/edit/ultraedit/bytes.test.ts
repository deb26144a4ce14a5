import { afterAll, beforeAll, expect, test } from "vitest";
import { forcedRow, type TokenRow } from "../../../src/edit/rows.js";
import { startUltraedit, ultraeditBytes } from "../../../src/edit/ultraedit/ultraedit.js";
import { loadModel } from "../../../src/model/folder.js";
import type { LlamaModel } from "../../../src/model/model.js";
import { stepNumbers } from "../../../src/run/memory-parts.js";
import { selectBackend } from "../../../src/tensor/backend.js";
import { TINY_MODEL } from "../../run/support.js";
import { countBuffers } from "../../support/buffers.js";
import { facts } from "../support.js";
import { prepareUltraedit, ultraeditSetting } from "./support.js";

let model: LlamaModel;
beforeAll(async () => {
  await selectBackend("cpu"); // where clones share their buffer, as in native TensorFlow, and TensorFlow.js can tell
  model = await loadModel(TINY_MODEL);
});
afterAll(() => model.dispose());

const targetsOf = (rows: readonly TokenRow[]) =>
  rows.reduce((sum, { ids, promptTokens }) => sum + ids.length - promptTokens, 0);

const EVERY = [0, 1, 2, 3].flatMap((layer) =>
  ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", "self_attn.q_proj"].map((part) => `model.layers.${layer}.${part}`),
);

test.each([
  ["the golden matrices, as factors", [], 1, 2],
  ["many matrices, as factors", [`inner_params=[${EVERY.join(", ")}]`], 1, 2],
  ["many matrices, as products", [`inner_params=[${EVERY.join(", ")}]`], 3, 2],
  ["batches of a few", ["batch_size=4", "batch_size_once=2"], 3, 3],
])("foresees %s", async (_, set, times, slack) => {
  const { options, method } = await prepareUltraedit(model, ...set);
  const requests = Array.from({ length: times }, () => facts).flat();
  const rows = requests.map((request) => forcedRow(request, model.tokenizer));
  const targets = targetsOf(rows);
  const plan = { edits: requests.length, targets };
  const { kept, stepping, reading, working, variants } = ultraeditBytes(options, model.config, plan);
  expect(method.bytes(requests.length, targets)).toEqual({ kept, stepping, reading, working, variants });

  const together = Math.min(method.inStep as number, requests.length);
  const longest = Math.max(...rows.map(({ ids }) => ids.length));
  const most = rows.map((row) => targetsOf([row])).sort((a, b) => b - a);
  const sizes = {
    sequences: together,
    longest,
    targets: most.slice(0, together).reduce((sum, n) => sum + n, 0),
    targetsOfOne: most[0] as number,
  };
  const step = 4 * stepNumbers(model.config, method.cut, sizes);

  const buffers = countBuffers();
  const session = startUltraedit(options, ultraeditSetting(model, method));
  const seen: number[] = [];
  await session.edit(requests, { onStep: () => seen.push(buffers.most()) });
  const steps = Math.max(...seen);
  expect(kept + stepping + step).toBeGreaterThanOrEqual(steps);
  expect(kept + stepping + step).toBeLessThan(slack * steps);
  const moving = buffers.most();
  expect(kept + working).toBeGreaterThanOrEqual(moving);

  const { tensors } = await session.state();
  const held = Object.values(tensors).reduce((sum, { data }) => sum + data.byteLength, 0);
  expect(kept).toBe(held);
  const now = buffers.now();
  expect(now).toBeLessThanOrEqual(kept);
  const overlay = await session.overlay();
  expect([buffers.now() - now, variants]).toEqual([reading, 1]);
  overlay.dispose();
  session.dispose();
  expect(buffers.now()).toBe(0);
});
