import { createHash, type Hash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { RefusedInput } from "../core/errors.js";
import { exists, readJsonFile } from "../core/files.js";
import { readSealedLines, type SealedLines, unsealed } from "../core/seal.js";
import { withUnsaid } from "../edit/registry.js";
import { TEACHER_FORCED } from "../eval/metrics.js";
import { type Block, blocksOfPart } from "./blocks.js";
import type { RunConfig } from "./output.js";
import { requireOwnFiles } from "./own-files.js";
import { BEGINNING, type Position, positionSchema, RERUN_FILES, type Reached, type RerunFile } from "./position.js";
import type { Protocol } from "./types.js";

/*
 * A run is a folder that is only appended to:
 *   run.json           the protocol, the context templates and what is kept beside the scores, written once; sealed
 *   blocks.jsonl       one line per finished block: the sha256 of all that stands in the next five up to its end; sealed
 *   edits.jsonl        one line per edit, in order
 *   scores.jsonl       one line per scored record
 *   steps.jsonl        one line per record and chosen number of steps, where such were chosen
 *   checkpoints.jsonl  one line per record and checkpoint, where such were chosen
 *   tokens.jsonl       the text of each token in the scores, once
 *   timings.jsonl      the seconds of each edit, apart, so that the files above are the same bytes in every rerun; sealed
 *   environment.jsonl  what computed it: one line, and another whenever the run went on somewhere else; sealed
 *   saved-edits/       the edits of each finished block, where asked for
 *   open-block/        the last safe point within the block that is being made; see open-block.ts
 * What stands behind the last safe point, or else behind the last finished block, was interrupted: it is cut off and made
 * again. Anything else that is not as it was written is refused, and nothing is changed; see seal.ts for the seals.
 */

export const FORMAT = "wise-lab run, version 4";
export type SealedFile = "blocks" | "timings" | "environment";

/** Fields of a protocol that runs had before they were written down. */
const UNSAID = {
  precision: "float32",
  metrics: [TEACHER_FORCED.name],
  generation: null,
  unedited: null,
  targetStop: "none",
} as const;

/** A protocol in a file that this project wrote. */
export const protocolSchema = z
  .custom<Omit<Protocol, keyof typeof UNSAID> & Partial<Pick<Protocol, keyof typeof UNSAID>>>(
    (value) => typeof value === "object" && value !== null && "T" in value,
    "the protocol of a run",
  )
  .transform((protocol): Protocol => {
    const { method, options } = protocol;
    const unsaid = Object.entries(UNSAID).filter(([field]) => !Object.hasOwn(protocol, field));
    // Behind the others, which stay in their order: a protocol that has all is written as the same bytes again.
    return { ...protocol, options: withUnsaid(method, options), ...Object.fromEntries(unsaid) } as Protocol;
  });

export const configSchema = z.object({
  protocol: protocolSchema,
  templates: z.array(z.string()),
  scoreSteps: z.array(z.number().int().positive()),
  saveEdits: z.boolean(),
  checkpoints: z
    .object({ every: z.number().int().positive(), sample: z.number().int().positive().nullable() })
    .optional(),
  part: z.object({ index: z.number().int().positive(), of: z.number().int().positive() }).optional(),
});

/** Identity of the run in a folder, and the ends of its finished blocks. */
export interface RunFolder {
  path: string;
  config: RunConfig;
  /** Of run.json. */
  seal: string;
  /** The blocks that it will hold. */
  own: Block[];
  blocks: Position[];
}

/**
 * Opens a run folder to read it.
 * @throws {RefusedInput} when it holds no run, one of another version, or one that is not as it was written
 */
export async function readFolder(path: string): Promise<RunFolder> {
  await requireOwnFiles(path);
  const { config, seal } = await readConfig(path);
  const own = blocksOfPart(config.protocol, config.part);
  return { path, config, seal, own, blocks: await readBlocks({ path, seal, own }) };
}

/**
 * Requires that a run can begin in a folder, or go on in it. Needs no model.
 * @throws {RefusedInput} for a file, for a folder of something else, and as `readFolder`
 */
export async function requireRunPlace(path: string): Promise<void> {
  const found = await stat(path).catch(() => null);
  if (found === null) return;
  if (found.isDirectory() && (await exists(configFile(path)))) return void (await readFolder(path));
  const names = found.isDirectory() ? (await readdir(path)).filter((name) => !LEFT_BEHIND.test(name)) : [];
  if (found.isDirectory() && names.length === 0) return;
  throw new RefusedInput("a run cannot be written here", {
    where: path,
    found: found.isDirectory() ? `a folder without run.json that holds ${names.slice(0, 3).join(", ")}` : "a file",
    expected: "a folder that is new, empty or of this run",
    hint: found.isDirectory() ? `--out ${join(path, "NAME")}` : "another --out",
  });
}

/** Names of what a process that was killed while it began a run leaves behind, and of the folder of its parts. */
const LEFT_BEHIND = /^run\.lock$|^parts$|\.(part|probe)$/;

export function configFile(path: string): string {
  return join(path, "run.json");
}

export function fileOf(path: string, name: RerunFile | SealedFile): string {
  return join(path, `${name}.jsonl`);
}

/** Anchor that the first line of a sealed file follows: no line fits another file or another run. */
export const anchorOf = (seal: string, name: SealedFile | "open-block") => `${seal} ${name}`;

async function readConfig(path: string): Promise<{ config: RunConfig; seal: string }> {
  const file = configFile(path);
  const value = (await readJsonFile(file)) as { format?: unknown; seal?: unknown } | null;
  const format = value?.format;
  if (format !== FORMAT) {
    const older = /^wise-lab run, version [123]$/.test(String(format));
    throw new RefusedInput(older ? "a run in an older form" : "not the folder of a run", {
      where: file,
      found: format ?? value,
      expected: `a run.json of the form "${FORMAT}"`,
      ...(older ? { hint: `wise-lab convert ${path} NEWFOLDER` } : {}),
    });
  }
  const parsed = configSchema.safeParse(unsealed(value, FORMAT, file));
  if (parsed.success) return { config: parsed.data, seal: String(value?.seal) };
  throw new RefusedInput("not the folder of a run", {
    where: file,
    found: z.prettifyError(parsed.error),
    expected: `a run.json of the form "${FORMAT}"`,
  });
}

async function readBlocks({ path, seal, own }: Omit<RunFolder, "config" | "blocks">): Promise<Position[]> {
  const file = fileOf(path, "blocks");
  const lost = existsSync(file) ? undefined : RERUN_FILES.find((name) => readIfThere(fileOf(path, name)).length > 0);
  if (lost !== undefined) {
    throw damaged(file, { found: `no such file, beside ${lost}.jsonl`, expected: "the ends of the finished blocks" });
  }
  const { values } = await readSealedLines(file, anchorOf(seal, "blocks"));
  return values.map((value, i) => {
    const parsed = positionSchema.safeParse(value);
    const block = own[i]?.index;
    if (parsed.success && parsed.data.block === block) return parsed.data;
    throw damaged(`${file}:${i + 1}`, {
      found: value,
      expected: block === undefined ? "no line" : `the end of block ${block}`,
    });
  });
}

/** @throws {RefusedInput} when none stands there although edits were made */
export async function readEnvironmentLines(folder: RunFolder, edits: number): Promise<SealedLines> {
  const lines = await readSealed(folder, "environment");
  if (lines.values.length > 0 || edits === 0) return lines;
  throw damaged(fileOf(folder.path, "environment"), { found: "no line", expected: `what computed the ${edits} edits` });
}

/** The lines of a sealed file, or its first ones. */
export function readSealed({ path, seal }: RunFolder, name: SealedFile, most?: number): Promise<SealedLines> {
  return readSealedLines(fileOf(path, name), anchorOf(seal, name), most);
}

/** The file with the edits of a finished block, where they were asked for. */
export function savedEditsFile(path: string, block: number): string {
  return join(path, "saved-edits", `block-${String(block).padStart(4, "0")}.safetensors`);
}

/** The last position that a folder names: a safe point, or else the end of a finished block. */
export function endOf({ blocks }: RunFolder, open: Position | null = null): Reached {
  return open ?? blocks.at(-1) ?? BEGINNING;
}

/**
 * The part of a file that was sealed, and the state of its sha256 behind it.
 * @param open the safe point that stands behind the finished blocks, if any
 * @throws {RefusedInput} naming the block, when it is not as it was written
 */
export function readKept(
  { path, blocks }: RunFolder,
  name: RerunFile,
  open: Position | null = null,
): { bytes: Buffer; hash: Hash } {
  const found = readIfThere(fileOf(path, name));
  const hash = createHash("sha256");
  let start = 0;
  for (const { block, files } of open === null ? blocks : [...blocks, open]) {
    const { bytes, sha256 } = files[name];
    hash.update(found.subarray(start, bytes));
    start = bytes;
    if (found.length >= bytes && hash.copy().digest("hex") === sha256) continue;
    throw damaged(`${fileOf(path, name)}, lines of block ${block}`, {
      found: found.length < bytes ? `${found.length} bytes` : "other bytes than were written",
      expected: `the ${bytes} bytes that blocks.jsonl says were written up to there`,
    });
  }
  return { bytes: found.subarray(0, start), hash };
}

/** The seconds of the edits that are kept. @throws {RefusedInput} when some are missing */
export async function readTimings(folder: RunFolder, open: Position | null = null): Promise<SealedLines> {
  const { edits } = endOf(folder, open);
  const lines = await readSealed(folder, "timings", edits);
  if (lines.values.length === edits) return lines;
  throw damaged(fileOf(folder.path, "timings"), {
    found: `${lines.values.length} lines`,
    expected: `${edits}, one for each edit`,
  });
}

export function readIfThere(file: string): Buffer {
  return existsSync(file) ? readFileSync(file) : Buffer.alloc(0);
}

/** Whole lines that a kill left in a file behind its kept part. */
export function tornTail(path: string, name: RerunFile, kept: number): unknown[] {
  const bytes = readIfThere(fileOf(path, name)).subarray(kept);
  const lines = bytes.toString("utf8").split("\n").slice(0, -1);
  return lines.flatMap((line) => {
    try {
      return [JSON.parse(line) as unknown];
    } catch {
      return []; // torn, and cut off
    }
  });
}

/** Text of each token, by its id. */
export function tokensIn(bytes: Uint8Array): Map<number, string> {
  const lines = parseLines(bytes) as { id: number; text: string }[];
  return new Map(lines.map(({ id, text }) => [id, text]));
}

/** The whole lines in some bytes. */
export function parseLines(bytes: Uint8Array): unknown[] {
  const lines = new TextDecoder().decode(bytes).split("\n").slice(0, -1);
  return lines.map((line) => JSON.parse(line) as unknown);
}

/** @returns the refusal of a run folder that is not as it was written */
export function damaged(where: string, { found, expected }: { found: unknown; expected: string }): RefusedInput {
  return new RefusedInput("a run folder is damaged", {
    where,
    found,
    expected,
    hint: "a copy of the folder, where there is one; else the same command with another --out",
  });
}
