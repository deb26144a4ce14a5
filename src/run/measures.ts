import { LabFailure } from "../core/errors.js";
import type { ScoredProbe, ScoredRecord, ScoredRun } from "./types.js";

/** The probes of a record, in the order of tables. */
export const probeKinds = ["rewrite", "rephrase", "locality", "portability"] as const;
export type ProbeKind = (typeof probeKinds)[number];

/** A number of a record; null where it has no such probe. */
type Measure = (score: ScoredRecord) => number | null;

/** The measures that tables average over records. A record with several probes of a kind counts once, with their mean. */
export const measures = {
  rewrite: (record) => kindScore(record, "rewrite"),
  rephrase: (record) => kindScore(record, "rephrase"),
  locality: (record) => kindScore(record, "locality"),
  average: averageScore,
  portability: (record) => kindScore(record, "portability"),
  preRewrite: (record) => record.rewrite.preScore,
  preRephrase: (record) => record.rephrase?.preScore ?? null,
} satisfies Record<string, Measure>;
export type MeasureName = keyof typeof measures;

/** All probes of one kind of a record: none, one, or several. */
export function probesOf(record: ScoredRecord, kind: ProbeKind): readonly ScoredProbe[] {
  const probes = record[kind];
  if (probes === null) return [];
  return "score" in probes ? [probes] : probes;
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
function kindScore(record: ScoredRecord, kind: ProbeKind): number | null {
  const scores = probesOf(record, kind).map((probe) => probe.score);
  return scores.length === 0 ? null : scores.reduce((total, score) => total + score, 0) / scores.length;
}

/** Mean of rewrite, rephrase and locality (the paper's Avg.); null unless the record has all three. */
function averageScore(record: ScoredRecord): number | null {
  const rephrase = kindScore(record, "rephrase");
  const locality = kindScore(record, "locality");
  return rephrase === null || locality === null ? null : (record.rewrite.score + rephrase + locality) / 3;
}
