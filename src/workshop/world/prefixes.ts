import type { Rng } from "../../core/rng.js";
import { pick } from "./names.js";
import { openings } from "./words.js";

const PREFIXES = 384;

/** An opening that breaks off ends after this many words or more. */
const FEWEST_WORDS = 2;

/**
 * Short openings that say nothing about the world. Half of them break off, as the openings do that a model is asked to
 * generate a fixed number of tokens of (wise.md, context templates).
 */
export function makePrefixes(rng: Rng): string[] {
  const made = new Set<string>();
  while (made.size < PREFIXES) made.add(made.size % 2 === 0 ? sentence(rng) : broken(sentence(rng), rng));
  return [...made];
}

function sentence(rng: Rng): string {
  const { starts, verbs, adjectives, nouns, tails } = openings;
  const thing = `the ${pick(adjectives, rng)} ${pick(nouns, rng)}`;
  return `${pick(starts, rng)} ${pick(verbs, rng)} ${thing}${pick(tails, rng)}.`;
}

function broken(text: string, rng: Rng): string {
  const words = text.replace(/\.$/, "").split(" ");
  return words.slice(0, FEWEST_WORDS + rng.integer(words.length - FEWEST_WORDS)).join(" ");
}
