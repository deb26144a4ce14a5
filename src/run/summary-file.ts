import { z } from "zod";
import { RefusedInput } from "../core/errors.js";
import { readJsonFile, writeFileAtomic } from "../core/files.js";
import { unsealed, withSeal } from "../core/seal.js";
import { MAIN, UNROUTED } from "../edit/overlay.js";
import { TEACHER_FORCED } from "../eval/metrics.js";
import { protocolSchema } from "./folder-files.js";
import { probeKinds, probesOf } from "./measures.js";
import { ofVariants, type RunSummary, type SummaryReading, type SummaryRecord, shortNumber } from "./summary.js";
import type { ScoredProbe, ScoredRecord } from "./types.js";

/*
 * A summary as a file: one line per record. Scores are fractions of tokens and kept exactly, so that tables are the same;
 * scores that are no shares are kept to a few digits. `learned` has a character for each record: 1, 0, or - where no
 * loss says. Its last field is its seal; see seal.ts.
 */

export const SUMMARY_FORMAT = "wise-lab run summary, version 4";
/**
 * Columns of the lines of a variant, of a record, of a probe in it, and of a variant that its router looked at. Such a
 * variant is given by its place in `variants`, from 0. The route of a probe is the place of its reading, from 1; 0 is
 * the untouched model. Without a router, edits that answer have the route -1. Numbers stand in the order of `numbers`.
 */
const COLUMNS = {
  variant: ["name", "numbers ..."],
  record: [
    "block",
    "steps",
    "stoppedEarly",
    "rewrite",
    "rephrase",
    "locality",
    "portability",
    "ood",
    "more rephrases",
    "unedited",
  ],
  probe: ["score", "score before", "route", "[variant, score under it, margin, numbers ...] ..."],
};
/** Writes a summary as JSON. */
export async function writeRunSummary(summary: RunSummary, path: string): Promise<void> {
  const { scores, protocol, command, templates, sha256, secondsPerEdit, under = {} } = summary;
  const machineDependent = { secondsPerEdit };
  const variant = ofVariants(scores);
  const shown = [scores, ...Object.values(under)].flat();
  const all = shown.flatMap((record) => probeKinds.flatMap((kind) => probesOf(record, kind)));
  const names = new Set(all.flatMap(({ readings }) => readings.flatMap(({ numbers }) => Object.keys(numbers))));
  const numbers = { variant, reading: [...names].filter((name) => !variant.includes(name)) };
  const learned = scores.map((record) => (record.learned === null ? "-" : Number(record.learned))).join("");
  const head = { command, protocol, templates, sha256, machineDependent, columns: COLUMNS, learned, numbers };
  const places = new Map<string, number>(); // of variants as JSON, in order of first use
  const cells = (score: ScoredRecord) => probeCells(score, numbers, places);
  const records = scores.map((score) => [score.block, score.steps, score.stoppedEarly ? 1 : 0, ...cells(score)]);
  const others = Object.entries(under).map(([name, all]) => [name, all.map(cells)] as const);
  const variants = [...places.keys()].map((key) => JSON.parse(key) as VariantCells);
  const more = Object.fromEntries(others.map(([name, all]) => [`${UNDER}${name}`, all]));
  await writeFileAtomic(path, summaryText({ ...head, variants, records, ...more }));
}

/** Name of the list of the records by another metric, before the metric's. */
const UNDER = "under ";

/** A sealed summary as text: a line for each variant and record, and for each record by another metric. */
export function summaryText(content: Record<string, unknown>): string {
  const { seal, ...sealed } = withSeal({ format: SUMMARY_FORMAT, ...content }, SUMMARY_FORMAT) as Record<
    string,
    unknown
  >;
  const isList = (name: string) => ["variants", "records"].includes(name) || name.startsWith(UNDER);
  const parts = Object.entries(sealed);
  const head = Object.fromEntries(parts.filter(([name]) => !isList(name)));
  const lists = parts
    .filter(([name]) => isList(name))
    .map(([name, values]) => {
      const lines = (values as unknown[]).map((value) => JSON.stringify(value));
      return ` "${name}": [\n${lines.join(",\n")}\n ]`;
    });
  return `${JSON.stringify(head, null, 1).slice(0, -2)},\n${lists.join(",\n")},\n "seal": "${seal}"\n}\n`;
}

