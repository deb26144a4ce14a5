import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { methods } from "../../src/edit/registry.js";
import { methodsPage } from "../../src/tables/methodsPage.js";
import { repository } from "../support/shared.js";

test("data/methods.md is what `wise-lab methods --markdown` writes", async () => {
  expect(await readFile(join(repository, "data/methods.md"), "utf8")).toBe(await methodsPage());
});

test("every method stands there with its options, keys and presets", async () => {
  const page = await methodsPage();
  for (const { title, options, fixed = {}, withoutEffect = {}, presets } of Object.values(methods)) {
    expect(page).toContain(`\n## ${title}\n`);
    const keys = [options, fixed, withoutEffect, presets].flatMap((part) => Object.keys(part));
    for (const key of keys) expect(page).toContain(`\n| ${key} | `);
  }
  for (const key of ["seed", "batch_size", "model_name"]) expect(page).toContain(`\n| ${key} | `);
});
