import type { LlamaModel } from "../model/model.js";
import type { PromptStyle } from "../model/prompt.js";
import type { Tokenizer } from "../model/tokenizer.js";
import type { Written } from "./types.js";

/** Form in which a question is put for a free answer; editing prompts are not changed by it. */
export const CONTEXTS = ["none", "instruction", "chat"] as const;
export type Context = (typeof CONTEXTS)[number];

/**
 * Time at which the edits decide which of them answers. "once": on the question, and every new token is read under the
 * same variant. "each-step": on the whole text, again at every token, as the released code does without a cache.
 */
export const ROUTINGS = ["once", "each-step"] as const;
export type Routing = (typeof ROUTINGS)[number];

/** The way in which free answers are written. Part of every number's protocol. */
export interface GenerationRule {
  /** Most new tokens of an answer; one that the edit wants longer may be as long as that. */
  maxNewTokens: number;
  /** "none": the question alone, as the edit's style has it. */
  context: Context;
  /** Time at which the edits decide which of them answers. */
  routing: Routing;
  /** Tokens that are written whatever was answered, for metrics of longer texts; null for none. */
  whole: number | null;
  /** Command that says whether an answer is right; null for none. */
  judge: string | null;
}

/** As MIRAGE and its successors measure: arXiv 2502.11177. */
export const GENERATION: GenerationRule = {
  maxNewTokens: 50,
  context: "none",
  routing: "once",
  whole: null,
  judge: null,
};

/** Tokens that fluency is measured on. */
export const FLUENCY_TOKENS = 100;

/** A question as it is put for a free answer, and the style to put it in. */
export function inContext(
  prompt: string,
  style: PromptStyle,
  context: Context,
): { prompt: string; style: PromptStyle } {
  if (context === "none") return { prompt, style };
  if (context === "chat") return { prompt, style: { ...style, chatTemplate: true } };
  return { prompt: `Please answer the question:\n\nQ: ${prompt}\nA:`, style };
}

/** Ends of free answers: an answer ends with ".", a line break or the model's end of text. */
export interface Ending {
  /** True where enough is written: the answer has ended, and there are as many tokens as the expected one has. */
  complete(made: readonly number[], expected: number): boolean;
  /** A free answer of such tokens. */
  written(made: readonly number[], expected: number): Written;
}

/** The ends of a model's answers under a rule. */
export function endingOf(
  { tokenizer, config }: Pick<LlamaModel, "tokenizer" | "config">,
  { maxNewTokens, whole }: GenerationRule,
): Ending {
  const known = new Map<number, boolean>();
  const ends = (token: number) => {
    const found = known.get(token) ?? (config.eosTokenIds.includes(token) || /[.\n]/.test(tokenizer.decode([token])));
    known.set(token, found);
    return found;
  };
  const lengthOf = (made: readonly number[]) => {
    const stop = made.slice(0, maxNewTokens).findIndex(ends);
    return stop === -1 ? maxNewTokens : stop + 1;
  };
  return {
    complete: (made, expected) => made.length >= Math.max(lengthOf(made), expected, whole ?? 0),
    written(made, expected) {
      const end = Math.min(lengthOf(made), made.length);
      return {
        tokens: made.slice(0, Math.max(end, expected)),
        end,
        text: answerText(tokenizer, made.slice(0, end)),
        ...(whole !== null && { whole: tokenizer.decode(made.slice(0, whole), { skipSpecial: true }) }),
      };
    },
  };
}

/** The text of an answer, without the "." or the line break at its end. */
function answerText(tokenizer: Tokenizer, tokens: readonly number[]): string {
  const text = tokenizer.decode([...tokens], { skipSpecial: true });
  return text.replace(/\.$/, "").replace(/\n$/, "").trim();
}
