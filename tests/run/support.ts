import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { openSealedLines } from "../../src/core/seal.js";
import { blocksOf } from "../../src/run/blocks.js";
import type { Environment } from "../../src/run/environment.js";
import { anchorOf, fileOf, readFolder, readSealed, type SealedFile } from "../../src/run/folder-files.js";
import { openRunFolder } from "../../src/run/folder-writer.js";
import { type Lab, openLab } from "../../src/run/lab.js";
import type { RunConfig } from "../../src/run/output.js";
import type { RunResult } from "../../src/run/types.js";
import { goldenRecords } from "../edit/support.js";
import { temporaryFolder } from "../model/support.js";
import { golden, repository } from "../support/shared.js";

/** Few steps, and merges within a block. */
export const QUICK = ["n_iter=2", "save_freq=2", "merge_freq=4"];

/** The golden checkpoint with random weights, and its six made-up facts as records: all that a run needs, in no time. */
export const TINY_MODEL = join(golden, "tiny-llama3");
export const TINY_RECORDS = join(repository, "tests/fixtures/tiny-records.json");

/** The golden checkpoint with quick options; it runs on its own records where a request names none. */
export async function openQuickLab(...set: string[]): Promise<Lab> {
  const lab = await openLab({ model: TINY_MODEL, hparams: { set: [...QUICK, ...set] } });
  const run: Lab["run"] = (request) => lab.run({ data: TINY_RECORDS, ...request });
  return Object.assign(Object.create(lab) as Lab, { run });
}

/** A records file of `count` records: the golden ones over and over. `change` may damage one. */
export async function recordsFile(
  count: number,
  change: (record: Record<string, unknown>, index: number) => void = () => {},
): Promise<string> {
  const records = Array.from({ length: count }, (_, i) => {
    const record: Record<string, unknown> = { ...goldenRecords.records[i % goldenRecords.records.length] };
    change(record, i);
    return record;
  });
  const path = join(await temporaryFolder(), "records.json");
  await writeFile(path, JSON.stringify(records));
  return path;
}

/** Every file of a run, but for the times: the same however often it was made, and interrupted. */
export async function bytesOfRun(folder: string): Promise<Record<string, string>> {
  const bytes: Record<string, string> = {};
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isDirectory() || entry.name === "timings.jsonl") continue;
    bytes[relative(folder, path)] = await readFile(path, "latin1");
  }
  return bytes;
}

/** Changes the lines of a sealed file of a run, and seals them anew. */
export async function rewriteSealed(out: string, name: SealedFile, change: (line: object) => object): Promise<void> {
  const folder = await readFolder(out);
  const { values } = await readSealed(folder, name);
  await rm(fileOf(out, name));
  const file = openSealedLines(fileOf(out, name), { goodBytes: 0, seal: anchorOf(folder.seal, name) });
  for (const value of values) file.append(change(value));
  file.close();
}

export const sampleEnvironment: Environment = {
  wiseLab: "0.1.0",
  node: "v20.19.0",
  tensorflowJs: "4.22.0",
  backend: "cpu 4.22.0 cpu, 1 thread",
  platform: "linux x64",
  processor: "a processor, 2 cores",
};

/** Opens a run folder as a runner does. */
export function openFolderOf(path: string, config: Pick<RunConfig, "protocol"> & Partial<RunConfig>) {
  const full: RunConfig = { templates: ["{}"], scoreSteps: [], saveEdits: false, ...config };
  return openRunFolder(path, full, { environment: sampleEnvironment, textOf: (token) => `<${token}>` });
}

/** Writes a run that was made up to a folder, as a runner does, up to a block. */
export async function writeRun(
  path: string,
  { protocol, edits, scores }: RunResult,
  {
    stopBefore = Number.POSITIVE_INFINITY,
    templates = ["{}"],
  }: { stopBefore?: number | undefined; templates?: readonly string[] } = {},
): Promise<string> {
  const folder = await openFolderOf(path, { protocol, templates });
  for (const { index, start, end } of blocksOf(protocol.records, protocol.T)) {
    if (index >= stopBefore) break;
    for (const edit of edits.slice(start, end)) folder.edit(edit);
    for (const score of scores.slice(start, end)) folder.score(score);
    await folder.finishBlock(index, async () => "");
  }
  folder.close();
  return path;
}

/** End of a process: the signal that ended it, or else its status. */
export interface Ended {
  status: number | null;
  signal: string | null;
  stdout: string;
  stderr: string;
}

/** The command that starts the built command line. */
export const WISE_LAB = [process.execPath, join(repository, "dist/cli.js")] as const;

/** The built command line as a process of its own. */
export function startWiseLab(...args: string[]): { child: ChildProcess; ended: Promise<Ended> } {
  return startProgram(...WISE_LAB, ...args);
}

/** Any program as a process of its own. */
export function startProgram(program: string, ...args: string[]): { child: ChildProcess; ended: Promise<Ended> } {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
  const output = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name].setEncoding("utf8").on("data", (text: string) => {
      output[name] += text;
    });
  }
  const ended = once(child, "close").then(([status, signal]) => ({ status, signal, ...output }) as Ended);
  return { child, ended };
}

/** Runs the built command line to its end. */
export const wiseLab = (...args: string[]): Promise<Ended> => startWiseLab(...args).ended;
