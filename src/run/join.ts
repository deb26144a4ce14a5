import { copyFile } from "node:fs/promises";
import { RefusedInput } from "../core/errors.js";
import { canonicalJson } from "../core/hash.js";
import { hashSavedEdits } from "../edit/saved.js";
import type { EnvironmentChange } from "./environment.js";
import { readEnvironments, readRun } from "./folder.js";
import { damaged, type RunFolder, savedEditsFile } from "./folder-files.js";
import { openRunFolder } from "./folder-writer.js";
import { linesOfBlock, type RunOutput, writeBlock } from "./output.js";
import { commandOf, type PartState, partsFolder, readParts, wholeRun } from "./parts.js";
import type { RunResult } from "./types.js";

/** A run that was joined from its parts, and what computed them: one entry, and another wherever that changed. */
export interface Joined {
  run: RunResult;
  parts: number;
  environments: EnvironmentChange[];
}

/**
 * Writes the run whose parts stand in `run`/parts. Its files are the same bytes as those of one process, but for the
 * seconds and, where the parts were computed on different machines, the environments. Stopped, it goes on.
 * @param options `out`: where it is written, `run` itself by default
 * @throws {RefusedInput} for parts of different runs, and for missing ones, with the command that makes each
 */
export async function joinParts(
  run: string,
  { out = run, onNotice }: { out?: string | undefined; onNotice?: ((line: string) => void) | undefined } = {},
): Promise<Joined> {
  const parts = await finishedParts(run);
  const texts = new Map<number, string>();
  const environments: EnvironmentChange[] = [];
  for (const { path, own } of parts) {
    for (const [token, text] of (await readRun(path)).tokens) texts.set(token, text);
    const first = own[0]?.start ?? 0;
    const found = await readEnvironments(path);
    environments.push(...found.map(({ fromEdit, ...rest }) => ({ fromEdit: first + fromEdit, ...rest })));
  }
  const output = await openRunFolder(out, wholeRun((parts[0] as RunFolder).config), {
    environment: (edits) => {
      const { fromEdit: _, ...now } = environments.findLast(({ fromEdit }) => fromEdit <= edits) as EnvironmentChange;
      return now;
    },
    textOf: (token) => texts.get(token) as string,
    onNotice,
  });
  try {
    requireWholeBlocks(out, output);
    for (const part of parts) await copyBlocks(part, output);
  } finally {
    output.close();
  }
  return { run: await readRun(out), parts: parts.length, environments: await readEnvironments(out) };
}

/** @throws {RefusedInput} naming every part that is not finished */
async function finishedParts(run: string): Promise<RunFolder[]> {
  const states = await readParts(run);
  const gaps = states.filter(({ finished }) => !finished);
  if (gaps.length === 0) return states.map(({ folder }) => folder as RunFolder);
  throw new RefusedInput("parts of the run are missing", {
    where: partsFolder(run),
    found: gaps.map(partText).join("; "),
    expected: `all ${states.length} parts, finished`,
    hint: (await Promise.all(gaps.map(({ part }) => commandOf(run, part)))).join("\n       "),
  });
}

/** A part in words: "3 of 6: 4 of 10 blocks". */
function partText({ part, folder }: PartState): string {
  const stands = folder === null ? "not begun" : `${folder.blocks.length} of ${folder.own.length} blocks`;
  return `${part.index} of ${part.of}: ${stands}`;
}

/** @throws {RefusedInput} where a run of one process is in the middle of a block */
function requireWholeBlocks(out: string, { start }: RunOutput): void {
  if (start.state === null) return;
  throw new RefusedInput("a run of one process has begun here", {
    where: out,
    found: `block ${start.block}, in the middle`,
    expected: "no run, or whole blocks",
    hint: "--out FOLDER",
  });
}

/** Copies the blocks of a part that the run does not have yet. */
async function copyBlocks({ path, own, blocks }: RunFolder, output: RunOutput): Promise<void> {
  const run = await readRun(path);
  const offset = own[0]?.start ?? 0;
  for (const [i, block] of own.entries()) {
    if (block.index < output.start.block) continue;
    const lines = linesOfBlock(run, { ...block, start: block.start - offset, end: block.end - offset });
    await writeBlock({ block: block.index, lines }, output, async (to) => {
      const file = savedEditsFile(path, block.index);
      const { saved } = blocks[i] as { saved: string | null };
      await copyFile(file, to);
      const found = await hashSavedEdits(to);
      if (saved === found) return saved;
      throw damaged(file, { found: `edits with sha256 ${found}`, expected: `those of block ${block.index}, ${saved}` });
    });
  }
}

/** Difference of two runs of one protocol. */
export interface RunDifference {
  /** Scored records, and those of them that are not the same to the last bit. */
  scores: number;
  differ: number;
}

/** Compares the scores of two runs. @throws {RefusedInput} when they are not of one protocol */
export function differenceOf(one: RunResult, other: RunResult): RunDifference {
  if (canonicalJson(one.protocol) !== canonicalJson(other.protocol)) {
    throw new RefusedInput("runs of different protocols", {
      where: `${one.folder} and ${other.folder}`,
      found: "two protocols",
      expected: "one",
    });
  }
  const scores = Math.max(one.scores.length, other.scores.length);
  const same = one.scores.filter((score, i) => canonicalJson(score) === canonicalJson(other.scores[i] ?? null)).length;
  return { scores, differ: scores - same };
}
