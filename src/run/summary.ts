import { LabFailure, RefusedInput } from "../core/errors.js";
import { mean } from "../core/stats.js";
import { methodNamed } from "../edit/registry.js";
import { TEACHER_FORCED } from "../eval/metrics.js";
import { learnedIn } from "./causes.js";
import { hashRun, isFinished, readRun, readRunConfig } from "./folder.js";
import { mapProbes, probeKinds, probesOf } from "./measures.js";
import type { Protocol, ScoredProbe, ScoredRecord, ScoredRun } from "./types.js";
import { underMetric } from "./under-metric.js";

/*
 * A finished run in short: what tables, figures and the explorers read of it. Of the numbers of readings, those that a
 * variant has for all probes of a record are kept exactly, and stand with the variant; the others are kept to a few digits.
 * summary-file.ts writes and reads it.
 */

const DIGITS = 6;

export interface SummaryRecord extends ScoredRecord {
  /** Steps of its edit, and whether its loss settled before the step limit. */
  steps: number;
  stoppedEarly: boolean;
  /** The edit had its answer when it was made; null where no loss says so. See causes.ts. */
  learned: boolean | null;
}

export interface RunSummary extends ScoredRun {
  /** The command that made the run. */
  command: string;
  templates: readonly string[];
  /** Of edits.jsonl and scores.jsonl in the run's folder. */
  sha256: { edits: string; scores: string };
  scores: readonly SummaryRecord[];
  /** Depends on the machine, as nothing else here does. */
  secondsPerEdit: number;
}

/** Summarises the run in a folder. @throws {RefusedInput} when it is not finished */
export async function summarizeRun(folder: string, command: string): Promise<RunSummary> {
  const { protocol, templates } = await readRunConfig(folder);
  const { edits, scores } = await readRun(folder);
  if (!(await isFinished(folder, protocol))) {
    throw new RefusedInput("a run that is not finished has no summary", {
      where: folder,
      found: `${scores.length} of ${protocol.records} records`,
      expected: "all records",
      hint: command,
    });
  }
  const learned = learnedIn({ protocol, edits, scores });
  const keep = { protocol, exact: ofVariants(scores) };
  const records = scores.map((score, i): SummaryRecord => {
    const edit = edits[i];
    if (edit?.record !== i || score.record !== i) throw new LabFailure(`${folder} does not hold its records in order`);
    const { steps, stoppedEarly } = edit;
    return { ...shortened(score, keep), steps: steps.length, stoppedEarly, learned: learned.get(i) ?? null };
  });
  const secondsPerEdit = mean(edits.map(({ seconds }) => seconds.frozen + seconds.steps));
  const others = protocol.metrics.filter((name) => name !== TEACHER_FORCED.name);
  const run: ScoredRun = { protocol, scores };
  const under = others.map(
    (name) => [name, underMetric(run, name).scores.map((score) => shortened(score, keep))] as const,
  );
  const made = { protocol, command, templates, sha256: await hashRun(folder), scores: records, secondsPerEdit };
  return { ...made, ...(under.length > 0 && { under: Object.fromEntries(under) }) };
}

export type SummaryReading = ScoredProbe["readings"][number];

/** Names of the numbers that a variant has alike for all probes of a record: they are its own, and not the probe's. */
export function ofVariants(records: readonly ScoredRecord[]): string[] {
  const names = new Set<string>();
  const varying = new Set<string>();
  for (const record of records) {
    const first = new Map<string, SummaryReading["numbers"]>();
    const readings = probeKinds.flatMap((kind) => probesOf(record, kind).flatMap((probe) => probe.readings));
    for (const { variant, numbers } of readings) {
      const before = first.get(variant) ?? numbers;
      first.set(variant, before);
      for (const name of Object.keys({ ...before, ...numbers })) {
        names.add(name);
        if (before[name] !== numbers[name]) varying.add(name);
      }
    }
  }
  return [...names].filter((name) => !varying.has(name));
}

/** A record with rounded readings, which decide as the exact ones do; where they would not, the exact ones stay. */
export function shortened(
  score: ScoredRecord,
  { protocol: { method, options }, exact }: { protocol: Protocol; exact: readonly string[] },
): ScoredRecord {
  const option = methodNamed(method).router?.inference;
  const short = ({ score, preScore, exact: isExact, route, readings }: ScoredProbe): ScoredProbe => {
    const own = readings.map(({ variant, margin, numbers, score }) => ({ variant, margin, numbers, score }));
    const rounded = own.map((reading) => ({
      ...reading,
      margin: roundedMargin(reading.margin),
      numbers: mapNumbers(reading.numbers, (value, name) => (exact.includes(name) ? value : shortNumber(value))),
    }));
    const same = option === undefined || readings.length === 0 || option.decide(rounded, options).variant === route;
    return { score, preScore, exact: isExact, route, readings: same ? rounded : own };
  };
  const { record, block, rewrite, rephrase, moreRephrases = [], locality, portability, unedited, ood } = score;
  const rare = { ...(unedited && { unedited }), ...(ood && { ood }) };
  const probes = { rewrite, rephrase, moreRephrases, locality, portability, ...rare };
  return { record, block, ...mapProbes(probes, short) };
}

/** A whole number as it is, another to a few digits. */
export const shortNumber = (value: number) => (Number.isInteger(value) ? value : Number(value.toPrecision(DIGITS)));

/** Rounded, and never to the other side of 1. */
function roundedMargin(margin: number): number {
  const short = shortNumber(margin);
  return short >= 1 === margin >= 1 ? short : margin;
}

function mapNumbers(numbers: SummaryReading["numbers"], change: (value: number, name: string) => number) {
  return Object.fromEntries(Object.entries(numbers).map(([name, value]) => [name, change(value, name)]));
}
