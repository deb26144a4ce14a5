import { z } from "zod";
import { LabFailure, RefusedInput } from "../core/errors.js";
import { readJsonFile, writeFileAtomic } from "../core/files.js";
import { mean } from "../core/stats.js";
import type { Memory } from "../edit/overlay.js";
import { hashRun, isFinished, protocolSchema, readRun, readRunConfig } from "./folder.js";
import type { ScoredProbe, ScoredRecord, ScoredRun } from "./types.js";

/*
 * A finished run in one small file: what tables, figures and the act_ratio explorer read of it, one line per record.
 * Scores are fractions of tokens and kept exactly, so that tables are the same; routing activations are kept to a few
 * digits.
 */

const FORMAT = "wise-lab run summary, version 2";
/**
 * What stands in the line of a record, of a probe in it, and of a memory that the probe was read against: its place in
 * `memories`, from 0. The route of a probe is the place of its reading, from 1; 0 is the untouched model.
 */
const COLUMNS = {
  memory: ["name", "minAct", "threshold"],
  record: ["block", "steps", "stoppedEarly", "rewrite", "rephrase", "locality", "portability"],
  probe: ["score", "score before", "route", "[memory, delta, score under it] ..."],
};
const DIGITS = 6;

export interface SummaryRecord extends ScoredRecord {
  /** Steps of its edit, and whether its loss settled before the step limit. */
  steps: number;
  stoppedEarly: boolean;
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
  const records = scores.map((score, i): SummaryRecord => {
    const edit = edits[i];
    if (edit?.record !== i || score.record !== i) throw new LabFailure(`${folder} does not hold its records in order`);
    return { ...summaryOf(score), steps: edit.steps.length, stoppedEarly: edit.stoppedEarly };
  });
  const secondsPerEdit = mean(edits.map(({ seconds }) => seconds.frozen + seconds.steps));
  return { protocol, command, templates, sha256: await hashRun(folder), scores: records, secondsPerEdit };
}

function summaryOf({ record, block, rewrite, rephrase, locality, portability }: ScoredRecord): ScoredRecord {
  const short = ({ score, preScore, exact, route, readings }: ScoredProbe): ScoredProbe => {
    const rounded = readings.map(({ memory, delta, minAct, threshold, score }) => ({
      memory,
      delta: Number(delta.toPrecision(DIGITS)),
      minAct,
      threshold,
      score,
    }));
    return { score, preScore, exact, route, readings: rounded };
  };
  return {
    record,
    block,
    rewrite: short(rewrite),
    rephrase: rephrase && short(rephrase),
    locality: locality.map(short),
    portability: portability.map(short),
  };
}

/** Writes a summary as JSON. */
export async function writeRunSummary(summary: RunSummary, path: string): Promise<void> {
  const { scores, protocol, command, templates, sha256, secondsPerEdit } = summary;
  const machineDependent = { secondsPerEdit };
  const head = { format: FORMAT, command, protocol, templates, sha256, machineDependent, columns: COLUMNS };
  const places = new Map<string, number>(); // of memories as JSON, in order of first use
  const records = scores.map((score) => JSON.stringify(lineOf(score, places)));
  const list = (name: string, lines: Iterable<string>) => ` "${name}": [\n${[...lines].join(",\n")}\n ]`;
  const lists = [list("memories", places.keys()), list("records", records)];
  await writeFileAtomic(path, `${JSON.stringify(head, null, 1).slice(0, -2)},\n${lists.join(",\n")}\n}\n`);
}

type MemoryCells = z.infer<typeof memorySchema>;
type ReadingCells = z.infer<typeof readingSchema>;
type ProbeCells = z.infer<typeof probeSchema>;
type RecordCells = z.infer<typeof recordSchema>;

function lineOf(score: SummaryRecord, places: Map<string, number>): RecordCells {
  const place = ({ memory, minAct, threshold }: ScoredProbe["readings"][number]) => {
    const key = JSON.stringify([memory, minAct, threshold] satisfies MemoryCells);
    places.set(key, places.get(key) ?? places.size);
    return places.get(key) as number;
  };
  const cells = (probe: ScoredProbe): ProbeCells => [
    fractionOf(probe.score),
    probe.preScore === null ? null : fractionOf(probe.preScore),
    1 + probe.readings.findIndex(({ memory }) => memory === probe.route),
    ...probe.readings.map((reading): ReadingCells => [place(reading), reading.delta, fractionOf(reading.score)]),
  ];
  return [
    score.block,
    score.steps,
    score.stoppedEarly ? 1 : 0,
    cells(score.rewrite),
    score.rephrase && cells(score.rephrase),
    score.locality.map(cells),
    score.portability.map(cells),
  ];
}

