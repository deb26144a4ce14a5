import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { RefusedInput } from "../core/errors.js";
import { readJsonFile, requireWritableFolder, writeFileAtomic } from "../core/files.js";
import { canonicalJson, sha256File } from "../core/hash.js";
import { type JsonlWriter, openJsonl, readJsonl } from "../core/jsonl.js";
import type { EditTrace } from "../edit/trace.js";
import type { RecordScore } from "../eval/types.js";
import { blocksOf } from "./blocks.js";
import type { Protocol, RunResult } from "./types.js";

/*
 * A run is a folder that is only appended to:
 *   run.json       the protocol and the context templates, written once
 *   edits.jsonl    one line per edit, in order
 *   timings.jsonl  the seconds of each edit, apart, so that all other files are the same bytes in every rerun
 *   scores.jsonl   one line per scored record
 *   blocks.jsonl   one line per finished block, with where the other files stood at its end
 * What stands behind the last finished block is an interrupted block: resuming cuts it off and makes the block again.
 */

const FORMAT = "wise-lab run, version 1";
const LINE_FILES = ["edits", "timings", "scores"] as const;
type LineFile = (typeof LINE_FILES)[number];

/** A protocol in a file that this project wrote. */
export const protocolSchema = z.custom<Protocol>(
  (value) => typeof value === "object" && value !== null && "T" in value,
  "the protocol of a run",
);

const configSchema = z.object({
  format: z.literal(FORMAT),
  protocol: protocolSchema,
  templates: z.array(z.string()),
});

const count = z.number().int().nonnegative();

/** The end of a block: edits made so far, and the bytes of the files that are the same in every rerun. */
const blockSchema = z.object({
  block: count,
  edits: count,
  bytes: z.object({ edits: count, scores: count }),
});

type BlockEnd = Omit<z.infer<typeof blockSchema>, "block">;

const BEGINNING: BlockEnd = { edits: 0, bytes: { edits: 0, scores: 0 } };

/** What identifies a run: a folder holds one. */
export interface RunConfig {
  protocol: Protocol;
  templates: readonly string[];
}

/** A run folder open for appending, locked against other processes. */
export interface RunFolder {
  readonly path: string;
  /** Blocks that are finished: the run goes on with this one. */
  readonly finishedBlocks: number;
  edit(trace: EditTrace): void;
  score(score: RecordScore): void;
  /** Closes a block: it will not be made again. */
  finishBlock(block: number): void;
  close(): void;
}

/**
 * Opens a run folder, new or interrupted.
 * @throws {RefusedInput} when it is not writable, used by another process, or holds a run of another configuration
 * (with the first field that differs)
 */
export async function openRunFolder(path: string, config: RunConfig): Promise<RunFolder> {
  await requireWritableFolder(path);
  const unlock = lock(path);
  try {
    await requireSameRun(path, config);
    const finished = await readBlocks(path);
    const end = finished.at(-1) ?? BEGINNING;
    const kept = keptBytes(path, end);
    const files = {} as Record<LineFile, JsonlWriter>;
    for (const name of LINE_FILES) files[name] = openJsonl(fileOf(path, name), { keepBytes: kept[name] });
    const blocksFile = fileOf(path, "blocks");
    const goodBytes = existsSync(blocksFile) ? (await readJsonl(blocksFile)).goodBytes : 0;
    const blocks = openJsonl(blocksFile, { keepBytes: goodBytes, fsync: true });
    return writer(path, { files, blocks, end, finishedBlocks: finished.length, unlock });
  } catch (error) {
    unlock();
    throw error;
  }
}

interface Open {
  files: Record<LineFile, JsonlWriter>;
  blocks: JsonlWriter;
  end: BlockEnd;
  finishedBlocks: number;
  unlock: () => void;
}

function writer(path: string, { files, blocks, end, finishedBlocks, unlock }: Open): RunFolder {
  let { edits } = end;
  const bytes = { ...end.bytes };
  const append = (name: "edits" | "scores", value: unknown) => {
    files[name].append(value);
    bytes[name] += Buffer.byteLength(`${JSON.stringify(value)}\n`);
  };
  return {
    path,
    finishedBlocks,
    edit({ seconds, ...trace }) {
      append("edits", trace);
      files.timings.append({ record: trace.record, ...seconds });
      edits += 1;
    },
    score: (score) => append("scores", score),
    finishBlock: (block) => blocks.append({ block, edits, bytes }),
    close() {
      for (const file of [...Object.values(files), blocks]) file.close();
      unlock();
    },
  };
}

