import { mean } from "../core/stats.js";
import type { EditTrace } from "../edit/trace.js";
import type { ScoredRun } from "../run/types.js";

export type { ProbeKind } from "../eval/score.js";
export {
  anyHas,
  type MeasureName,
  measures,
  probeKinds,
  probesOf,
  shownKinds,
  valuesOf,
} from "../run/measures.js";

/** Seconds of all edits of some records, with their frozen parts; null where they were not kept. */
export function secondsOf(run: ScoredRun, records: ReadonlySet<number>): number | null {
  const edits = run.edits?.filter((edit) => records.has(edit.record)) ?? [];
  return edits.length === 0 ? null : edits.reduce((total, edit) => total + secondsOfEdit(edit), 0);
}

/** Mean seconds of an edit with its frozen part; null where nothing was measured. */
export function secondsPerEdit(run: ScoredRun): number | null {
  return run.edits?.length ? mean(run.edits.map(secondsOfEdit)) : (run.secondsPerEdit ?? null);
}

export function secondsOfEdit({ seconds }: Pick<EditTrace, "seconds">): number {
  return seconds.frozen + seconds.steps;
}
