import { afterAll, beforeAll, expect, test } from "vitest";
import { foreseenTemplates, makeContextTemplates, type TemplateRecipe } from "../../src/edit/templates.js";
import { wiseTemplates } from "../../src/edit/wise/rows.js";
import { generateAfresh } from "../../src/model/afresh.js";
import type { LlamaModel } from "../../src/model/model.js";
import { expectTidy } from "../support/tensor-matcher.js";
import { loadTiny } from "./support.js";

let model: LlamaModel;
beforeAll(async () => {
  model = await loadTiny();
});
afterAll(() => model.dispose());

test("eleven templates: the bare prompt, then the model's own prefixes of five and of ten tokens", async () => {
  const templates = await expectTidy(() => makeContextTemplates(model, wiseTemplates));
  expect(templates).toHaveLength(11);
  expect(templates[0]).toBe("{}");
  for (const [i, opening] of ["I", "You", "Because", "Yes", "Q: "].entries()) {
    const [short, long] = [templates[1 + i] as string, templates[6 + i] as string];
    expect(short.startsWith(opening) && short.endsWith(" {}")).toBe(true);
    expect(long.startsWith(opening) && long.length > short.length).toBe(true);
  }
  expect(templates.every((template) => template.split("{}").length === 2)).toBe(true);
  expect(await makeContextTemplates(model, wiseTemplates)).toEqual(templates);
});

test("a prefix holds the tokens that the model writes greedily, as many as the recipe says", async () => {
  const recipe: TemplateRecipe = { ...wiseTemplates, openings: ["You"], lengths: [3], write: (text) => `${text}|{}` };
  const opening = model.tokenizer.encode("You");
  const [written] = (await generateAfresh(model, [opening], { maxNewTokens: 3 })) as [number[]];
  const text = model.tokenizer.decode([...opening, ...written], { skipSpecial: true });
  expect(await makeContextTemplates(model, recipe)).toEqual(["{}", `${text}|{}`]);
  // In all, with the opening and its begin-of-text counted in: one token of the model's own less for each of them.
  const inAll: TemplateRecipe = { ...recipe, lengths: [3 + opening.length], counted: "inAll" };
  expect(await makeContextTemplates(model, inAll)).toEqual(["{}", `${text}|{}`]);
  expect(await makeContextTemplates(model, { ...inAll, lengths: [1] })).toEqual(["{}", "You|{}"]);
});

test("of several continuations of one opening, each begins with a token that is less likely", async () => {
  const recipe: TemplateRecipe = { ...wiseTemplates, openings: ["You"], lengths: [2], each: 3, write: (text) => text };
  const opening = model.tokenizer.encode("You");
  const firstPlaces = [0, 1, 2];
  const written = await generateAfresh(
    model,
    firstPlaces.map(() => opening),
    { maxNewTokens: 2, firstPlaces },
  );
  const texts = written.map((ids) => model.tokenizer.decode([...opening, ...ids], { skipSpecial: true }));
  expect(await makeContextTemplates(model, recipe)).toEqual(["{}", ...texts]);
  expect(new Set(written.map(([first]) => first)).size).toBe(3);
});

test("foreseen templates are as many, and each about as long", async () => {
  const made = await makeContextTemplates(model, wiseTemplates);
  const foreseen = foreseenTemplates(model, wiseTemplates);
  expect(foreseen).toHaveLength(made.length);
  expect(foreseen[0]).toBe("{}");
  for (const [i, template] of foreseen.entries()) {
    const [ours, theirs] = [template, made[i] as string].map((text) => model.tokenizer.encode(text).length);
    expect(Math.abs((ours as number) - (theirs as number)), template).toBeLessThanOrEqual(6);
  }
});
