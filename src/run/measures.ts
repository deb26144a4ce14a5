import { LabFailure } from "../core/errors.js";
import type { ProbeKind } from "../eval/score.js";
import type { RecordProbes } from "../eval/types.js";
import type { ScoredRecord, ScoredRun } from "./types.js";

/** The probes of a record, in the order of tables. */
export const probeKinds = ["rewrite", "rephrase", "locality", "portability", "unedited", "ood"] as const;

/** Kinds that only some data has: tables leave them out where no record has any. */
const RARE: readonly ProbeKind[] = ["portability", "unedited", "ood"];

/** A number of a record; null where it has no such probe. */
type Measure = (score: ScoredRecord) => number | null;

/** The measures that tables average over records. A record with several probes of a kind counts once, with their mean. */
export const measures = {
  rewrite: (record) => kindScore(record, "rewrite"),
  rephrase: (record) => kindScore(record, "rephrase"),
  locality: (record) => kindScore(record, "locality"),
  average: averageScore,
  portability: (record) => kindScore(record, "portability"),
  unedited: (record) => kindScore(record, "unedited"),
  ood: (record) => kindScore(record, "ood"),
  preRewrite: (record) => kindScore(record, "rewrite", "preScore"),
  preRephrase: (record) => kindScore(record, "rephrase", "preScore"),
  preUnedited: (record) => kindScore(record, "unedited", "preScore"),
} satisfies Record<string, Measure>;
export type MeasureName = keyof typeof measures;

/** All probes of one kind of a record: none, one, or several. */
export function probesOf<P>(record: RecordProbes<P>, kind: ProbeKind): readonly P[] {
  const { rewrite, rephrase, moreRephrases = [], locality, portability, unedited = [], ood } = record;
  if (kind === "unedited") return unedited;
  if (kind === "rewrite") return [rewrite];
  if (kind === "rephrase") return rephrase === null ? [] : [rephrase, ...moreRephrases];
  if (kind === "ood") return ood === undefined ? [] : [ood];
  return kind === "locality" ? locality : portability;
}

/**
 * A record with each of its probes changed; one that becomes null is left out.
 * @throws {LabFailure} where that is the rewrite, which every record has
 */
export function mapProbes<P, Q, R extends RecordProbes<P>>(
  record: R,
  change: (probe: P, kind: ProbeKind) => Q | null,
): Omit<R, keyof RecordProbes<P>> & RecordProbes<Q> {
  const all = (kind: ProbeKind) => probesOf<P>(record, kind).flatMap((probe) => change(probe, kind) ?? []) as Q[];
  const { rewrite: _, rephrase: __, moreRephrases: ___, locality, portability, unedited, ood: ____, ...rest } = record;
  const [rewrite] = all("rewrite");
  if (rewrite === undefined) throw new LabFailure("a record without a rewrite");
  const [rephrase = null, ...moreRephrases] = all("rephrase");
  const [ood] = all("ood");
  return {
    ...rest,
    rewrite,
    rephrase,
    ...(moreRephrases.length > 0 && { moreRephrases }),
    locality: all("locality"),
    portability: all("portability"),
    ...(unedited !== undefined && { unedited: all("unedited") }),
    ...(ood !== undefined && { ood }),
  };
}

/** Kinds of probes that tables of these runs show. */
export function shownKinds(runs: readonly ScoredRun[]): ProbeKind[] {
  return probeKinds.filter((kind) => !RARE.includes(kind) || anyHas(runs, kind));
}

/** True if any record of any run has a probe of the kind. */
export function anyHas(runs: readonly ScoredRun[], kind: ProbeKind): boolean {
  return runs.some((run) => run.scores.some((record) => probesOf(record, kind).length > 0));
}

/**
 * A measure of every record that has it, in the order of the records.
 * @throws {LabFailure} naming the record whose value is not finite: it is a fault to show, never one to leave out.
 */
export function valuesOf(records: readonly ScoredRecord[], name: MeasureName): number[] {
  const measure: Measure = measures[name];
  const values: number[] = [];
  for (const record of records) {
    const value = measure(record);
    if (value === null) continue;
    if (!Number.isFinite(value)) {
      throw new LabFailure(`${name} of record ${record.record} is ${value}: no mean can be taken over it`);
    }
    values.push(value);
  }
  return values;
}

/** Mean of a record's probes of one kind; NaN scores stay NaN, for the caller to refuse or to show. */
function kindScore(record: ScoredRecord, kind: ProbeKind, which: "score" | "preScore" = "score"): number | null {
  const scores = probesOf(record, kind).flatMap((probe) => probe[which] ?? []);
  return scores.length === 0 ? null : scores.reduce((total, score) => total + score, 0) / scores.length;
}

/** Mean of rewrite, rephrase and locality (the paper's Avg.); null unless the record has all three. */
function averageScore(record: ScoredRecord): number | null {
  const rephrase = kindScore(record, "rephrase");
  const locality = kindScore(record, "locality");
  return rephrase === null || locality === null ? null : (record.rewrite.score + rephrase + locality) / 3;
}
