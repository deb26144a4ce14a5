import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { editRows, fillTemplate } from "../../src/edit/rows.js";
import { PLAIN } from "../../src/model/prompt.js";
import { loadTokenizer, type Tokenizer } from "../../src/model/tokenizer.js";
import { refusal } from "../model/support.js";
import { golden } from "../support/shared.js";
import { fact, goldenRecords } from "./support.js";

let tokenizer: Tokenizer;
beforeAll(async () => {
  tokenizer = await loadTokenizer(join(golden, "tiny-llama3"));
});

const { templates } = goldenRecords;
const plain = { templates, style: PLAIN };
const chat = { templates, style: { chatTemplate: true, doubleBos: false } };
const released = { templates, style: { chatTemplate: true, doubleBos: true } };

describe("the rows of an edit", () => {
  test("plain: each template with the prompt, a space and the target; the irrelevant text alone", () => {
    const request = fact(0);
    const rows = editRows(tokenizer, request, plain);
    const texts = templates.map((template) => template.replace("{}", request.prompt));
    expect(rows.templates.map(({ ids }) => ids)).toEqual(
      texts.map((text) => tokenizer.encode(`${text} ${request.target}`)),
    );
    expect(rows.templates.map(({ promptTokens }) => promptTokens)).toEqual(
      texts.map((text) => tokenizer.encode(text).length),
    );
    expect(rows.irrelevant).toEqual(tokenizer.encode(request.irrelevant));
  });

  test("with the chat template: each row's prompt is rendered, the irrelevant text is not", () => {
    const request = fact(0);
    const rows = editRows(tokenizer, request, chat);
    for (const [i, { ids, promptTokens }] of rows.templates.entries()) {
      const prompt = (templates[i] as string).replace("{}", request.prompt);
      expect(tokenizer.decode(ids.slice(0, promptTokens))).toBe(tokenizer.renderChat(prompt));
      expect(tokenizer.decode(ids.slice(promptTokens))).toBe(` ${request.target}`);
    }
    expect(rows.irrelevant).toEqual(editRows(tokenizer, request, plain).irrelevant);
  });

  test("as released: exactly one more begin-of-text token per rendered row", () => {
    const once = editRows(tokenizer, fact(1), chat);
    const twice = editRows(tokenizer, fact(1), released);
    expect(twice.templates).toEqual(
      once.templates.map(({ ids, promptTokens }) => ({
        ids: [tokenizer.bosId, ...ids],
        promptTokens: promptTokens + 1,
      })),
    );
    expect(twice.irrelevant).toEqual(once.irrelevant);
  });

  test("an irrelevant text without a token is refused", async () => {
    const silent = { ...tokenizer, encode: (text: string) => (text === "" ? [] : tokenizer.encode(text)) };
    const error = await refusal(() => editRows(silent, { ...fact(0), irrelevant: "" }, plain));
    expect(error.where).toContain(fact(0).prompt);
  });
});

describe("templates", () => {
  test("take the prompt as it is, also one with dollar signs", () => {
    expect(fillTemplate("So, {} Yes", "what is $& or $1?")).toBe("So, what is $& or $1? Yes");
  });

  test.each(["no place", "{} twice {}", ""])("%j is refused", async (template) => {
    const error = await refusal(() => fillTemplate(template, "x"));
    expect(error).toMatchObject({ where: "context templates", found: template });
  });
});
