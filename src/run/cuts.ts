import { type CutStore, createCutStore } from "../model/cut-store.js";
import { inGroups } from "./blocks.js";
import { editSequencesOf, probeSequencesOf, type RunPlan } from "./plan.js";

/** An empty store of the cuts that a run needs. */
export function cutsOf(plan: RunPlan): CutStore {
  return createCutStore(plan.model, plan.method.cut, { ...plan.frozen, together: groupsOf(plan) });
}

/** Computes what a run will need of the frozen part, into the cache that its processes share. Nothing without one. */
export async function fillCache(plan: RunPlan, signal?: AbortSignal): Promise<void> {
  if (!plan.frozen.cache) return;
  const cuts = cutsOf(plan);
  for (const group of groupsOf(plan)) await cuts.get(group, signal);
}

/** Everything that goes through the frozen part together: for a few records each, their edits' rows and their probes. */
function* groupsOf(plan: RunPlan): Generator<number[][]> {
  for (const group of inGroups(plan.dataset.records)) {
    yield group.flatMap((record) => editSequencesOf(record, plan));
    yield group.flatMap((record) => probeSequencesOf(record, plan));
  }
}