const MOST_TOKENS = 1000; // of an answer: far more than any has

/** A share of tokens as 0, 1 or "2/3", in lowest terms: dividing gives the very same number. */
function fractionOf(share: number): 0 | 1 | string {
  if (share === 0 || share === 1) return share;
  for (let of = 2; of <= MOST_TOKENS; of++) {
    const part = Math.round(share * of);
    if (part / of === share) return `${part}/${of}`;
  }
  throw new LabFailure(`${share} is no share of up to ${MOST_TOKENS} tokens`);
}

const count = z.int().nonnegative();
const fraction = z.union([z.literal([0, 1]), z.string().regex(/^\d+\/[1-9]\d*$/, "0, 1 or a fraction such as 2/3")]);
const memorySchema = z.tuple([
  z.custom<Memory>((value) => /^(side|merged|memory-\d+)$/.test(String(value)), "a memory"),
  z.number(),
  z.number(),
]);
const readingSchema = z.tuple([count, z.number(), fraction]);
const probeSchema = z.tuple([fraction, fraction.nullable(), count]).rest(readingSchema);
const recordSchema = z.tuple([
  count,
  count,
  z.literal([0, 1]),
  probeSchema,
  probeSchema.nullable(),
  z.array(probeSchema),
  z.array(probeSchema),
]);
const sha256 = z.string().regex(/^[0-9a-f]{64}$/, "a sha256");

const summarySchema = z.object({
  format: z.literal(FORMAT),
  command: z.string(),
  protocol: protocolSchema,
  templates: z.array(z.string()),
  sha256: z.object({ edits: sha256, scores: sha256 }),
  machineDependent: z.object({ secondsPerEdit: z.number().nonnegative() }),
  memories: z.array(memorySchema),
  records: z.array(recordSchema),
});

/** Reads a summary. @throws {RefusedInput} naming what is wrong with the file */
export async function readRunSummary(path: string): Promise<RunSummary> {
  const parsed = summarySchema.safeParse(await readJsonFile(path));
  if (!parsed.success) {
    throw new RefusedInput("not the summary of a run", {
      where: path,
      found: z.prettifyError(parsed.error).split("\n→")[0],
      expected: `a file of the form "${FORMAT}"`,
    });
  }
  const { protocol, command, templates, sha256, machineDependent, memories, records } = parsed.data;
  if (records.length !== protocol.records) {
    throw new RefusedInput("a summary lacks records", {
      where: path,
      found: `${records.length} records`,
      expected: `${protocol.records}, as its protocol says`,
    });
  }
  const scores = records.map((cells, record) => ({
    record,
    ...readLine(cells, { memories, where: `${path}, record ${record}` }),
  }));
  return { protocol, command, templates, sha256, scores, ...machineDependent };
}

function readLine(
  cells: RecordCells,
  { memories, where }: { memories: readonly MemoryCells[]; where: string },
): Omit<SummaryRecord, "record"> {
  const [block, steps, stoppedEarly, rewrite, rephrase, locality, portability] = cells;
  const readingOf = ([place, delta, score]: ReadingCells): ScoredProbe["readings"][number] => {
    const [memory, minAct, threshold] = pick(memories, place, { what: "memory", where });
    return { memory, delta, minAct, threshold, score: numberOf(score) };
  };
  const probe = ([score, preScore, route, ...cells]: ProbeCells): ScoredProbe => {
    const readings = cells.map(readingOf);
    return {
      score: numberOf(score),
      preScore: preScore === null ? null : numberOf(preScore),
      exact: score === 1,
      route: route === 0 ? "main" : pick(readings, route - 1, { what: "route", where }).memory,
      readings,
    };
  };
  return {
    block,
    steps,
    stoppedEarly: stoppedEarly === 1,
    rewrite: probe(rewrite),
    rephrase: rephrase && probe(rephrase),
    locality: locality.map(probe),
    portability: portability.map(probe),
  };
}

function pick<T>(list: readonly T[], place: number, { what, where }: { what: string; where: string }): T {
  const found = list[place];
  if (found !== undefined) return found;
  throw new RefusedInput(`a summary names a ${what} that it does not list`, {
    where,
    found: place,
    expected: `less than ${list.length}`,
  });
}

function numberOf(share: number | string): number {
  if (typeof share === "number") return share;
  const [part, of] = share.split("/").map(Number) as [number, number];
  return part / of;
}
