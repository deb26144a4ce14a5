import { RefusedInput } from "../core/errors.js";
import type { Tokenizer } from "./tokenizer.js";

/** Form in which questions are put to the model. Part of every number's protocol. */
export interface PromptStyle {
  /** Render questions with the model's chat template before the space and the answer. */
  chatTemplate: boolean;
  /** released: the tokenizer adds a second begin-of-text token in front of the rendered template. */
  doubleBos: boolean;
}

/**
 * LLaMA 3.1 and later write a date into every chat prompt: today's, unless one is given. A number that changes overnight
 * cannot be reproduced, so it is always the one that those templates fall back to themselves.
 */
const TEMPLATE_DATE = "26 Jul 2024";

/** Plain prompts, as locality and irrelevant prompts always are. */
export const PLAIN: PromptStyle = { chatTemplate: false, doubleBos: false };

/** A prompt with its answer, as teacher forcing reads it. */
export interface ForcedSequence {
  ids: number[];
  /** Number of tokens of the prompt alone: the answer starts there. */
  promptTokens: number;
}

/** The text and tokens of a question alone. */
export function encodeQuestion(tokenizer: Tokenizer, prompt: string, style: PromptStyle): number[] {
  return encode(tokenizer, render(tokenizer, prompt, style), style);
}

/**
 * Tokens of prompt + " " + answer, with the answer's start counted as EasyEdit counts it: the number of tokens of the
 * prompt alone (easyeditor/evaluate, `token_em`).
 * @throws {RefusedInput} when the answer adds no token
 */
export function encodeForced(
  tokenizer: Tokenizer,
  text: { prompt: string; answer: string },
  style: PromptStyle,
): ForcedSequence {
  const question = render(tokenizer, text.prompt, style);
  const ids = encode(tokenizer, `${question} ${text.answer}`, style);
  const promptTokens = encode(tokenizer, question, style).length;
  if (promptTokens >= ids.length || promptTokens === 0) {
    throw new RefusedInput("an answer adds no token to its prompt", {
      where: `prompt ${JSON.stringify(text.prompt)}`,
      found: text.answer,
      expected: "an answer of at least one token after a prompt of at least one token",
    });
  }
  return { ids, promptTokens };
}

function render(tokenizer: Tokenizer, prompt: string, style: PromptStyle): string {
  return style.chatTemplate ? tokenizer.renderChat(prompt, { date_string: TEMPLATE_DATE }) : prompt;
}

function encode(tokenizer: Tokenizer, text: string, style: PromptStyle): number[] {
  if (!style.chatTemplate || style.doubleBos) return tokenizer.encode(text);
  const ids = tokenizer.encode(text, { addBos: false });
  return ids[0] === tokenizer.bosId ? ids : tokenizer.encode(text);
}