/** Names of the numbers that stand with a variant, and of those that stand with a reading. */
type NumberNames = z.infer<typeof numbersSchema>;
type VariantCells = z.infer<typeof variantSchema>;
type ReadingCells = z.infer<typeof readingSchema>;
type ProbeCells = z.infer<typeof probeSchema>;
type ProbesCells = z.infer<typeof probesSchema>;

function probeCells(score: ScoredRecord, names: NumberNames, places: Map<string, number>): ProbesCells {
  const reading = ({ variant, margin, numbers, score }: SummaryReading): ReadingCells => {
    const values = (listed: readonly string[]) => listed.map((name) => numbers[name] ?? null);
    const key = JSON.stringify([variant, ...values(names.variant)] satisfies VariantCells);
    places.set(key, places.get(key) ?? places.size);
    const shown = score === null ? null : fractionOf(score);
    return [places.get(key) as number, shown, margin, ...values(names.reading)];
  };
  const cells = (probe: ScoredProbe): ProbeCells => [
    fractionOf(probe.score),
    probe.preScore === null ? null : fractionOf(probe.preScore),
    routePlace(probe),
    ...probe.readings.map(reading),
  ];
  const { rewrite, rephrase, moreRephrases = [], locality, portability, unedited = [], ood } = score;
  const usual: ProbesCells = [cells(rewrite), rephrase && cells(rephrase), locality.map(cells), portability.map(cells)];
  const rare = [ood === undefined ? null : cells(ood), moreRephrases.map(cells), unedited.map(cells)];
  const isUsual = ood === undefined && moreRephrases.length === 0 && unedited.length === 0;
  return isUsual ? usual : ([...usual, ...rare] as unknown as ProbesCells);
}

function routePlace({ route, readings }: ScoredProbe): number {
  if (route === MAIN) return 0;
  return readings.length === 0 ? -1 : 1 + readings.findIndex(({ variant }) => variant === route);
}

const MOST_TOKENS = 1000; // of an answer: far more than any has

/** A share of tokens as 0, 1 or "2/3", in lowest terms: dividing gives the very same number. Another number to a few digits. */
function fractionOf(share: number): number | string {
  if (share === 0 || share === 1) return share;
  for (let of = 2; of <= MOST_TOKENS; of++) {
    const part = Math.round(share * of);
    if (part / of === share) return `${part}/${of}`;
  }
  return shortNumber(share);
}

const count = z.int().nonnegative();
const fraction = z.union([z.number(), z.string().regex(/^\d+\/[1-9]\d*$/, "0, 1 or a fraction such as 2/3")]);
const numbersSchema = z.object({ variant: z.array(z.string()), reading: z.array(z.string()) });
const variantSchema = z.tuple([z.string()]).rest(z.number().nullable());
const readingSchema = z.tuple([count, fraction.nullable(), z.number()]).rest(z.number().nullable());
const probeSchema = z.tuple([fraction, fraction.nullable(), z.int().min(-1)]).rest(readingSchema);
const probesShape = [
  probeSchema,
  probeSchema.nullable(),
  z.array(probeSchema),
  z.array(probeSchema),
  probeSchema.nullable().optional(),
  z.array(probeSchema).optional(),
  z.array(probeSchema).optional(),
] as const;
const probesSchema = z.tuple(probesShape);
const recordSchema = z.tuple([count, count, z.literal([0, 1]), ...probesShape]);
const sha256 = z.string().regex(/^[0-9a-f]{64}$/, "a sha256");

const summarySchema = z.looseObject({
  format: z.literal(SUMMARY_FORMAT),
  command: z.string(),
  protocol: protocolSchema,
  templates: z.array(z.string()),
  sha256: z.object({ edits: sha256, scores: sha256 }),
  machineDependent: z.object({ secondsPerEdit: z.number().nonnegative() }),
  learned: z
    .string()
    .regex(/^[01-]*$/, "a character for each record: 1, 0 or -")
    .default(""),
  numbers: numbersSchema,
  variants: z.array(variantSchema),
  records: z.array(recordSchema),
});

