import { createRng, requireSeed } from "../../core/rng.js";
import type { MendRecord } from "../../data/world/types.js";
import { makeFacts } from "./facts.js";
import { plan } from "./generate.js";
import { makeRecords, type RecordSet } from "./records.js";

const COUNT = 1000;
/** Each unrelated question is there twice, so many records apart. */
const HALF = COUNT / 2;

/**
 * A thousand more edits to choose hyperparameters on, where the 128 tuning records are too few: long blocks. They edit what
 * the study asks about as unrelated questions, so no subject of theirs is among its edits. The facts that train its router
 * serve as their unrelated questions, one half, and irrelevant prompts, the other, each twice.
 * @throws {RefusedInput} for a seed of the world that is not a whole number from 0 on
 */
export function makePractice({ seed }: { seed: number }): RecordSet {
  requireSeed(seed);
  const { edits, tuning: _, ...known } = makeFacts(plan, createRng(seed, ["world"]).fork("facts"));
  const twice = <T>(items: readonly T[]) => [...items, ...items].slice(0, COUNT);
  const group = {
    edit: edits.locality.slice(0, COUNT),
    locality: twice(edits.router.slice(0, HALF)),
    router: twice(edits.router.slice(HALF)),
  };
  return makeRecords(group, known, createRng(1, ["tuning1000"]));
}

/** Practice records, from the first, that nothing is trained on: what was trained is looked at on them. */
const LOOKED_AT = 100;

/** The practice records to train on: of no subject and no unrelated question of those that are looked at. */
export function recordsToTrainOn({ records }: Pick<RecordSet, "records">): MendRecord[] {
  const subjects = new Set(records.slice(0, LOOKED_AT).map(({ subject }) => subject));
  return records.filter(({ subject }, i) => i % HALF >= LOOKED_AT && !subjects.has(subject));
}
