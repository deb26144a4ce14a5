import { RefusedInput } from "../core/errors.js";
import { partOf, saveStudy, studyNamed } from "../run/study.js";
import { byMetrics } from "../run/under-metric.js";
import { renderSummary } from "../tables/format.js";
import type { BackendName } from "../tensor/backend.js";
import { runShownSweep } from "./sweep.js";
import { terminal } from "./terminal.js";

/** Options of `wise-lab study`, as the command line gives them. */
export interface StudyArguments {
  limit?: number;
  workers?: number;
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
  if (save && limit !== undefined) {
    throw new RefusedInput("a part of the study cannot be saved as the study", {
      where: "--save",
      found: `--limit ${limit}`,
      expected: "--save without --limit",
    });
  }
  const out = options.out ?? (limit === undefined ? `runs/${study.name}` : `runs/${study.name}-${limit}`);
  const shared = { ...study.shared, ...(limit !== undefined && { limit }), backend };
  const made = await runShownSweep(study.points, shared, { out, workers, signal });
  const { runs, differ } = byMetrics(made);
  console.log(renderSummary(runs, "text", { allow: [...study.fields, ...differ], ...terminal() }));
  console.log(`run folders: ${out}`);
  if (save) console.log(`summaries:   ${await saveStudy(study, out)}`);
  return 0;
}
