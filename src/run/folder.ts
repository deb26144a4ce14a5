import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { RefusedInput } from "../core/errors.js";
import { readJsonFile } from "../core/files.js";
import { canonicalJson, sha256File } from "../core/hash.js";
import { type JsonlContent, readJsonl } from "../core/jsonl.js";
import type { EditTrace } from "../edit/trace.js";
import type { RecordScore } from "../eval/types.js";
import { blocksOf } from "./blocks.js";
import { type EnvironmentChange, environmentSchema } from "./environment.js";
import type { RunConfig } from "./output.js";
import { BEGINNING, type Position, positionSchema } from "./position.js";
import type { Protocol, RunResult, StepScore } from "./types.js";

/*
 * A run is a folder that is only appended to:
 *   run.json           the protocol, the context templates and what is kept beside the scores, written once
 *   environment.jsonl  what computed it: one line, and another whenever the run went on somewhere else
 *   edits.jsonl        one line per edit, in order
 *   timings.jsonl      the seconds of each edit, apart, so that all other files are the same bytes in every rerun
 *   scores.jsonl       one line per scored record
 *   steps.jsonl        one line per record and chosen number of steps, where such were chosen
 *   tokens.jsonl       the text of each token in the scores, once
 *   blocks.jsonl       one line per finished block, with where the other files stood at its end
 *   saved-edits/       the edits of each finished block, where asked for
 *   open-block/        the last safe point within the block that is being made; see open-block.ts
 * Everything behind the last safe point, or else behind the last finished block, was interrupted: it is cut off and made
 * again.
 */

export const FORMAT = "wise-lab run, version 3";
/** The line files that are the same bytes in every rerun; beside them timings and environment. */
export const RERUN_FILES = ["edits", "scores", "steps", "tokens"] as const;
type RerunFile = (typeof RERUN_FILES)[number];
export type LineFile = RerunFile | "timings";

/** A protocol in a file that this project wrote. Before precisions had names, all was float32. */
export const protocolSchema = z
  .custom<Omit<Protocol, "precision"> & Partial<Pick<Protocol, "precision">>>(
    (value) => typeof value === "object" && value !== null && "T" in value,
    "the protocol of a run",
  )
  .transform((protocol): Protocol => ({ ...protocol, precision: protocol.precision ?? "float32" }));

const configSchema = z.object({
  format: z.literal(FORMAT),
  protocol: protocolSchema,
  templates: z.array(z.string()),
  scoreSteps: z.array(z.number().int().positive()),
  saveEdits: z.boolean(),
});

const blockSchema = positionSchema.extend({ block: z.number().int().nonnegative() });

/** Configuration that identifies the run in a folder. @throws {RefusedInput} when the folder holds none */
export async function readRunConfig(path: string): Promise<RunConfig> {
  const { format: _, ...config } = await readConfig(path);
  return config;
}

/** sha256 of the two files that hold what a run found, the same in every rerun. */
export async function hashRun(path: string): Promise<{ edits: string; scores: string }> {
  return { edits: await sha256File(fileOf(path, "edits")), scores: await sha256File(fileOf(path, "scores")) };
}

/** Reads a run, finished or not: the blocks that are finished. @throws {RefusedInput} when the folder holds none */
export async function readRun(path: string): Promise<RunResult> {
  const { protocol, scoreSteps } = await readConfig(path);
  const kept = keptBytes(path, (await readBlocks(path)).at(-1) ?? BEGINNING);
  const read = (name: LineFile) => parseLines(readIfThere(fileOf(path, name)).subarray(0, kept[name]));
  const timings = read("timings") as ({ record: number } & EditTrace["seconds"])[];
  const edits = (read("edits") as Omit<EditTrace, "seconds">[]).map((edit, i): EditTrace => {
    const { frozen, steps } = timings[i] as EditTrace["seconds"];
    return { ...edit, seconds: { frozen, steps } };
  });
  const scores = read("scores") as RecordScore[];
  const stepScores = read("steps") as StepScore[];
  return { protocol, edits, scores, stepScores, scoreSteps, tokens: readTokens(path, kept.tokens), folder: path };
}

function parseLines(bytes: Buffer): unknown[] {
  const lines = bytes.toString("utf8").split("\n");
  return lines.filter((line) => line !== "").map((line) => JSON.parse(line) as unknown);
}

/**
 * True if the folder holds this run, and all its blocks are finished. Needs no model.
 * @throws {RefusedInput} when it holds a run of another protocol (with the fields that differ) or is damaged
 */
export async function isFinished(path: string, protocol: Protocol): Promise<boolean> {
  if (!existsSync(configFile(path))) return false;
  refuseOther(path, (await readConfig(path)).protocol, protocol);
  return (await readBlocks(path)).length === blocksOf(protocol.records, protocol.T).length;
}

