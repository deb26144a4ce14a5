import { join } from "node:path";
import { RefusedInput } from "../core/errors.js";
import { exists } from "../core/files.js";
import { projectFile } from "./inputs.js";
import { type RunSummary, readRunSummary, summarizeRun, writeRunSummary } from "./summary.js";
import type { SweepPoint } from "./sweep.js";

const STUDY_COMMAND = "npm run study -- --save";
/** Summaries of the study that come with the project. */
export const STUDY_FOLDER = projectFile("data", "lab", "study");

/** Four memories to a block of 1000, each written through masks of its own, as WISE shards its edits. */
const FOUR_MEMORIES = ["save_freq=250", "merge_freq=250", "mask_ratio=0.5"];

/**
 * The default study: the paper's T on the project's model and records, all edits of a block in one memory; and T = 1000
 * again in four memories, kept apart (WISE-Retrieve) or merged into one (WISE-Merge).
 */
export const studyPoints: readonly SweepPoint[] = [
  ...[1, 10, 100, 1000].map((T) => ({ name: `T${T}`, T, set: [] })),
  { name: "T1000-retrieve", T: 1000, set: ["retrieve=true", ...FOUR_MEMORIES] },
  { name: "T1000-merge", T: 1000, set: ["retrieve=false", ...FOUR_MEMORIES] },
];

/** Fields of the protocol in which the runs of the study differ: what `allow` of a table of them is. */
export const studyFields = [
  "T",
  "options.retrieve",
  "options.saveFreq",
  "options.mergeFreq",
  "options.maskRatio",
] as const;

/** Writes a summary of each run of a finished study. @returns the folder that they were written to */
export async function saveStudy(runs: string, folder: string = STUDY_FOLDER): Promise<string> {
  for (const { name } of studyPoints) {
    await writeRunSummary(await summarizeRun(join(runs, name), STUDY_COMMAND), summaryFile(folder, name));
  }
  return folder;
}

/**
 * Reads the summaries of the study that come with the project: in the order of `studyPoints`. Tables of them
 * take `allow: studyFields`.
 * @throws {RefusedInput} when one is missing, with the command that makes it
 */
export async function readStudy(folder: string = STUDY_FOLDER): Promise<RunSummary[]> {
  const summaries: RunSummary[] = [];
  for (const { name } of studyPoints) {
    const file = summaryFile(folder, name);
    if (!(await exists(file))) {
      throw new RefusedInput("a summary of the study is missing", {
        where: file,
        found: "no such file",
        expected: "the summary of a run of the study",
        hint: STUDY_COMMAND,
      });
    }
    summaries.push(await readRunSummary(file));
  }
  return summaries;
}

function summaryFile(folder: string, name: string): string {
  return join(folder, `${name}.json`);
}
