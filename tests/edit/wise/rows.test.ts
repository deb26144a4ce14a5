import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import type { EditRequest } from "../../../src/edit/contract.js";
import type { TokenRow } from "../../../src/edit/rows.js";
import { wiseRows } from "../../../src/edit/wise/rows.js";
import { loadTokenizer } from "../../../src/model/folder.js";
import type { Tokenizer } from "../../../src/model/tokenizer.js";
import { refusal } from "../../model/support.js";
import { golden } from "../../support/shared.js";
import { fact, goldenRecords } from "../support.js";

let tokenizer: Tokenizer;
beforeAll(async () => {
  tokenizer = await loadTokenizer(join(golden, "tiny-llama3"));
});

const { templates } = goldenRecords;
const plain = { use_chat_template: false, double_bos: false, released_label_cut: false };
const chat = { ...plain, use_chat_template: true };
const released = { ...chat, double_bos: true };

/** The rows of an edit, and the last of them apart. */
function rowsOf(request: EditRequest, options: typeof plain, by = tokenizer) {
  const rows = wiseRows(request, { tokenizer: by, templates }, options);
  return { templates: rows.slice(0, -1), irrelevant: rows.at(-1) as TokenRow };
}

/** The irrelevant text of a request as a row without a target. */
function silentRow({ irrelevant }: EditRequest): TokenRow {
  const ids = tokenizer.encode(irrelevant as string);
  return { ids, promptTokens: ids.length };
}

test("plain: each template with the prompt, a space and the target; then the irrelevant text alone", () => {
  const request = fact(0);
  const rows = rowsOf(request, plain);
  const texts = templates.map((template) => template.replace("{}", request.prompt));
  expect(rows.templates.map(({ ids }) => ids)).toEqual(
    texts.map((text) => tokenizer.encode(`${text} ${request.target}`)),
  );
  expect(rows.templates.map(({ promptTokens }) => promptTokens)).toEqual(
    texts.map((text) => tokenizer.encode(text).length),
  );
  expect(rows.irrelevant).toEqual(silentRow(request));
});

test("with the chat template: each row's prompt is rendered, the irrelevant text is not", () => {
  const request = fact(0);
  const rows = rowsOf(request, chat);
  for (const [i, { ids, promptTokens }] of rows.templates.entries()) {
    const prompt = (templates[i] as string).replace("{}", request.prompt);
    expect(tokenizer.decode(ids.slice(0, promptTokens))).toBe(tokenizer.renderChat(prompt));
    expect(tokenizer.decode(ids.slice(promptTokens))).toBe(` ${request.target}`);
  }
  expect(rows.irrelevant).toEqual(rowsOf(request, plain).irrelevant);
});

test("as released: exactly one more begin-of-text token per rendered row", () => {
  const once = rowsOf(fact(1), chat);
  const twice = rowsOf(fact(1), released);
  expect(twice.templates).toEqual(
    once.templates.map(({ ids, promptTokens }) => ({
      ids: [tokenizer.bosId, ...ids],
      promptTokens: promptTokens + 1,
    })),
  );
  expect(twice.irrelevant).toEqual(once.irrelevant);
});

describe("refused", () => {
  test("an irrelevant text without a token", async () => {
    const silent = { ...tokenizer, encode: (text: string) => (text === "" ? [] : tokenizer.encode(text)) };
    const error = await refusal(() => rowsOf({ ...fact(0), irrelevant: "" }, plain, silent));
    expect(error.where).toContain(fact(0).prompt);
  });

  test("an edit without an irrelevant text", async () => {
    const error = await refusal(() => rowsOf({ ...fact(0), irrelevant: null }, plain));
    expect(error).toMatchObject({ found: null, where: expect.stringContaining(fact(0).prompt) });
  });
});

test("labels as they are cut in the released code: longer by what the irrelevant text is longer than every row", () => {
  const cut = { ...plain, released_label_cut: true };
  const short = rowsOf(fact(0), plain);
  expect(rowsOf({ ...fact(0), irrelevant: "So" }, cut).templates).toEqual(short.templates);
  const longest = Math.max(...short.templates.map(({ ids }) => ids.length));
  for (const over of [0, 1, 3, 500]) {
    const words = (count: number) => Array.from({ length: count }, () => "a").join(" ");
    let irrelevant = words(longest);
    for (let n = 1; tokenizer.encode(irrelevant).length !== longest + over; n++) irrelevant = words(n);
    const { templates: rows } = rowsOf({ ...fact(0), irrelevant }, cut);
    expect(rows).toEqual(
      short.templates.map(({ ids, promptTokens }) => ({ ids, promptTokens: Math.max(1, promptTokens - over) })),
    );
  }
});
