import { readdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { methods } from "../../../src/edit/registry.js";
import { loadModel } from "../../../src/model/folder.js";
import type { LlamaModel } from "../../../src/model/model.js";
import { selectBackend } from "../../../src/tensor/backend.js";
import { runGolden } from "../../../src/workshop/parity/golden.js";
import { openGolden } from "../../../src/workshop/parity/golden-files.js";
import { type CompareScenario, scenarios } from "../../../src/workshop/parity/scenarios.js";
import { golden, goldenMethods } from "../../support/shared.js";
import { expectTidy } from "../../support/tensor-matcher.js";
import { changeTensor, copyOf, failed, filesOf } from "./support.js";

const folder = await openGolden(goldenMethods, { methods: Object.keys(scenarios) });
const checkpoint = join(golden, "tiny-llama3");

/** Prints why a scenario is not run. */
function built(name: string): boolean {
  if (folder.scenarios.some((scenario) => scenario.name === name)) return true;
  console.info(`skipped here: ${name}: no scenario of src/workshop/parity understands its method`);
  return false;
}

beforeAll(() => selectBackend());

test("every editing method has scenarios", () => {
  const compared = new Set(["wise", ...folder.scenarios.map(({ method }) => method)]);
  expect(Object.keys(methods).filter((name) => !compared.has(name))).toEqual([]);
});

test("no file is passed over", () => {
  expect(folder.unread).toEqual([]);
  const written = readdirSync(goldenMethods).filter((name) => name.endsWith(".json"));
  expect(folder.scenarios.length + folder.notBuilt.length).toBe(written.length);
});

describe("the golden vectors of", () => {
  let model: LlamaModel;
  beforeAll(async () => {
    await selectBackend();
    model = await loadModel(checkpoint);
  });
  afterAll(() => model.dispose());

  for (const name of [...folder.scenarios, ...folder.notBuilt].map((scenario) => scenario.name).sort()) {
    test.runIf(built(name))(`${name} are met in everything they hold`, { timeout: 180_000 }, async () => {
      const scenario = folder.scenarios.find((one) => one.name === name) as (typeof folder.scenarios)[number];
      const compare = scenarios[scenario.method as string] as CompareScenario;
      const items = await expectTidy(() => compare(scenario, model));
      expect(failed(items)).toEqual({});
      expect(items.length).toBeGreaterThan(0);
      expect(items.every(({ compared, worst }) => compared > 0 && Number.isFinite(worst))).toBe(true);
    });
  }
});

describe("one altered tensor fails, and nothing else does", () => {
  for (const [name, tensor] of [
    ["ft-l-stop", "delta.1.model.layers.2.mlp.down_proj.weight"],
    ["ft-m-decay", "first_gradient.model.layers.3.mlp.down_proj.weight"],
    ["grace-prompt", "value.0"],
    ["grace-modes", "logits.1.rewrite"],
    ["lora-late", "factors.2.model.layers.3.mlp.down_proj.weight.B"],
    ["lora-late", "logits.1.loc"],
    ["rome-early-stop", "layers.2.weight_delta"],
    ["rome-early-stop", "after.0.loc.logits"],
    ["ultraedit", "1.model.layers.2.mlp.up_proj.v"],
    ["ultraedit", "stat.64x176.var"],
  ] as const) {
    test.runIf(built(name))(`${tensor} of ${name}`, async () => {
      const copy = await copyOf(goldenMethods, filesOf(name));
      await changeTensor(join(copy, `${name}.safetensors`), tensor, (value) => 1.05 * value);
      const { items, passed } = await runGolden(copy, { model: checkpoint });
      const [found, ...others] = Object.keys(failed(items));
      expect(found).toContain(`${name}: `);
      expect(others).toEqual([]);
      expect(passed).toBe(false);
    });
  }
});
