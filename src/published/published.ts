import { readdir } from "node:fs/promises";
import { join } from "node:path";
import type { DataFrame } from "danfojs-node";
import { z } from "zod";
import { errorText, RefusedInput } from "../core/errors.js";
import { readJsonFile } from "../core/files.js";
import { checked } from "../model/schema.js";
import { projectFile } from "../run/inputs.js";
import type { When } from "../run/types.js";
import { frameOf, type Row } from "../tables/tables.js";

/** A value that a source states, or "unknown" where it leaves that open: nothing is guessed. */
export type Known<T> = T | "unknown";

/** Scores that publications print. All are shares in [0, 1] but the perplexity; the order is that of tables. */
const publishedScores = [
  "rewrite",
  "rephrase",
  "oodRephrase",
  "locality",
  "specificity",
  "average",
  "perplexity",
  "preRewrite",
  "preRephrase",
] as const;
export type PublishedScore = (typeof publishedScores)[number];

/** One line of a published table, with where it is from and what is known of its protocol. */
export interface PublishedRow {
  /** Paper and table, or thread. */
  source: string;
  /** Address of the source; null where none is known. */
  url: string | null;
  /** Read in the source itself, or in somebody's transcription of it. */
  read: "primary" | "transcription";
  /** Text in which it was read. */
  readFrom: string;
  /** Doubt about the numbers themselves, and its reason; absent where none is known. */
  confidence?: Confidence | undefined;
  /** File of `data/published` that carries the row. */
  file: string;
  model: string;
  method: string;
  /** Method of this project that it is, where the source names a form of one. */
  algorithm: string;
  /** Part of what was measured that this project does not have, or that the source leaves open; null where nothing is missing. */
  lacks: string | null;
  data: string;
  /** Of the record file, where it is known which one it was. */
  dataSha256: Known<string>;
  records: Known<number>;
  T: Known<number>;
  when: Known<When>;
  metric: Known<string>;
  locality: Known<string>;
  chatTemplate: Known<boolean>;
  /** Options of the method that the source states, under the keys that runs record. */
  options: Record<string, unknown>;
  /** null: the source prints a dash. */
  scores: Partial<Record<PublishedScore, number | null>>;
  /** Names of the scores in the source. */
  printed: Partial<Record<PublishedScore, string>>;
  /** Decimals with which the source prints a share. */
  decimals: number;
  notes: readonly string[];
}

/** Fields that rows can be chosen by: a row must equal every field given. */
export type PublishedFilter = Partial<Pick<PublishedRow, "source" | "model" | "method" | "data" | "T" | "read">>;

const text = z.string().min(1, "a text");
const count = z.int("a whole number").positive("a whole number above 0");
const unknown = z.literal("unknown");
const options = z.record(z.string(), z.unknown());
const share = z.number("a share from 0 to 1, or null").min(0, "at least 0").max(1, "at most 1").nullable();

/** A table of fields with one schema each, named like the scores. */
function perScore<S extends z.ZodType>(schema: S): Record<PublishedScore, S> {
  return Object.fromEntries(publishedScores.map((name) => [name, schema])) as Record<PublishedScore, S>;
}

const confidenceSchema = z.strictObject({ level: z.literal("low", "low"), reason: text });
type Confidence = z.infer<typeof confidenceSchema>;

const rowSchema = z.strictObject({
  model: text,
  method: text,
  algorithm: text,
  lacks: text.nullable(),
  data: text,
  dataSha256: z.union([z.string().regex(/^[0-9a-f]{64}$/), unknown], "64 hex digits, or unknown"),
  records: z.union([count, unknown], "a whole number above 0, or unknown"),
  T: z.union([count, unknown], "a whole number above 0, or unknown"),
  when: z.enum(["after-all", "after-each", "unknown"], "after-all, after-each or unknown"),
  metric: text,
  locality: text,
  chatTemplate: z.union([z.boolean(), unknown], "true, false or unknown"),
  options,
  scores: z
    .strictObject({ ...perScore(share), perplexity: z.number("a number, or null").positive("above 0").nullable() })
    .partial(),
});

