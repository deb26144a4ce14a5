import { readdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { RefusedInput } from "../core/errors.js";
import { exists, readJsonFile, writeFileAtomic } from "../core/files.js";
import { unsealed, withSeal } from "../core/seal.js";
import { checked } from "../model/schema.js";
import type { RunPart } from "./blocks.js";
import { refuseOther } from "./folder.js";
import { configFile, configSchema, protocolSchema, type RunFolder, readFolder } from "./folder-files.js";
import type { RunConfig } from "./output.js";
import { shellLine } from "./words.js";

/*
 * The parts of a run, which any number of processes and machines make, stand in a folder of the run's:
 *   parts/3-of-6/         a run folder with the third of six parts of its blocks
 *   parts/prepared.json   what was made once for all of them: the run, with its context templates; sealed
 *   parts/command.json    the words of the command that makes them, without the part
 * `joinParts` (join.ts) makes the run of them.
 */

const PREPARED = "wise-lab prepared run, version 1";

export const partsFolder = (run: string) => join(run, "parts");
const preparedFile = (parts: string) => join(parts, "prepared.json");
const commandFile = (parts: string) => join(parts, "command.json");

/** The run folder of a part. */
export function partFolder(run: string, { index, of }: RunPart): string {
  return join(partsFolder(run), `${index}-of-${of}`);
}

/** Notes what was made for all parts of a run. */
export function writePrepared(run: string, config: RunConfig): Promise<void> {
  const text = JSON.stringify(withSeal({ format: PREPARED, ...config }, PREPARED), null, 2);
  return writeFileAtomic(preparedFile(partsFolder(run)), `${text}\n`);
}

/** The run that was prepared; null where none was. @throws {RefusedInput} when it is not as it was written */
export async function readPrepared(run: string): Promise<RunConfig | null> {
  return preparedIn(partsFolder(run));
}

async function preparedIn(parts: string): Promise<RunConfig | null> {
  const file = preparedFile(parts);
  if (!(await exists(file))) return null;
  return checked(configSchema, unsealed(await readJsonFile(file), PREPARED, file), file);
}

/** Notes the words of the command that makes the parts of a run; those of the first stand. */
export async function writeCommand(run: string, words: readonly string[]): Promise<void> {
  const file = commandFile(partsFolder(run));
  if (!(await exists(file))) await writeFileAtomic(file, `${JSON.stringify(words)}\n`);
}

/** The command that makes a part of a run. */
export async function commandOf(run: string, { index, of }: RunPart): Promise<string> {
  const file = commandFile(partsFolder(run));
  const words = (await exists(file)) ? ((await readJsonFile(file)) as string[]) : ["wise-lab", "run", "..."];
  return shellLine([...words, `--part=${index}/${of}`]);
}

/** One part of a run as it stands. */
export interface PartState {
  part: RunPart;
  /** Null when it has not begun. */
  folder: RunFolder | null;
  finished: boolean;
}

/**
 * The parts of a run, those that have not begun included.
 * @param of how many there are to be; by default what the folders say
 * @throws {RefusedInput} where there are none, where they are parts of another division or of another run, and for one
 *   that is not as it was written
 */
export async function readParts(run: string, of?: number): Promise<PartState[]> {
  const parts = partsFolder(run);
  const names = (await readdir(parts).catch(() => [])).filter((name) => /^\d+-of-\d+$/.test(name));
  const counts = [
    ...new Set([...names.map((name) => Number(name.split("-of-")[1])), ...(of === undefined ? [] : [of])]),
  ];
  const [count] = counts;
  if (count === undefined || counts.length > 1) {
    throw new RefusedInput(count === undefined ? "a run without parts" : "parts of different divisions of a run", {
      where: parts,
      found: count === undefined ? "no folder of a part" : counts.map((n) => `parts of ${n}`).join(", "),
      expected: "the parts of one division, as 1-of-6 to 6-of-6",
      hint: count === undefined ? `wise-lab run ... --part 1/6 --out ${run}` : "take the others away, or another --out",
    });
  }
  const states: PartState[] = [];
  for (let index = 1; index <= count; index++) {
    const part = { index, of: count };
    const path = partFolder(run, part);
    const folder = (await exists(configFile(path))) ? await readFolder(path) : null;
    if (folder !== null) {
      refuseOther(path, folder.config.part ?? {}, part);
      await requireSameRun(path, folder.config);
    }
    states.push({ part, folder, finished: folder !== null && folder.blocks.length === folder.own.length });
  }
  return states;
}

/**
 * Requires that a part belongs to the same run as what stands beside it: what was prepared, or another part.
 * @throws {RefusedInput} with the fields that differ
 */
export async function requireSameRun(path: string, config: RunConfig): Promise<void> {
  if (config.part === undefined) return;
  const parts = dirname(path);
  const siblings = (await readdir(parts)).filter((name) => /^\d+-of-\d+$/.test(name)).map((name) => join(parts, name));
  const [sibling] = siblings.filter((name) => name !== path).sort();
  const known = await exists(configFile(sibling ?? ""));
  const standing = (await preparedIn(parts)) ?? (known ? (await readFolder(sibling as string)).config : null);
  if (standing !== null) refuseOther(sibling ?? parts, wholeRun(standing), wholeRun(config));
}

/** The run that a part is of. */
export function wholeRun({ part: _, protocol, ...rest }: RunConfig): RunConfig {
  return { protocol: protocolSchema.parse(protocol), ...rest };
}
