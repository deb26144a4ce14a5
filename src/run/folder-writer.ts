import type { Hash } from "node:crypto";
import { existsSync } from "node:fs";
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { makeFolder, requireWritableFolder, writeFileAtomic } from "../core/files.js";
import { type JsonlWriter, openJsonl } from "../core/jsonl.js";
import { openSealedLines, withSeal } from "../core/seal.js";
import type { RecordScore } from "../eval/types.js";
import { type Environment, type EnvironmentChange, environmentChanges } from "./environment.js";
import { readRun, refuseOther } from "./folder.js";
import {
  configFile,
  damaged,
  endOf,
  FORMAT,
  fileOf,
  protocolSchema,
  type RunFolder,
  readEnvironmentLines,
  readFolder,
  readKept,
  readSealed,
  readTimings,
  requireRunPlace,
  savedEditsFile,
  tokensIn,
  tornTail,
} from "./folder-files.js";
import { lockFolder } from "./lock.js";
import {
  openBlockFolder,
  readOpenBlock,
  removeAllBut,
  removeOpenBlock,
  stateFile,
  writeOpenBlock,
} from "./open-block.js";
import { newTokens, type RunConfig, type RunOutput, type SaveEdits, startAfter } from "./output.js";
import { requireOwnFiles } from "./own-files.js";
import { requireSameRun } from "./parts.js";
import { type Position, RERUN_FILES, type RerunFile } from "./position.js";

export interface RunFolderOptions {
  /** Environment after so many edits of the run: the environment of this process, if nothing else is known. */
  environment: Environment | ((edits: number) => Environment);
  textOf: (token: number) => string;
  /** Take it over from an owner of which nothing can be known from here. */
  takeOver?: boolean | undefined;
  /** Told when the run goes on in an environment that is not the one it began in, or was taken over. */
  onNotice?: ((line: string) => void) | undefined;
}

/**
 * Opens a run folder, new or interrupted, and locks it against other processes.
 * @throws {RefusedInput} when it is not writable, used by another process, holds a run of another configuration (with the
 * first field that differs), or is not as it was written; it is then left as it stands
 */
export async function openRunFolder(path: string, config: RunConfig, options: RunFolderOptions): Promise<RunOutput> {
  await requireRunPlace(path);
  await requireWritableFolder(path);
  await requireOwnFiles(path, { alone: true });
  const unlock = lockFolder(path, options);
  try {
    const folder = await openSame(path, config);
    const open = await readOpenBlock(folder);
    const kept = mapFiles((name) => readKept(folder, name, open));
    const timings = await readTimings(folder, open);
    requireOneBlockBehind(folder, kept);
    const environment = await openEnvironment(folder, endOf(folder, open).edits, options);
    await removeDrafts(path);
    await (open === null ? removeOpenBlock(path) : removeAllBut(path, open));

    const blocks = openSealedLines(fileOf(path, "blocks"), await readSealed(folder, "blocks"), { fsync: true });
    const files = mapFiles((name): HashedFile => {
      const { bytes, hash } = kept[name];
      return { lines: openJsonl(fileOf(path, name), { keepBytes: bytes.length }), hash };
    });
    const seconds = openSealedLines(fileOf(path, "timings"), timings);
    return writer(folder, {
      files,
      seconds,
      blocks,
      tokens: tokensIn(kept.tokens.bytes),
      environment,
      open,
      unlock,
      textOf: options.textOf,
    });
  } catch (error) {
    unlock();
    throw error;
  }
}

/** A line file, and the state of its sha256. */
interface HashedFile {
  lines: JsonlWriter;
  hash: Hash;
}

function mapFiles<T>(of: (name: RerunFile) => T): Record<RerunFile, T> {
  return Object.fromEntries(RERUN_FILES.map((name) => [name, of(name)])) as Record<RerunFile, T>;
}

interface Open {
  files: Record<RerunFile, HashedFile>;
  seconds: JsonlWriter;
  blocks: JsonlWriter;
  tokens: Map<number, string>;
  /** `note` is called before every line, with the edits that stand before it. */
  environment: { note(edits: number): void; close(): void };
  open: Position | null;
  unlock: () => void;
  textOf: (token: number) => string;
}

