import { existsSync } from "node:fs";
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { makeFolder, requireWritableFolder, writeFileAtomic } from "../core/files.js";
import { type JsonlWriter, openJsonl } from "../core/jsonl.js";
import type { RecordScore } from "../eval/types.js";
import { type Environment, type EnvironmentChange, environmentChanges } from "./environment.js";
import {
  configFile,
  FORMAT,
  fileOf,
  keptBytes,
  type LineFile,
  RERUN_FILES,
  readBlocks,
  readEnvironments,
  readLines,
  readRun,
  readRunConfig,
  readTokens,
  refuseOther,
  savedEditsFile,
} from "./folder.js";
import { lockFolder } from "./lock.js";
import { readOpenBlock, removeOpenBlock, stateFile, writeOpenBlock } from "./open-block.js";
import { newTokens, type RunConfig, type RunOutput, type RunStart, type SaveEdits } from "./output.js";
import { BEGINNING, type Position } from "./position.js";

export interface RunFolderOptions {
  /** Environment of this process. */
  environment: Environment;
  textOf: (token: number) => string;
  /** Told when the run goes on in an environment that is not the one it began in. */
  onNotice?: ((line: string) => void) | undefined;
}

/**
 * Opens a run folder, new or interrupted, and locks it against other processes.
 * @throws {RefusedInput} when it is not writable, used by another process, or holds a run of another configuration
 * (with the first field that differs)
 */
export async function openRunFolder(path: string, config: RunConfig, options: RunFolderOptions): Promise<RunOutput> {
  await requireWritableFolder(path);
  const unlock = lockFolder(path);
  try {
    await removeDrafts(path);
    await requireSameRun(path, config);
    const finished = await readBlocks(path);
    const open = await readOpenBlock(path, finished.length);
    const end = open ?? finished.at(-1) ?? BEGINNING;
    const kept = keptBytes(path, end);
    const lines = (name: LineFile) => openJsonl(fileOf(path, name), { keepBytes: kept[name] });
    const files = Object.fromEntries([...RERUN_FILES, "timings" as const].map((name) => [name, lines(name)])) as Record<
      LineFile,
      JsonlWriter
    >;
    const tokens = readTokens(path, kept.tokens);
    const { goodBytes } = await readLines(path, "blocks");
    const blocks = openJsonl(fileOf(path, "blocks"), { keepBytes: goodBytes, fsync: true });
    const environment = await openEnvironment(path, end.edits, options);
    const { edits, scores } = end;
    const start = { block: finished.length, edits, scores, state: open && stateFile(path, open) };
    return writer(path, { config, files, blocks, tokens, environment, start, unlock, textOf: options.textOf });
  } catch (error) {
    unlock();
    throw error;
  }
}

interface Open {
  config: RunConfig;
  files: Record<LineFile, JsonlWriter>;
  blocks: JsonlWriter;
  tokens: Map<number, string>;
  /** Called before the first line of this process. */
  environment: () => void;
  start: RunStart;
  unlock: () => void;
  textOf: (token: number) => string;
}

function writer(path: string, { config, files, blocks, tokens, environment, start, unlock, textOf }: Open): RunOutput {
  let { edits, scores } = start;

  function learn(score: RecordScore): void {
    environment();
    for (const id of newTokens(score, tokens)) {
      const text = textOf(id);
      tokens.set(id, text);
      files.tokens.append({ id, text });
    }
  }

  /** Position of the line files, once all of them are on the disk. */
  function settle(): Position {
    for (const file of Object.values(files)) file.sync();
    const bytes = Object.fromEntries(RERUN_FILES.map((name) => [name, files[name].size()])) as Position["bytes"];
    return { edits, scores, bytes };
  }

  return {
    start,
    edit({ seconds, ...trace }) {
      environment();
      files.edits.append(trace);
      files.timings.append({ record: trace.record, ...seconds });
      edits += 1;
    },
    score(score) {
      learn(score);
      files.scores.append(score);
      scores += 1;
    },
    stepScore(score) {
      learn(score);
      files.steps.append(score);
    },
    keep: (block, save) => writeOpenBlock(path, { block, ...settle() }, save),
    async finishBlock(block, save) {
      if (config.saveEdits) await saveBlock(path, block, save);
      blocks.append({ block, ...settle() });
      await removeOpenBlock(path);
    },
    close() {
      for (const file of [...Object.values(files), blocks]) file.close();
      unlock();
    },
    result: () => readRun(path),
  };
}

async function saveBlock(path: string, block: number, save: SaveEdits): Promise<void> {
  await makeFolder(join(path, "saved-edits"));
  await save(savedEditsFile(path, block));
}

/** Removes the drafts of a process that was killed in the middle of writing a file whole. */
async function removeDrafts(path: string): Promise<void> {
  for (const folder of [path, join(path, "saved-edits")].filter((name) => existsSync(name))) {
    const drafts = (await readdir(folder)).filter((name) => /\.(part|probe)$/.test(name));
    await Promise.all(drafts.map((name) => rm(join(folder, name), { force: true })));
  }
}

/** @returns function to call before a line is written: the first call writes this environment, if it is a new one */
async function openEnvironment(
  path: string,
  fromEdit: number,
  { environment, onNotice }: RunFolderOptions,
): Promise<() => void> {
  const { goodBytes } = await readLines(path, "environment");
  const before = (await readEnvironments(path)).at(-1);
  const changes = before === undefined ? [] : environmentChanges(before, environment);
  let written = before !== undefined && changes.length === 0;
  return () => {
    if (written) return;
    written = true;
    if (changes.length > 0) {
      onNotice?.(`the run goes on in another environment, and may differ in the last bits: ${changes.join("; ")}`);
    }
    const lines = openJsonl(fileOf(path, "environment"), { keepBytes: goodBytes, fsync: true });
    lines.append({ fromEdit, ...environment } satisfies EnvironmentChange);
    lines.close();
  };
}

async function requireSameRun(path: string, config: RunConfig): Promise<void> {
  const file = configFile(path);
  if (!existsSync(file)) {
    await writeFileAtomic(file, `${JSON.stringify({ format: FORMAT, ...config }, null, 2)}\n`);
    return;
  }
  const fields = ({ protocol, ...rest }: RunConfig) => ({ ...protocol, ...rest });
  refuseOther(path, fields(await readRunConfig(path)), fields(config));
}