/** How much of each file belongs to finished blocks. @throws {RefusedInput} when a file is shorter than that */
function keptBytes(path: string, { edits, bytes }: BlockEnd): Record<LineFile, number> {
  const kept = { ...bytes, timings: endOfLine(readIfThere(fileOf(path, "timings")), edits) };
  for (const name of LINE_FILES) {
    const found = readIfThere(fileOf(path, name)).length;
    if (found >= kept[name]) continue;
    throw new RefusedInput("a run folder is damaged", {
      where: fileOf(path, name),
      found: `${found} bytes, ${edits} edits expected in finished blocks`,
      expected: "all that blocks.jsonl says was finished",
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

/** What identifies the run in a folder. @throws {RefusedInput} when the folder holds none */
export async function readRunConfig(path: string): Promise<RunConfig> {
  const { protocol, templates } = await readConfig(path);
  return { protocol, templates };
}

/** sha256 of the two files that hold what a run found, the same in every rerun. */
export async function hashRun(path: string): Promise<{ edits: string; scores: string }> {
  return { edits: await sha256File(fileOf(path, "edits")), scores: await sha256File(fileOf(path, "scores")) };
}

/** Reads a run, finished or not: the blocks that are finished. @throws {RefusedInput} when the folder holds none */
export async function readRun(path: string): Promise<RunResult> {
  const { protocol } = await readConfig(path);
  const kept = keptBytes(path, (await readBlocks(path)).at(-1) ?? BEGINNING);
  const read = (name: LineFile) => {
    const text = readIfThere(fileOf(path, name)).subarray(0, kept[name]).toString("utf8");
    return text
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as unknown);
  };
  const timings = read("timings") as ({ record: number } & EditTrace["seconds"])[];
  const edits = (read("edits") as Omit<EditTrace, "seconds">[]).map((edit, i): EditTrace => {
    const { frozen, steps } = timings[i] as EditTrace["seconds"];
    return { ...edit, seconds: { frozen, steps } };
  });
  return { protocol, edits, scores: read("scores") as RecordScore[], folder: path };
}

/**
 * Whether the folder holds this run, and all its blocks are finished. Needs no model.
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

function configFile(path: string): string {
  return join(path, "run.json");
}

function fileOf(path: string, name: LineFile | "blocks"): string {
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

async function requireSameRun(path: string, { protocol, templates }: RunConfig): Promise<void> {
  const file = configFile(path);
  if (!existsSync(file)) {
    await writeFileAtomic(file, `${JSON.stringify({ format: FORMAT, protocol, templates }, null, 2)}\n`);
    return;
  }
  const standing = await readConfig(path);
  refuseOther(path, { ...standing.protocol, templates: standing.templates }, { ...protocol, templates });
}

function refuseOther(path: string, standing: object, wanted: object): void {
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

async function readBlocks(path: string): Promise<z.infer<typeof blockSchema>[]> {
  const file = fileOf(path, "blocks");
  if (!existsSync(file)) return [];
  return (await readJsonl(file)).values.map((value, i) => {
    const parsed = blockSchema.safeParse(value);
    if (parsed.success && parsed.data.block === i) return parsed.data;
    throw new RefusedInput("a run folder is damaged", {
      where: `${file}:${i + 1}`,
      found: value,
      expected: `the end of block ${i}`,
    });
  });
}

/** Takes the folder for this process. A lock left by a process that is gone is taken over. */
function lock(path: string): () => void {
  const file = join(path, "run.lock");
  for (;;) {
    try {
      writeFileSync(file, identityOf(process.pid), { flag: "wx" });
      return () => rmSync(file, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
      const owner = readIfThere(file).toString("utf8");
      const pid = Number.parseInt(owner, 10);
      if (isRunning(pid) && identityOf(pid) === owner) {
        throw new RefusedInput("the run folder is in use", {
          where: file,
          found: `process ${pid} is writing to it`,
          expected: "one process per run folder",
          hint: "another --out folder, or wait for that process",
        });
      }
      rmSync(file, { force: true });
    }
  }
}

/**
 * A process by its number and, where the system tells it (Linux), its start: numbers are used again, in containers soon.
 * One that was killed and that nobody has waited for still has its number, and is no owner any more.
 */
function identityOf(pid: number): string {
  const status = readIfThere(`/proc/${pid}/stat`).toString("utf8");
  const fields = status.slice(status.lastIndexOf(")") + 2).split(" "); // of proc(5), from field 3 on
  const start = fields[0] === "Z" ? "ended" : fields[19];
  return `${pid} ${start ?? ""}\n`;
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
