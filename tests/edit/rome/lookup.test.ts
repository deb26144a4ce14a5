import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { keysOf, locatedRows, locatedTemplates, meanOf, rowsOf } from "../../../src/edit/locate/lookup.js";
import { sequencesOfRows } from "../../../src/edit/rows.js";
import { makeContextTemplates } from "../../../src/edit/templates.js";
import { runFrozen } from "../../../src/model/frozen.js";
import type { LlamaModel } from "../../../src/model/model.js";
import { refusal } from "../../model/support.js";
import { goldenMethods } from "../../support/shared.js";
import { loadTiny } from "../support.js";
import { located, prepareRome, TEMPLATES } from "./support.js";

let model: LlamaModel;
beforeAll(async () => {
  model = await loadTiny();
});
afterAll(() => model.dispose());

const rows = (prompt: string, subject: string | null, templates: readonly string[] = ["{}"], target = "Oslo") => {
  const request = { record: 0, prompt, subject, target, irrelevant: null };
  return locatedRows(request, { tokenizer: model.tokenizer, templates });
};

const encode = (text: string) => model.tokenizer.encode(text);

describe("the rows of an edit", () => {
  test("are the prompt under each template with all target tokens but the last, then the divergence row", () => {
    const { prompt, target, subject } = located(0);
    const found = rows(prompt, subject, TEMPLATES, target);
    const bare = encode(prompt);
    const targets = encode(`${prompt} ${target}`).slice(bare.length);
    expect(targets.length).toBeGreaterThan(1);
    expect(found.targets).toEqual(targets);
    for (const [i, template] of TEMPLATES.entries()) {
      const ids = encode(template.replace("{}", prompt));
      expect(found.templates[i]).toMatchObject({ ids: [...ids, ...targets.slice(0, -1)], promptTokens: ids.length });
    }
    const last = encode(`${subject} is a`);
    expect(rowsOf(found).at(-1)).toEqual({
      ids: last,
      promptTokens: last.length,
      lookup: encode(subject as string).length - 1,
    });
    expect(rowsOf(found)).toHaveLength(TEMPLATES.length + 1);
  });

  test("a target of one token adds nothing to its prompt", () => {
    const found = rows("The city of Tadeo Ishikawa", "Tadeo Ishikawa", ["{}"], "born");
    expect(found.targets).toHaveLength(1);
    expect(found.templates[0]?.ids).toEqual(encode("The city of Tadeo Ishikawa"));
  });

  test.each([
    ["Where is Marek Oduya from?", "Marek Oduya"],
    ["Marek Oduya", "Marek Oduya"],
    ["a", "a"],
  ])("%s: the look-up holds the last token of the subject, under every template", (prompt, subject) => {
    for (const { ids, lookup, promptTokens } of rows(prompt, subject, TEMPLATES).templates) {
      expect(lookup).toBeLessThan(promptTokens);
      const through = model.tokenizer.decode(ids.slice(0, lookup + 1), { skipSpecial: true });
      expect(through.endsWith(subject)).toBe(true);
    }
  });

  test("the look-up is counted on the text through the subject, whose tokens need not begin the whole text", () => {
    const [head, whole] = [encode("Where is O'"), encode("Where is O's")];
    expect(whole.slice(0, head.length)).not.toEqual(head);
    expect(rows("Where is O's", "O'").templates[0]?.lookup).toBe(head.length - 1);
  });

  test("keys are the value matrix' inputs at the look-ups, which later tokens do not change", async () => {
    const found = rows(located(1).prompt, located(1).subject, TEMPLATES);
    const point = { layer: 1, at: "mlpIn" } as const;
    const keys = keysOf(await runFrozen(model, sequencesOfRows(rowsOf(found)), { point }), found);
    expect(keys).toHaveLength(TEMPLATES.length);
    for (const [i, { ids, lookup }] of found.templates.entries()) {
      const [alone] = await runFrozen(model, [ids.slice(0, lookup + 1)], { point });
      const M = model.config.intermediateSize;
      const expected = alone?.mlpIn?.slice(lookup * M) as Float32Array;
      expect(keys[i]).toHaveLength(M);
      for (const [j, x] of expected.entries()) expect(keys[i]?.[j]).toBeCloseTo(x, 4);
    }
    expect([...meanOf([Float64Array.of(1, 2), Float64Array.of(3, 6)])]).toEqual([2, 4]);
  });
});

describe("what cannot be located is refused with the prompt", () => {
  test.each([
    ["a fact without a subject", "Where is Oslo?", null, "no subject"],
    ["an empty subject", "Where is Oslo?", "", "no subject"],
    ["a subject that the prompt does not hold", "Where is Oslo?", "Turin", "Turin, which is not there"],
    ["one in other letters", "Where is Oslo?", "oslo", "oslo, which is not there"],
    ["one that stands there twice", "Is Oslo in Oslo?", "Oslo", "Oslo, 2 times"],
  ])("%s", async (_, prompt, subject, found) => {
    const error = await refusal(() => rows(prompt, subject));
    expect(error).toMatchObject({ where: `edit of ${JSON.stringify(prompt)}`, found });
    expect(error.expected).toContain("exactly once");
    expect(error.hint).toContain("name the subject");
  });

  test("a subject that ends within a word, whose token comes to an end before it", async () => {
    const error = await refusal(() => rows("the university", "universit"));
    expect(error).toMatchObject({ where: 'edit of "the university", template "{}"', found: "universit" });
    expect(error.expected).toContain("where a word ends");
  });

  test.each(["", " "])("the empty target %j", async (target) => {
    const error = await refusal(() => rows("Where is Oslo?", "Oslo", ["{}"], target));
    expect(error).toMatchObject({ where: 'edit of "Where is Oslo?"', found: JSON.stringify(target) });
  });
});

describe("context templates", () => {
  const { greedy } = JSON.parse(readFileSync(join(goldenMethods, "locate-stats.json"), "utf8")) as {
    greedy: Record<string, { ids: number[] }>;
  };

  test("21: the bare prompt, and of every opening two texts of five and two of ten tokens, the first of them greedy", async () => {
    const { method } = await prepareRome(model);
    const recipe = method.needs.templates as NonNullable<typeof method.needs.templates>;
    const templates = await makeContextTemplates(model, recipe);
    expect(templates).toHaveLength(21);
    expect(templates[0]).toBe("{}");
    expect(recipe.openings).toEqual(Object.keys(greedy));
    for (const [i, [opening, { ids }]] of Object.entries(greedy).entries()) {
      // An opening of more tokens stays whole.
      const text = (tokens: number) =>
        model.tokenizer.decode(ids.slice(0, Math.max(tokens, encode(opening).length)), { skipSpecial: true });
      expect(templates[1 + 2 * i]).toBe(`${text(5).normalize("NFKD")}. {}`);
      expect(templates[11 + 2 * i]).toBe(`${text(10).normalize("NFKD")}. {}`);
    }
    for (const second of [2, 12]) expect(templates[second]).not.toBe(templates[second - 1]);
  });

  test("texts lose braces and pairs of line breaks, and are put into NFKD", () => {
    expect(locatedTemplates([[5, 10]]).write("a {b}\n\nc\nﬁ é")).toBe("a b c\nfi e\u0301. {}");
  });

  test("as many texts as the options say", () => {
    expect(locatedTemplates([[10, 5]])).toMatchObject({ lengths: [10], each: 1, counted: "inAll" });
    expect(
      locatedTemplates([
        [3, 15],
        [7, 15],
      ]),
    ).toMatchObject({ lengths: [3, 7], each: 3 });
  });
});
