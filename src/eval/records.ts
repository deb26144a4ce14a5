import type { EditRecord } from "../data/records.js";
import type { Probe } from "./score.js";
import type { ProbeScore, RecordScore } from "./types.js";

/** The probes of a record: rewrite, then all of rephrase, locality, portability and unedited facts, then its text beyond the target. */
export function probesOf(record: EditRecord): Probe[] {
  const rephrases = record.rephrase === null ? [] : [record.rephrase, ...(record.moreRephrases ?? [])];
  return [
    { kind: "rewrite", prompt: record.prompt, answer: record.target },
    ...rephrases.map((prompt): Probe => ({ kind: "rephrase", prompt, answer: record.target })),
    ...(["locality", "portability", "unedited"] as const).flatMap((kind) =>
      (record[kind] ?? []).map((probe): Probe => ({ kind, ...probe })),
    ),
    ...(record.oodRephrase === null ? [] : [{ kind: "ood", prompt: "", answer: record.oodRephrase } as const]),
  ];
}

/** Puts scores back in the order of `probesOf`. */
export function recordScore(record: EditRecord, block: { index: number }, scores: readonly ProbeScore[]): RecordScore {
  const rest = [...scores];
  const take = (count: number) => rest.splice(0, count);
  const [rewrite] = take(1) as [ProbeScore];
  const [rephrase = null] = take(record.rephrase === null ? 0 : 1);
  const moreRephrases = take(record.moreRephrases?.length ?? 0);
  return {
    record: record.index,
    block: block.index,
    subject: record.subject,
    rewrite,
    rephrase,
    ...(moreRephrases.length > 0 && { moreRephrases }),
    locality: take(record.locality.length),
    portability: take(record.portability.length),
    ...(record.unedited !== undefined && { unedited: take(record.unedited.length) }),
    ...(record.oodRephrase !== null && { ood: take(1)[0] as ProbeScore }),
  };
}
