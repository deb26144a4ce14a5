import { readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { RefusedInput } from "../core/errors.js";
import { exists } from "../core/files.js";
import { TARGET_STOPS } from "../edit/target-stop.js";
import { checked } from "../model/schema.js";
import { DEFAULT_METHOD, projectFile } from "./inputs.js";
import { chosenSettings } from "./search.js";
import { type RunSummary, summarizeRun } from "./summary.js";
import { readRunSummary, writeRunSummary } from "./summary-file.js";
import type { SweepPoint, SweepRun } from "./sweep.js";
import type { ScoredRun } from "./types.js";

/** Studies of the project, each described in data/lab/NAME.json, with the summaries of its runs in data/lab/NAME. */
export const STUDIES = ["study", "free-answers", "methods"] as const;
export type StudyName = (typeof STUDIES)[number];

const T = z.union([z.number(), z.string()]);

const studySchema = z.strictObject({
  about: z.string(),
  limit: z.int().positive().optional(),
  metrics: z.array(z.string()).optional(),
  unedited: z.int().positive().optional(),
  targetStop: z.enum(TARGET_STOPS).optional(),
  points: z.array(
    z.strictObject({
      name: z.string(),
      /** Of several, a point is made for each, and named after it. */
      T: z.union([T, z.array(T)]),
      method: z.string().optional(),
      /** Settings over those that the search chose for the method. */
      chosen: z.literal(true).optional(),
      set: z.array(z.string()).default([]),
      targetStop: z.enum(TARGET_STOPS).optional(),
      row: z.string().optional(),
      note: z.string().optional(),
    }),
  ),
  fields: z.array(z.string()),
});

/** One run of a study. */
export interface StudyPoint extends SweepPoint {
  /** Its row in a table of methods over T. */
  row: string;
  /** For readers of that row. */
  note?: string | undefined;
}

/** Runs on the project's model and records that belong together. */
export interface Study {
  name: StudyName;
  about: string;
  points: readonly StudyPoint[];
  /** Shared by the runs. */
  shared: Pick<SweepRun, "limit" | "metrics" | "unedited" | "targetStop">;
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
  const { about, points, fields, ...shared } = checked(studySchema, JSON.parse(readFileSync(file, "utf8")), file);
  const command = `npm run study -- ${known === "study" ? "" : `${known} `}--save`;
  return { name: known, about, points: points.flatMap(pointsOf), shared, fields, command };
}

type WrittenPoint = z.infer<typeof studySchema>["points"][number];

function pointsOf({ name, T, chosen, set, row = name, ...point }: WrittenPoint): StudyPoint[] {
  const settings = (one: number | string) =>
    chosen ? [...chosenSettings(point.method ?? DEFAULT_METHOD, one), ...set] : set;
  if (!Array.isArray(T)) return [{ ...point, name, T, set: settings(T), row }];
  return T.map((one) => ({ ...point, name: `${name}-T${one}`, T: one, set: settings(one), row }));
}

/**
 * A study with some of its points only.
 * @param parts names of points, or what they begin with: "memit" for memit-T1 to memit-T1000
 * @throws {RefusedInput} for one that no point has
 */
export function partOf(study: Study, parts: readonly string[]): Study {
  if (parts.length === 0) return study;
  const isOf = (part: string) => (point: StudyPoint) => point.name === part || point.name.startsWith(`${part}-T`);
  for (const part of parts) {
    if (study.points.some(isOf(part))) continue;
    const known = [...new Set(study.points.map(({ name }) => name.replace(/-T\w+$/, "")))];
    const expected = `${known.join(", ")}, or one of these with its T, as ${study.points[0]?.name}`;
    throw new RefusedInput("a study has no such part", { where: study.name, found: part, expected });
  }
  return { ...study, points: study.points.filter((point) => parts.some((part) => isOf(part)(point))) };
}

/** Runs of one row of a table of methods, over T. */
export interface StudyRow<R extends ScoredRun = ScoredRun> {
  title: string;
  /** For its readers. */
  note?: string | undefined;
  runs: R[];
}

/** Runs of a study, by their rows. @param runs in the order of its points */
export function studyRows<R extends ScoredRun>({ points }: Pick<Study, "points">, runs: readonly R[]): StudyRow<R>[] {
  const rows = new Map<string, StudyRow<R>>();
  for (const [i, { row, note }] of points.entries()) {
    const { runs: before } = rows.get(row) ?? { runs: [] };
    rows.set(row, { title: row, note, runs: [...before, runs[i] as R] });
  }
  return [...rows.values()];
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

/**
 * The rows of a study that come with the project, over the T that were saved, and names of the points that were not.
 * @throws {RefusedInput} where none was
 */
export async function readStudyRows(
  name: StudyName = "methods",
  folder = studyFolder(name),
): Promise<{ rows: StudyRow<RunSummary>[]; missing: string[] }> {
  const study = studyNamed(name);
  const there: StudyPoint[] = [];
  for (const point of study.points) if (await exists(summaryFile(folder, point.name))) there.push(point);
  const missing = study.points.filter((point) => !there.includes(point)).map((point) => point.name);
  if (there.length === 0) await readStudy(name, folder);
  const runs = await Promise.all(there.map((point) => readRunSummary(summaryFile(folder, point.name))));
  return { rows: studyRows({ points: there }, runs), missing };
}

function summaryFile(folder: string, name: string): string {
  return join(folder, `${name}.json`);
}
