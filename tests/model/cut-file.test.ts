import { truncate } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Cut, runFrozen } from "../../src/model/cut.js";
import { loadCut, saveCut } from "../../src/model/cut-file.js";
import type { LlamaModel } from "../../src/model/model.js";
import { loadTiny } from "../edit/support.js";
import { refusal, temporaryFolder } from "./support.js";

let model: LlamaModel;
let cut: Cut;
beforeAll(async () => {
  model = await loadTiny("tiny-llama3");
  [cut] = (await runFrozen(model, [[0, 9, 8, 7]], { layer: 2 })) as [Cut];
});
afterAll(() => model.dispose());

test("a cut comes back from its file as it was", async () => {
  const path = join(await temporaryFolder(), "cut.safetensors");
  await saveCut(path, cut, model);
  expect(await loadCut(path, model)).toEqual(cut);
});

test("a cut of another model, and one that was cut short, are refused", async () => {
  const path = join(await temporaryFolder(), "cut.safetensors");
  await saveCut(path, cut, model);
  const other = await refusal(() => loadCut(path, { ...model, sha256: "0".repeat(64) }));
  expect(other).toMatchObject({ found: model.sha256, expected: "0".repeat(64) });
  await truncate(path, 200);
  await refusal(() => loadCut(path, model));
});
