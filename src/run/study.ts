import { readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { RefusedInput } from "../core/errors.js";
import { exists } from "../core/files.js";
import { TARGET_STOPS } from "../edit/target-stop.js";
import { checked } from "../model/schema.js";
import { projectFile } from "./inputs.js";
import { type RunSummary, summarizeRun } from "./summary.js";
import { readRunSummary, writeRunSummary } from "./summary-file.js";
import type { SweepPoint, SweepRun } from "./sweep.js";

/** Studies of the project, each described in data/lab/NAME.json, with the summaries of its runs in data/lab/NAME. */
export const STUDIES = ["study", "free-answers"] as const;
export type StudyName = (typeof STUDIES)[number];

const studySchema = z.strictObject({
  about: z.string(),
  limit: z.int().positive().optional(),
  metrics: z.array(z.string()).optional(),
  unedited: z.int().positive().optional(),
  points: z.array(
    z.strictObject({
      name: z.string(),
      T: z.union([z.number(), z.string()]),
      method: z.string().optional(),
      set: z.array(z.string()),
      targetStop: z.enum(TARGET_STOPS).optional(),
    }),
  ),
  fields: z.array(z.string()),
});

/** Runs on the project's model and records that belong together. */
export interface Study {
  name: StudyName;
  about: string;
  points: readonly SweepPoint[];
  /** What the runs share. */
  shared: Pick<SweepRun, "limit" | "metrics" | "unedited">;
  /** Fields of the protocol in which they differ: what `allow` of a table of them is. */
  fields: readonly string[];
  /** The command that makes it and saves its summaries. */
  command: string;
}

/** @throws {RefusedInput} for a name that no study has */
export function studyNamed(name: string = "study"): Study {
  const known = STUDIES.find((one) => one === name);
  if (known === undefined) {
    throw new RefusedInput("there is no such study", { where: "study", found: name, expected: STUDIES.join(", ") });
  }
  const file = projectFile("data", "lab", `${known}.json`);
  const { about, limit, metrics, unedited, points, fields } = checked(
    studySchema,
    JSON.parse(readFileSync(file, "utf8")),
    file,
  );
  const command = `npm run study -- ${known === "study" ? "" : `${known} `}--save`;
  return { name: known, about, points, shared: { limit, metrics, unedited }, fields, command };
}

/** Folder of the summaries that come with the project. */
export function studyFolder(name: StudyName): string {
  return projectFile("data", "lab", name);
}

/** Writes a summary of each run of a finished study. @returns the folder that they were written to */
export async function saveStudy(study: Study, runs: string, folder = studyFolder(study.name)): Promise<string> {
  for (const { name } of study.points) {
    await writeRunSummary(await summarizeRun(join(runs, name), study.command), summaryFile(folder, name));
  }
  return folder;
}

/**
 * Reads the summaries of a study that come with the project, in the order of its points. Tables of them take
 * `allow: studyNamed(name).fields`.
 * @throws {RefusedInput} when one is missing, with the command that makes it
 */
export async function readStudy(name: StudyName = "study", folder = studyFolder(name)): Promise<RunSummary[]> {
  const { points, command } = studyNamed(name);
  const summaries: RunSummary[] = [];
  for (const point of points) {
    const file = summaryFile(folder, point.name);
    if (!(await exists(file))) {
      throw new RefusedInput("a summary of the study is missing", {
        where: file,
        found: "no such file",
        expected: "the summary of a run of the study",
        hint: command,
      });
    }
    summaries.push(await readRunSummary(file));
  }
  return summaries;
}

function summaryFile(folder: string, name: string): string {
  return join(folder, `${name}.json`);
}