/** A file: what all its rows share stands once, in `protocol` and by method in `options`; a row may say otherwise. */
const fileSchema = z.strictObject({
  source: text,
  url: z.url("an address, or null").nullable(),
  read: z.enum(["primary", "transcription"], "primary or transcription"),
  readFrom: text,
  confidence: confidenceSchema.optional(),
  decimals: z.int("a whole number").nonnegative("at least 0"),
  printed: z.strictObject(perScore(text)).partial(),
  notes: z.array(text),
  protocol: rowSchema.omit({ options: true, scores: true }).partial(),
  options: z.record(z.string(), options).default({}),
  rows: z.array(rowSchema.partial().required({ scores: true })).min(1, "at least one row"),
});

/**
 * The published numbers that the project carries, in the order of their files.
 * @param folder with files of the form that `data/published/README.md` describes. Default: that folder.
 * @throws {RefusedInput} naming file and field where a file cannot be used.
 */
export async function readPublished(
  filter: PublishedFilter = {},
  folder: string = projectFile("data", "published"),
): Promise<PublishedRow[]> {
  const rows: PublishedRow[] = [];
  for (const name of await jsonFiles(folder)) rows.push(...(await readRows(folder, name)));
  const wanted = Object.entries(filter) as [keyof PublishedFilter, unknown][];
  return rows.filter((row) => wanted.every(([field, value]) => row[field] === value));
}

async function jsonFiles(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).filter((name) => name.endsWith(".json")).sort();
  } catch (cause) {
    throw new RefusedInput("a folder of published numbers cannot be read", {
      where: folder,
      found: errorText(cause),
      expected: "a readable folder",
      cause,
    });
  }
}

async function readRows(folder: string, file: string): Promise<PublishedRow[]> {
  const path = join(folder, file);
  const { rows, protocol, options: byMethod, ...source } = checked(fileSchema, await readJsonFile(path), path);
  return rows.map((own, i) => {
    const method = own.method ?? protocol.method ?? "";
    const whole = {
      algorithm: method,
      lacks: null,
      ...protocol,
      ...own,
      options: { ...byMethod[method], ...own.options },
    };
    return { ...source, file, ...checked(rowSchema, whole, `${path}: rows.${i}`) };
  });
}

/** True for two spellings of a method's name: publications write WISE, runs wise. */
export function sameMethod(a: string, b: string): boolean {
  return a.toLowerCase() === b.toLowerCase();
}

/** A text that stands for a published row, with a mark behind it where the row is of low confidence. */
export function marked(text: string, { confidence }: Pick<PublishedRow, "confidence">): string {
  return confidence === undefined ? text : `${text} [${confidence.level} confidence]`;
}

/**
 * One row per published row: its protocol, the scores that occur (null where it has none), how it was read and where.
 * @throws {RefusedInput} for no rows.
 */
export function publishedFrame(rows: readonly PublishedRow[]): DataFrame {
  const occurring = publishedScores.filter((name) => rows.some((row) => row.scores[name] !== undefined));
  const lines = rows.map(
    (row): Row => ({
      model: row.model,
      method: row.method,
      data: row.data,
      T: row.T,
      records: row.records,
      when: row.when,
      metric: row.metric,
      ...Object.fromEntries(occurring.map((name) => [name, row.scores[name] ?? null])),
      read: row.read,
      source: marked(row.source, row),
      url: row.url,
    }),
  );
  return frameOf(lines, "published rows");
}

/** The four scores of the lifelong tables, as a cell of `lifelongFrame` has them. */
const lifelongScores = ["rewrite", "rephrase", "locality", "average"] as const satisfies readonly PublishedScore[];

/**
 * Rows of one table as publications set them: a row per model and method, a column per T, in each cell rewrite /
 * rephrase / locality / average with the decimals of the source. "-": a dash in the source, or no such row.
 * @throws {RefusedInput} for no rows, and for two of one model, method and T.
 */
export function lifelongFrame(rows: readonly PublishedRow[]): DataFrame {
  const columns = [...new Set(rows.map((row) => row.T))];
  const lines = new Map<string, Map<PublishedRow["T"], PublishedRow>>();
  for (const row of rows) {
    const key = JSON.stringify([row.model, row.method]);
    const line = lines.get(key) ?? new Map<PublishedRow["T"], PublishedRow>();
    if (line.has(row.T)) throw twoOfOneT(row);
    lines.set(key, line.set(row.T, row));
  }
  const table = [...lines.values()].map((line): Row => {
    const [{ model, method }] = [...line.values()] as [PublishedRow];
    const cells = columns.map((T) => [`T = ${T}`, cellOf(line.get(T))] as const);
    return { model, method, ...Object.fromEntries(cells) };
  });
  return frameOf(table, "published rows");
}

