import { readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { RefusedInput } from "../core/errors.js";
import { exists } from "../core/files.js";
import { checked } from "../model/schema.js";
import { projectFile } from "./inputs.js";
import { type RunSummary, readRunSummary, summarizeRun, writeRunSummary } from "./summary.js";
import type { SweepPoint } from "./sweep.js";

const STUDY_COMMAND = "npm run study -- --save";
/** Summaries of the study that come with the project. */
export const STUDY_FOLDER = projectFile("data", "lab", "study");

const STUDY_FILE = projectFile("data", "lab", "study.json");
const studySchema = z.object({
  about: z.string(),
  points: z.array(z.object({ name: z.string(), T: z.union([z.number(), z.string()]), set: z.array(z.string()) })),
  fields: z.array(z.string()),
});

const study = checked(studySchema, JSON.parse(readFileSync(STUDY_FILE, "utf8")), STUDY_FILE);

/** The runs of the default study, on the project's model and records. */
export const studyPoints: readonly SweepPoint[] = study.points;

/** Fields of the protocol in which the runs of the study differ: what `allow` of a table of them is. */
export const studyFields: readonly string[] = study.fields;

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