/** Reads a summary. @throws {RefusedInput} naming what is wrong with the file */
export async function readRunSummary(path: string): Promise<RunSummary> {
  const value = (await readJsonFile(path)) as { format?: unknown } | null;
  const parsed = summarySchema.safeParse(value);
  if (!parsed.success) {
    throw new RefusedInput("not the summary of a run", {
      where: path,
      found: z.prettifyError(parsed.error).split("\n→")[0],
      expected: `a file of the form "${SUMMARY_FORMAT}"`,
      ...(/^wise-lab run summary, /.test(String(value?.format)) ? { hint: `wise-lab convert ${path} NEWFILE` } : {}),
    });
  }
  unsealed(value, SUMMARY_FORMAT, path);
  const { protocol, command, templates, sha256, machineDependent, learned, numbers, variants, records } = parsed.data;
  const named = { variants, numbers };
  if (records.length !== protocol.records) {
    throw new RefusedInput("a summary lacks records", {
      where: path,
      found: `${records.length} records`,
      expected: `${protocol.records}, as its protocol says`,
    });
  }
  const scores = records.map(([block, steps, stoppedEarly, ...cells], record) => ({
    record,
    block,
    steps,
    stoppedEarly: stoppedEarly === 1,
    learned: learnedOf(learned[record]),
    ...readProbes(cells, { ...named, where: `${path}, record ${record}` }),
  }));
  const others = protocol.metrics.filter((name) => name !== TEACHER_FORCED.name);
  const under = others.map((name) => {
    const where = `${path}, ${UNDER}${name}`;
    const found = z.array(probesSchema).length(records.length).safeParse(parsed.data[`${UNDER}${name}`]);
    if (!found.success) {
      throw new RefusedInput("a summary lacks the records by a metric", {
        where,
        found: z.prettifyError(found.error).split("\n→")[0],
        expected: `${records.length} records`,
      });
    }
    const all = found.data.map((cells, record) => {
      const { block } = scores[record] as SummaryRecord;
      return { record, block, ...readProbes(cells, { ...named, where: `${where}, record ${record}` }) };
    });
    return [name, all] as const;
  });
  const read = { protocol, command, templates, sha256, scores, ...machineDependent };
  return { ...read, ...(under.length > 0 && { under: Object.fromEntries(under) }) };
}

const learnedOf = (mark = "-") => (mark === "-" ? null : mark === "1");

function readProbes(
  cells: ProbesCells,
  { variants, numbers, where }: { variants: readonly VariantCells[]; numbers: NumberNames; where: string },
): Omit<ScoredRecord, "record" | "block"> {
  const [rewrite, rephrase, locality, portability, ood = null, moreRephrases = [], unedited = []] = cells;
  const named = (names: readonly string[], values: readonly (number | null)[]) =>
    values.flatMap((value, i) => (value === null ? [] : [[pick(names, i, { what: "number", where }), value] as const]));
  const readingOf = ([place, score, margin, ...values]: ReadingCells): SummaryReading => {
    const [variant, ...shared] = pick(variants, place, { what: "variant", where });
    return {
      variant,
      margin,
      numbers: Object.fromEntries([...named(numbers.reading, values), ...named(numbers.variant, shared)]),
      score: score === null ? null : numberOf(score),
    };
  };
  const routeOf = (place: number, readings: ScoredProbe["readings"]): string => {
    if (place === 0) return MAIN;
    return place < 0 ? UNROUTED : pick(readings, place - 1, { what: "route", where }).variant;
  };
  const probe = ([score, preScore, route, ...cells]: ProbeCells): ScoredProbe => {
    const readings = cells.map(readingOf);
    return {
      score: numberOf(score),
      preScore: preScore === null ? null : numberOf(preScore),
      exact: score === 1,
      route: routeOf(route, readings),
      readings,
    };
  };
  return {
    rewrite: probe(rewrite),
    rephrase: rephrase && probe(rephrase),
    ...(moreRephrases.length > 0 && { moreRephrases: moreRephrases.map(probe) }),
    locality: locality.map(probe),
    portability: portability.map(probe),
    ...(unedited.length > 0 && { unedited: unedited.map(probe) }),
    ...(ood !== null && { ood: probe(ood) }),
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
