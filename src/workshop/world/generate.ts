import { createRng, requireSeed } from "../../core/rng.js";
import { linesOf } from "../../data/world/lines.js";
import type { World } from "../../data/world/types.js";
import { makeFacts, type WorldPlan } from "./facts.js";
import { makePrefixes } from "./prefixes.js";
import { makeRecords } from "./records.js";
import { relations } from "./relations.js";

/** As many edits as zsRE has, and what a model of a few million parameters can learn. */
export const plan: WorldPlan = { edits: 1037, tuning: 128, facts: 4200 };

export interface GenerateOptions {
  /** A whole number from 0 on. */
  seed: number;
}

/**
 * Makes a world of people, works, organisations and places that do not exist. The same seed gives the same world on
 * every machine.
 * @throws {RefusedInput} for a seed that is not a whole number from 0 on.
 */
export function generateWorld({ seed }: GenerateOptions): World {
  requireSeed(seed);
  const rng = createRng(seed, ["world"]);
  const { edits, tuning, ...known } = makeFacts(plan, rng.fork("facts"));
  const study = makeRecords(edits, known, rng.fork("edits"));
  const practice = makeRecords(tuning, known, rng.fork("tuning"));
  return {
    seed,
    relations,
    facts: known.facts,
    lines: linesOf(known.facts, relations),
    edits: study.records,
    irrelevant: study.irrelevant,
    tuning: practice.records,
    tuningIrrelevant: practice.irrelevant,
    prefixes: makePrefixes(rng.fork("prefixes")),
  };
}
