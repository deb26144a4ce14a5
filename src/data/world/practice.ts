import { createRng, requireSeed } from "../../core/rng.js";
import { makeFacts } from "./facts.js";
import { plan } from "./generate.js";
import { makeRecords, type RecordSet } from "./records.js";

const COUNT = 1000;

/**
 * A thousand more edits to choose hyperparameters on, where the 128 tuning records are too few: long blocks. They edit what
 * the study asks about as unrelated questions, so no subject of theirs is among its edits. The facts that train its router
 * serve as their unrelated questions, one half, and irrelevant prompts, the other, each twice.
 * @throws {RefusedInput} for a seed of the world that is not a whole number from 0 on
 */
export function makePractice({ seed }: { seed: number }): RecordSet {
  requireSeed(seed);
  const { edits, tuning: _, ...known } = makeFacts(plan, createRng(seed, ["world"]).fork("facts"));
  const half = COUNT / 2;
  const twice = <T>(items: readonly T[]) => [...items, ...items].slice(0, COUNT);
  const group = {
    edit: edits.locality.slice(0, COUNT),
    locality: twice(edits.router.slice(0, half)),
    router: twice(edits.router.slice(half)),
  };
  return makeRecords(group, known, createRng(1, ["tuning1000"]));
}
