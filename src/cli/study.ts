import { RefusedInput } from "../core/errors.js";
import { metricNamed } from "../eval/seeing.js";
import { dealtTo, parsePart } from "../run/blocks.js";
import { partOf, type StudyRow, saveStudy, studyNamed, studyRows } from "../run/study.js";
import type { ScoredRun } from "../run/types.js";
import { byMetrics, sharedMetrics } from "../run/under-metric.js";
import { renderSummary } from "../tables/format.js";
import { toText } from "../tables/readable.js";
import type { BackendName } from "../tensor/backend.js";
import { rowsUnder } from "../verdict/rows.js";
import { methodsOverT, noteOn } from "../verdict/table.js";
import { runShownSweep } from "./sweep.js";
import { terminal } from "./terminal.js";

/** Options of `wise-lab study`, as the command line gives them. */
export interface StudyArguments {
  limit?: number;
  workers?: number;
  /** As "3/6". */
  part?: string;
  out?: string;
  save?: boolean;
  backend?: BackendName;
}

/** `wise-lab study`: a study of the project, as a sweep. Prints a progress line and the table. @returns the exit status */
export async function studyCommand(
  name: string | undefined,
  parts: readonly string[],
  options: StudyArguments,
  signal: AbortSignal,
): Promise<number> {
  const study = partOf(studyNamed(name), parts);
  const { limit, workers, save, backend } = options;
  const part = options.part === undefined ? undefined : parsePart(options.part);
  if (save && limit !== undefined) {
    throw new RefusedInput("a part of the study cannot be saved as the study", {
      where: "--save",
      found: `--limit ${limit}`,
      expected: "--save without --limit",
    });
  }
  const out = options.out ?? (limit === undefined ? `runs/${study.name}` : `runs/${study.name}-${limit}`);
  const shared = { ...study.shared, ...(limit !== undefined && { limit }), backend };
  const made = await runShownSweep(study.points, shared, { out, workers, part, signal });
  const own = { ...study, points: dealtTo(study.points, part) };
  const rows = studyRows(own, made);
  if (rows.some((row) => row.runs.length > 1)) printRows(rows, made);
  const { runs, differ } = byMetrics(made);
  console.log(renderSummary(runs, "text", { allow: [...study.fields, ...differ], ...terminal() }));
  console.log(`run folders: ${out}`);
  if (save) console.log(`summaries:   ${await saveStudy(own, out)}`);
  return 0;
}

/** The paper's table of methods over T, by every metric of the runs. */
function printRows(rows: readonly StudyRow[], runs: readonly ScoredRun[]): void {
  const note = noteOn(rows);
  for (const name of sharedMetrics(runs)) {
    console.log(`${metricNamed(name).title}: rewrite / rephrase / locality / average`);
    if (note !== "") console.log(note);
    console.log(toText(methodsOverT(rowsUnder(rows, name)), terminal()));
  }
}
