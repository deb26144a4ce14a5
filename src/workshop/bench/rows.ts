import type { Tokenizer } from "../../model/tokenizer.js";

/*
 * A stand-in's tokenizer makes one token of every byte; LLaMA's own makes one of about four characters of English. For
 * as many tokens as the real model would see, every fourth token of a stand-in's text is kept.
 */

const CHARACTERS_PER_TOKEN = 4;

/** A stand-in's tokenizer with as few tokens to a text as the tokenizer of the model it stands in for. */
export function thinned(tokenizer: Tokenizer): Tokenizer {
  return {
    ...tokenizer,
    encode(text, options) {
      const [first, ...rest] = tokenizer.encode(text, options);
      if (first === undefined) return [];
      if (first !== tokenizer.bosId) return everyFourth([first, ...rest]);
      return [first, ...everyFourth(rest)];
    },
  };
}

function everyFourth(ids: readonly number[]): number[] {
  return ids.filter((_, i) => i % CHARACTERS_PER_TOKEN === 0);
}

/** Openings that models continue to make their context templates, and the tokens of each (edit/templates.ts). */
const OPENINGS = ["I", "You", "Because", "Yes", "Q: "];
const LENGTHS = [5, 10];

/** Context templates as long as a model's own: random weights write no text to put before a prompt. */
export const STAND_IN_TEMPLATES: readonly string[] = [
  "{}",
  ...LENGTHS.flatMap((length) =>
    OPENINGS.map((opening) => `${opening.padEnd(CHARACTERS_PER_TOKEN * (1 + length), " and so on")} {}`),
  ),
];
