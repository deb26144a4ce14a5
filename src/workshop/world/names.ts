import type { Rng } from "../../core/rng.js";
import { isReal } from "./real-names.js";

/** Kind of name that an invented word is part of; each has endings of its own, so that one hears what it belongs to. */
export type NameKind = keyof typeof endings;

const onsets = [
  ["b", "br", "d", "dr", "f", "fl", "g", "gr", "h", "j", "k", "kr", "l", "m", "n"],
  ["p", "pl", "r", "s", "sk", "st", "t", "tr", "v", "w", "y", "z"],
].flat();
const vowels = ["a", "e", "i", "o", "u"];
const middles = [
  ["b", "d", "dr", "g", "k", "l", "ld", "lk", "lm", "lt", "lv", "m", "mb", "mp", "n", "nd", "nk", "nt"],
  ["p", "r", "rb", "rd", "rg", "rk", "rl", "rn", "rt", "rv", "s", "sk", "st", "t", "th", "v", "z", "zl"],
].flat();
const endings = {
  given: ["a", "o", "i", "u", "el", "is", "en", "ith"],
  surname: ["ack", "ard", "eck", "ett", "isk", "olt", "orn", "und", "uss", "yar"],
  place: ["ath", "omb", "ope", "orf", "ow", "ume", "une", "yle"],
  country: ["avar", "essia", "onia", "oria", "uvia"],
  river: ["aun", "eel", "ilm", "our", "uth"],
  language: ["ari", "esh", "ic", "ulin"],
  organisation: ["ax", "ex", "ix", "od", "ull", "urn"],
  work: ["ador", "aris", "emar", "imon", "olan", "unel"],
} as const;

/** Makes new names, none of which has been given before. */
export interface Namer {
  /**
   * A word that is no real name and neither part of an earlier word nor the other way round.
   * @param apart other words with which it must not share the first three letters
   */
  word(kind: NameKind, apart?: readonly string[]): string;
}

/** A maker of names that remembers what it has given, so that every name stands for one thing. */
export function createNamer(rng: Rng): Namer {
  const given: string[] = [];
  return {
    word(kind, apart = []) {
      const draws = rng.fork(kind, given.length);
      for (;;) {
        const word = compose(kind, draws);
        if (isHarsh(word)) continue;
        const ambiguous = given.some((other) => other.includes(word) || word.includes(other));
        if (ambiguous || isReal(word) || apart.some((other) => sameStart(other, word))) continue;
        given.push(word);
        return capital(word);
      }
    },
  };
}

/** One of a list, evenly. */
export function pick<T>(items: readonly T[], rng: Rng): T {
  return items[rng.integer(items.length)] as T;
}

/** The items in a random order (Fisher and Yates). */
export function shuffled<T>(items: readonly T[], rng: Rng): T[] {
  const order = [...items];
  for (let i = order.length - 1; i > 0; i--) {
    const j = rng.integer(i + 1);
    [order[i], order[j]] = [order[j] as T, order[i] as T];
  }
  return order;
}

function compose(kind: NameKind, rng: Rng): string {
  return pick(onsets, rng) + pick(vowels, rng) + pick(middles, rng) + pick<string>(endings[kind], rng);
}

/** An r or an l twice, or three times any other consonant, is hard to say. */
function isHarsh(word: string): boolean {
  return /r.*r|l.*l|([^aeiou]).*\1.*\1/.test(word);
}

function sameStart(a: string, b: string): boolean {
  return a.slice(0, 3).toLowerCase() === b.slice(0, 3).toLowerCase();
}

function capital(word: string): string {
  return word.charAt(0).toUpperCase() + word.slice(1);
}