function cellOf(row: PublishedRow | undefined): string {
  if (row === undefined) return "-";
  return marked(lifelongScores.map((name) => row.scores[name]?.toFixed(row.decimals) ?? "-").join(" / "), row);
}

/** Error for rows that would share a place in a table or figure. */
export function twoOfOneT({ source, model, method, T }: PublishedRow): RefusedInput {
  return new RefusedInput("two published rows cannot share a place", {
    where: `${source}: ${method} on ${model}`,
    found: `T = ${T} twice`,
    expected: "one row per model, method and T",
  });
}

/**
 * Everything that is known of a published row, one field a line: its protocol and options, what the source calls each
 * score, how and where it was read. "unknown" is what the source leaves open.
 */
export function publishedProtocol(row: PublishedRow): { field: string; value: string }[] {
  const { source, url, read, readFrom, confidence, file, options, scores, printed, notes, decimals, ...fields } = row;
  const { algorithm, lacks, ...protocol } = fields;
  const printedAs = Object.entries(scores).map(([name, score]): [string, unknown] => [
    name,
    `${score ?? "-"}, printed as ${printed[name as PublishedScore]}`,
  ]);
  const lines: [string, unknown][] = [
    ...Object.entries(protocol),
    ...(algorithm === row.method ? [] : [["algorithm", algorithm] as [string, string]]),
    ...(lacks === null ? [] : [["lacks", lacks] as [string, string]]),
    ...Object.entries(options).map(([name, value]): [string, unknown] => [`options.${name}`, value]),
    ...printedAs,
    ["source", source],
    ["url", url ?? "not known"],
    ["read", read === "primary" ? "at the source" : "in a transcription"],
    ["readFrom", readFrom],
    ...(confidence === undefined
      ? []
      : [["confidence", `${confidence.level}: ${confidence.reason}`] as [string, string]]),
    ["file", `data/published/${file}`],
    ...notes.map((note): [string, unknown] => ["note", note]),
  ];
  return lines.map(([field, value]) => ({
    field,
    value: Array.isArray(value) ? JSON.stringify(value) : String(value),
  }));
}

/** One row per source of the rows: how many it has, how it was read, in which text, and its address. */
export function sourcesFrame(rows: readonly PublishedRow[]): DataFrame {
  const counts = new Map<string, { row: PublishedRow; rows: number }>();
  for (const row of rows) counts.set(row.file, { row, rows: 1 + (counts.get(row.file)?.rows ?? 0) });
  const lines = [...counts.values()].map(
    ({ row, rows }): Row => ({
      source: marked(row.source, row),
      rows,
      read: row.read,
      readFrom: row.readFrom,
      url: row.url,
      file: row.file,
    }),
  );
  return frameOf(lines, "published rows");
}

/** Caption of a table of published numbers: what they mean and where they are from, in words. */
export function publishedCaption(rows: readonly PublishedRow[]): string {
  const every = (part: (row: PublishedRow) => unknown) =>
    [...new Set(rows.map((row) => String(part(row))))].join(" or ");
  const sources = new Set(
    rows.map(
      (row) =>
        `${marked(row.source, row)} (${row.url ?? "no address known"}; ${row.read === "primary" ? "read there" : "read in a transcription"})`,
    ),
  );
  const doubts = new Set(
    rows.flatMap(({ source, confidence }) =>
      confidence === undefined ? [] : [`\nOf ${confidence.level} confidence: ${source}, ${confidence.reason}.`],
    ),
  );
  const parts = [
    `${every((row) => row.data)}, records: ${every((row) => row.records)}`,
    `T = ${[...new Set(rows.map((row) => row.T))].join(", ")}, scored: ${every((row) => row.when)}`,
    `metric: ${every((row) => row.metric)}`,
    `locality: ${every((row) => row.locality)}`,
    `chat template: ${every((row) => row.chatTemplate)}`,
  ];
  return `${parts.join("; ")}.\nPublished in ${[...sources].join(", ")}.${[...doubts].join("")}`;
}
