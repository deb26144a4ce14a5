import { readdir, stat } from "node:fs/promises";
import { errorText, RefusedInput } from "../core/errors.js";
import { exists } from "../core/files.js";
import { isFinished, readRun } from "./folder.js";
import { readStudy, studyFolder } from "./study.js";
import type { RunSummary } from "./summary.js";
import { readRunSummary } from "./summary-file.js";
import type { RunResult } from "./types.js";

/**
 * Every finished run in a folder, however deep it lies, in the order of the paths; a run that is not finished has no
 * scores to show yet and is left out.
 * @throws {RefusedInput} for a folder that cannot be read, or a run in it that is damaged
 */
export async function readRuns(folder: string): Promise<RunResult[]> {
  const runs: RunResult[] = [];
  for (const path of await runFolders(folder)) {
    const run = await readRun(path);
    if (await isFinished(path, run.protocol)) runs.push(run);
  }
  return runs;
}

/**
 * The runs that a user names: a summary file's, or every finished one of a folder.
 * @throws {RefusedInput} where there is none, or one is damaged
 */
export async function readRunsAt(path: string): Promise<(RunResult | RunSummary)[]> {
  if ((await stat(path).catch(() => null))?.isFile()) return [await readRunSummary(path)];
  const runs = await readRuns(path);
  if (runs.length > 0) return runs;
  throw new RefusedInput("there is no finished run to show", {
    where: path,
    found: "no run folder whose blocks are all finished",
    expected: "a run folder, a folder of run folders, or the summary of a run",
    hint: "the command that began the run goes on with it",
  });
}

async function runFolders(folder: string): Promise<string[]> {
  try {
    const files = await readdir(folder, { recursive: true, withFileTypes: true });
    return files
      .filter((file) => file.isFile() && file.name === "run.json")
      .map((file) => file.parentPath)
      .sort();
  } catch (cause) {
    throw new RefusedInput("a folder of runs cannot be read", {
      where: folder,
      found: errorText(cause),
      expected: "a folder with run folders of wise-lab run, sweep or study in it",
      cause,
    });
  }
}

/** The study that comes with the project, on its own small model; none where it was not made or saved. */
export async function readOwnStudy(folder: string = studyFolder("study")): Promise<RunSummary[]> {
  return (await exists(folder)) ? readStudy("study", folder) : [];
}
