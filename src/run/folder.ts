import { existsSync } from "node:fs";
import { RefusedInput } from "../core/errors.js";
import { exists } from "../core/files.js";
import { canonicalJson } from "../core/hash.js";
import type { EditTrace } from "../edit/trace.js";
import { checkScore } from "../eval/stored.js";
import { type EnvironmentChange, environmentSchema } from "./environment.js";
import {
  configFile,
  damaged,
  endOf,
  fileOf,
  parseLines,
  protocolSchema,
  type RunFolder,
  readEnvironmentLines,
  readFolder,
  readIfThere,
  readKept,
  readTimings,
  savedEditsFile,
  tokensIn,
} from "./folder-files.js";
import type { RunConfig } from "./output.js";
import type { RerunFile } from "./position.js";
import type { CheckpointScore, Protocol, RunResult, StepScore } from "./types.js";

/* Reads runs from their folders; see folder-files.ts for what stands in them. */

/** Configuration that identifies the run in a folder. @throws as `readFolder` */
export async function readRunConfig(path: string): Promise<RunConfig> {
  return (await readFolder(path)).config;
}

/** sha256 of the two files that hold what a run found, up to its last finished block: the same in every rerun. */
export async function hashRun(path: string): Promise<{ edits: string; scores: string }> {
  const { edits, scores } = endOf(await readFolder(path)).files;
  return { edits: edits.sha256, scores: scores.sha256 };
}

/** Reads a run, finished or not: the blocks that are finished. @throws as `readFolder` */
export async function readRun(path: string): Promise<RunResult> {
  const folder = await readFolder(path);
  const { protocol, scoreSteps, checkpoints } = folder.config;
  await requireSavedEdits(folder);
  const read = (name: RerunFile) => parseLines(readKept(folder, name).bytes);
  const timings = (await readTimings(folder)).values as unknown as EditTrace["seconds"][];
  const edits = (read("edits") as Omit<EditTrace, "seconds">[]).map((edit, i): EditTrace => {
    const { frozen, steps } = timings[i] as EditTrace["seconds"];
    return { ...edit, seconds: { frozen, steps } };
  });
  const scored = (name: "scores" | "steps" | "checkpoints") =>
    read(name).map((score, i) => checkScore(score, `${fileOf(path, name)}:${i + 1}`));
  const [scores, stepScores] = [scored("scores"), scored("steps") as StepScore[]];
  return {
    protocol,
    edits,
    scores,
    stepScores,
    scoreSteps,
    ...(checkpoints && { checkpointScores: scored("checkpoints") as CheckpointScore[] }),
    tokens: tokensIn(readKept(folder, "tokens").bytes),
    folder: path,
  };
}

/** Environments that computed a run: one entry, and another for each time that it went on somewhere else. */
export async function readEnvironments(path: string): Promise<EnvironmentChange[]> {
  const folder = await readFolder(path);
  const { values } = await readEnvironmentLines(folder, endOf(folder).edits);
  return values.map((value) => environmentSchema.parse(value));
}

/**
 * True if the folder holds this run, no part of it, and all its blocks are finished. Needs no model.
 * @throws {RefusedInput} when it holds a run of another protocol (with the fields that differ) or is damaged
 */
export async function isFinished(path: string, protocol: Protocol): Promise<boolean> {
  if (!existsSync(configFile(path))) return false;
  const { config, own, blocks } = await readFolder(path);
  refuseOther(path, config.protocol, protocolSchema.parse(protocol));
  return config.part === undefined && blocks.length === own.length;
}

/** Edits made and records scored in a folder so far, those of the block in progress included. */
export function countLines(path: string): { edited: number; scored: number } {
  const lines = (name: "timings" | "scores") => {
    const bytes = readIfThere(fileOf(path, name));
    let count = 0;
    for (let end = bytes.indexOf("\n"); end >= 0; end = bytes.indexOf("\n", end + 1)) count++;
    return count;
  };
  return { edited: lines("timings"), scored: lines("scores") };
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

/** @throws {RefusedInput} when a file of saved edits is not there */
async function requireSavedEdits({ path, config, blocks }: RunFolder): Promise<void> {
  if (!config.saveEdits) return;
  for (const { block } of blocks) {
    const file = savedEditsFile(path, block);
    if (!(await exists(file))) throw damaged(file, { found: "no such file", expected: `the edits of block ${block}` });
  }
}
