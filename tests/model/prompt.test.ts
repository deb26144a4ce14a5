import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { loadTokenizer } from "../../src/model/folder.js";
import { encodeForced, encodeQuestion, PLAIN } from "../../src/model/prompt.js";
import type { Tokenizer } from "../../src/model/tokenizer.js";
import { goldenRecords } from "../edit/support.js";
import { golden } from "../support/shared.js";
import { refusal } from "./support.js";

let tokenizer: Tokenizer;
beforeAll(async () => {
  tokenizer = await loadTokenizer(join(golden, "tiny-llama3"));
});

const { message, rendered } = goldenRecords.chat;
const chat = { chatTemplate: true, doubleBos: false };
const released = { chatTemplate: true, doubleBos: true };

describe("questions", () => {
  test("plain: the text itself, with one begin-of-text token", () => {
    const ids = encodeQuestion(tokenizer, message, PLAIN);
    expect(ids).toEqual(tokenizer.encode(message));
    expect(ids.filter((id) => id === tokenizer.bosId)).toHaveLength(1);
  });

  test("rendered with the chat template: that text, whose begin-of-text token is not doubled", () => {
    const ids = encodeQuestion(tokenizer, message, chat);
    expect(tokenizer.decode(ids)).toBe(rendered);
    expect(ids.filter((id) => id === tokenizer.bosId)).toHaveLength(1);
  });

  test("as released: exactly one more begin-of-text token, in front", () => {
    const once = encodeQuestion(tokenizer, message, chat);
    expect(encodeQuestion(tokenizer, message, released)).toEqual([tokenizer.bosId, ...once]);
  });

  test("a plain prompt never gets the second token", () => {
    const plain = encodeQuestion(tokenizer, message, PLAIN);
    expect(encodeQuestion(tokenizer, message, { chatTemplate: false, doubleBos: true })).toEqual(plain);
  });

  test("a template that brings no begin-of-text token gets one", () => {
    const bare = { ...tokenizer, renderChat: (text: string) => `user: ${text}\nassistant:` };
    const ids = encodeQuestion(bare, message, chat);
    expect(ids[0]).toBe(tokenizer.bosId);
    expect(ids.filter((id) => id === tokenizer.bosId)).toHaveLength(1);
  });
});

describe("prompt and answer", () => {
  test.each([
    ["plain", PLAIN, message],
    ["chat", chat, rendered],
    ["released chat", released, rendered],
  ])(
    "%s: tokens of the prompt, a space and the answer; the answer starts where the prompt alone ends",
    (_, style, text) => {
      const { ids, promptTokens } = encodeForced(tokenizer, { prompt: message, answer: "Oslo" }, style);
      const question = encodeQuestion(tokenizer, message, style);
      expect(promptTokens).toBe(question.length);
      expect(ids.slice(0, promptTokens)).toEqual(question);
      expect(tokenizer.decode(ids, { skipSpecial: true }).endsWith(`${message} Oslo`) || style.chatTemplate).toBe(true);
      expect(tokenizer.decode(ids.slice(style.doubleBos ? 2 : 1))).toBe(
        `${text.replace("<|begin_of_text|>", "")} Oslo`,
      );
    },
  );

  test("an empty answer still has the space in front of it", () => {
    const { ids, promptTokens } = encodeForced(tokenizer, { prompt: message, answer: "" }, PLAIN);
    expect(tokenizer.decode(ids.slice(promptTokens))).toBe(" ");
  });

  test("an answer that adds no token is refused with its prompt", async () => {
    const forgetful = { ...tokenizer, encode: (text: string) => tokenizer.encode(text.slice(0, message.length)) };
    const error = await refusal(() => encodeForced(forgetful, { prompt: message, answer: "Oslo" }, PLAIN));
    expect(error.where).toContain(message);
    expect(error.found).toBe("Oslo");
  });
});