/** Edits made and records scored in a folder so far, those of the block in progress included. */
export function countLines(path: string): { edited: number; scored: number } {
  const lines = (name: LineFile) =>
    readIfThere(fileOf(path, name)).reduce((sum, byte) => sum + (byte === 10 ? 1 : 0), 0);
  return { edited: lines("timings"), scored: lines("scores") };
}

export function configFile(path: string): string {
  return join(path, "run.json");
}

export function fileOf(path: string, name: LineFile | "blocks" | "environment"): string {
  return join(path, `${name}.jsonl`);
}

async function readConfig(path: string): Promise<z.infer<typeof configSchema>> {
  const file = configFile(path);
  const parsed = configSchema.safeParse(await readJsonFile(file));
  if (parsed.success) return parsed.data;
  throw new RefusedInput("not the folder of a run", {
    where: file,
    found: z.prettifyError(parsed.error),
    expected: `a run.json of the form "${FORMAT}"`,
  });
}

/** Environments that computed a run: one entry, and another for each time that it went on somewhere else. */
export async function readEnvironments(path: string): Promise<EnvironmentChange[]> {
  const { values } = await readLines(path, "environment");
  return values.map((value) => environmentSchema.parse(value));
}

/** The file with the edits of a finished block, where they were asked for. */
export function savedEditsFile(path: string, block: number): string {
  return join(path, "saved-edits", `block-${String(block).padStart(4, "0")}.safetensors`);
}

/** Bytes of each file that belong to a position. @throws {RefusedInput} when a file is shorter than that */
export function keptBytes(path: string, { edits, bytes }: Position): Record<LineFile, number> {
  const kept = { ...bytes, timings: endOfLine(readIfThere(fileOf(path, "timings")), edits) };
  for (const [name, length] of Object.entries(kept) as [LineFile, number][]) {
    const found = readIfThere(fileOf(path, name)).length;
    if (found >= length) continue;
    throw new RefusedInput("a run folder is damaged", {
      where: fileOf(path, name),
      found: `${found} bytes, ${edits} edits expected`,
      expected: "all that the run says was finished",
      hint: "another --out folder",
    });
  }
  return kept;
}

/** The byte behind the `line`-th line; beyond the end when there are not so many. */
function endOfLine(bytes: Buffer, line: number): number {
  let end = 0;
  for (let i = 0; i < line; i++) {
    const newline = bytes.indexOf(10, end);
    if (newline < 0) return bytes.length + 1;
    end = newline + 1;
  }
  return end;
}

function readIfThere(file: string): Buffer {
  return existsSync(file) ? readFileSync(file) : Buffer.alloc(0);
}

/** Tokens whose text stands in the kept part of the file. */
export function readTokens(path: string, kept: number): Map<number, string> {
  const lines = parseLines(readIfThere(fileOf(path, "tokens")).subarray(0, kept)) as { id: number; text: string }[];
  return new Map(lines.map(({ id, text }) => [id, text]));
}

export function refuseOther(path: string, standing: object, wanted: object): void {
  const before = flatten(standing);
  const now = flatten(wanted);
  const fields = [...new Set([...Object.keys(before), ...Object.keys(now)])].filter((key) => before[key] !== now[key]);
  if (fields.length === 0) return;
  throw new RefusedInput("the folder holds a run of another configuration", {
    where: configFile(path),
    found: fields.map((key) => `${key}: ${now[key]}`).join("; "),
    expected: fields.map((key) => `${key}: ${before[key]}`).join("; "),
    hint: "another --out folder",
  });
}

/** Nested fields as "options.lr", each value as canonical JSON. */
function flatten(value: object, prefix = ""): Record<string, string> {
  const fields: Record<string, string> = {};
  for (const [key, field] of Object.entries(value)) {
    if (typeof field === "object" && field !== null && !Array.isArray(field)) {
      Object.assign(fields, flatten(field, `${prefix}${key}.`));
    } else {
      fields[prefix + key] = canonicalJson(field);
    }
  }
  return fields;
}

export async function readBlocks(path: string): Promise<z.infer<typeof blockSchema>[]> {
  const { values } = await readLines(path, "blocks");
  return values.map((value, i) => {
    const parsed = blockSchema.safeParse(value);
    if (parsed.success && parsed.data.block === i) return parsed.data;
    throw new RefusedInput("a run folder is damaged", {
      where: `${fileOf(path, "blocks")}:${i + 1}`,
      found: value,
      expected: `the end of block ${i}`,
    });
  });
}

/** The whole lines of a file that may not be there yet. */
export async function readLines(path: string, name: "blocks" | "environment"): Promise<JsonlContent> {
  const file = fileOf(path, name);
  return existsSync(file) ? readJsonl(file) : { values: [], goodBytes: 0, torn: false };
}
