import { expect, test } from "vitest";
import { makeContextTemplates } from "../../src/edit/templates.js";
import { expectTidy } from "../support/tensor-matcher.js";
import { loadTiny } from "./support.js";

test("eleven templates: the bare prompt, then the model's own prefixes of five and of ten tokens", async () => {
  const model = await loadTiny();
  const templates = await expectTidy(() => makeContextTemplates(model));
  expect(templates).toHaveLength(11);
  expect(templates[0]).toBe("{}");
  for (const [i, opening] of ["I", "You", "Because", "Yes", "Q: "].entries()) {
    const [short, long] = [templates[1 + i] as string, templates[6 + i] as string];
    expect(short.startsWith(opening) && short.endsWith(" {}")).toBe(true);
    expect(long.startsWith(opening) && long.length > short.length).toBe(true);
  }
  expect(templates.every((template) => template.split("{}").length === 2)).toBe(true);
  expect(await makeContextTemplates(model)).toEqual(templates);
  model.dispose();
});
