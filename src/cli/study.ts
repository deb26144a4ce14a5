import { RefusedInput } from "../core/errors.js";
import { renderSummary } from "../report/format.js";
import { saveStudy, studyFields, studyPoints } from "../run/study.js";
import type { BackendName } from "../tensor/backend.js";
import { runShownSweep } from "./sweep.js";

/** Options of `wise-lab study`, as the command line gives them. */
export interface StudyArguments {
  limit?: number;
  workers?: number;
  out?: string;
  save?: boolean;
  backend?: BackendName;
}

/** `wise-lab study`: the default study, as a sweep. Prints a progress line and the table. @returns the exit status */
export async function studyCommand(options: StudyArguments, signal: AbortSignal): Promise<number> {
  const { limit, workers, save, backend } = options;
  if (save && limit !== undefined) {
    throw new RefusedInput("a part of the study cannot be saved as the study", {
      where: "--save",
      found: `--limit ${limit}`,
      expected: "--save without --limit",
    });
  }
  const out = options.out ?? (limit === undefined ? "runs/study" : `runs/study-${limit}`);
  const runs = await runShownSweep(studyPoints, { limit, backend }, { out, workers, signal });
  console.log(renderSummary(runs, "text", { allow: studyFields }));
  console.log(`run folders: ${out}`);
  if (save) console.log(`summaries:   ${await saveStudy(out)}`);
  return 0;
}