function writer(
  folder: RunFolder,
  { files, seconds, blocks, tokens, environment, open, unlock, textOf }: Open,
): RunOutput {
  const { path, seal, config } = folder;
  let { edits, scores } = endOf(folder, open);
  let kept = open;

  function append(name: RerunFile, value: unknown): void {
    const { lines, hash } = files[name];
    hash.update(lines.append(value));
  }

  function learn(score: RecordScore): void {
    environment.note(edits);
    for (const id of newTokens(score, tokens)) {
      const text = textOf(id);
      tokens.set(id, text);
      append("tokens", { id, text });
    }
  }

  /** Position of the line files, once all of them are on the disk. */
  function settle(block: number, saved: string | null): Position {
    for (const file of [seconds, ...Object.values(files).map(({ lines }) => lines)]) file.sync();
    const parts = mapFiles((name) => {
      const { lines, hash } = files[name];
      return { bytes: lines.size(), sha256: hash.copy().digest("hex") };
    });
    return { block, edits, scores, files: parts, saved };
  }

  return {
    start: {
      ...startAfter(config, { blocks: folder.blocks.length, edits, scores }),
      state: open && { file: stateFile(path, open), sha256: open.saved as string },
    },
    edit({ seconds: spent, ...trace }) {
      environment.note(edits);
      append("edits", trace);
      seconds.append({ record: trace.record, ...spent });
      edits += 1;
    },
    score(score) {
      learn(score);
      append("scores", score);
      scores += 1;
    },
    stepScore(score) {
      learn(score);
      append("steps", score);
    },
    checkpointScore(score) {
      learn(score);
      append("checkpoints", score);
    },
    async keep(block, save) {
      await makeFolder(openBlockFolder(path));
      // While records are scored, the edits stay the same.
      const saved = kept?.edits === edits ? kept.saved : await save(stateFile(path, { edits }));
      kept = settle(block, saved);
      await writeOpenBlock(path, seal, kept);
    },
    async finishBlock(block, save) {
      const saved = config.saveEdits ? await saveBlock(path, block, save) : null;
      blocks.append(settle(block, saved));
      await removeOpenBlock(path);
      kept = null;
    },
    close() {
      for (const file of [...Object.values(files).map(({ lines }) => lines), seconds, blocks]) file.close();
      environment.close();
      unlock();
    },
    result: () => readRun(path),
  };
}

async function saveBlock(path: string, block: number, save: SaveEdits): Promise<string> {
  await makeFolder(join(path, "saved-edits"));
  return save(savedEditsFile(path, block));
}

/**
 * Requires that what stands behind the kept part is of the block that is being made: of others nothing may be cut off.
 * @throws {RefusedInput} when blocks.jsonl lacks ends of blocks that were finished
 */
function requireOneBlockBehind(
  { path, config, own, blocks }: RunFolder,
  kept: Record<RerunFile, { bytes: Buffer }>,
): void {
  const { records } = config.protocol;
  const { start, end } = own[blocks.length] ?? { start: records, end: records };
  for (const name of ["edits", "scores"] as const) {
    const tail = tornTail(path, name, kept[name].bytes.length) as { record?: unknown }[];
    const beyond = tail.find(({ record }) => !(Number(record) >= start && Number(record) < end));
    if (beyond === undefined) continue;
    throw damaged(fileOf(path, "blocks"), {
      found: `${blocks.length} blocks, and record ${String(beyond.record)} in ${name}.jsonl behind them`,
      expected: `the end of every block but the one that was being made, records ${start} to ${end - 1}`,
    });
  }
}

/** Removes the drafts of a process that was killed in the middle of writing a file whole. */
async function removeDrafts(path: string): Promise<void> {
  for (const folder of [path, join(path, "saved-edits")].filter((name) => existsSync(name))) {
    const drafts = (await readdir(folder)).filter((name) => /\.(part|probe)$/.test(name));
    await Promise.all(drafts.map((name) => rm(join(folder, name), { force: true })));
  }
}

/** The file of what computed a run: it gets a line whenever that is new. */
async function openEnvironment(
  folder: RunFolder,
  fromEdit: number,
  { environment, onNotice }: RunFolderOptions,
): Promise<Open["environment"]> {
  const environmentAt = typeof environment === "function" ? environment : () => environment;
  const standing = await readEnvironmentLines(folder, fromEdit);
  let last = standing.values.at(-1) as unknown as Environment | undefined;
  let file: JsonlWriter | undefined;
  return {
    note(edits) {
      const now = environmentAt(edits);
      if (now === last) return;
      const changes = last === undefined ? null : environmentChanges(last, now);
      last = now;
      if (changes?.length === 0) return;
      if (changes !== null) {
        onNotice?.(`the run goes on in another environment, and may differ in the last bits: ${changes.join("; ")}`);
      }
      file ??= openSealedLines(fileOf(folder.path, "environment"), standing, { fsync: true });
      file.append({ fromEdit: edits, ...now } satisfies EnvironmentChange);
    },
    close: () => file?.close(),
  };
}

/** The folder of this run: begun now, or standing. */
async function openSame(path: string, config: RunConfig): Promise<RunFolder> {
  await requireSameRun(path, config);
  const file = configFile(path);
  if (!existsSync(file))
    await writeFileAtomic(file, `${JSON.stringify(withSeal({ format: FORMAT, ...config }, FORMAT), null, 2)}\n`);
  const folder = await readFolder(path);
  const fields = ({ protocol, ...rest }: RunConfig) => ({ ...protocolSchema.parse(protocol), ...rest });
  refuseOther(path, fields(folder.config), fields(config));
  return folder;
}
