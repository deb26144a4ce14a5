import { type ScoringRequest, scoringOf } from "../run/request.js";
import { scoreEdited } from "../run/score-edited.js";
import { type MachineArguments, machineOptions } from "./machine.js";
import { createProgressLine, printRun } from "./run.js";

/** Options of `wise-lab score`, as the command line gives them. */
export interface ScoreArguments extends MachineArguments, Omit<ScoringRequest, "targetStop"> {
  model: string;
  before: string;
  data?: string;
  limit?: number;
  chatTemplate?: boolean;
  out?: string;
}

/** `wise-lab score`: a model that was edited elsewhere, by the metrics of runs. @returns the exit status */
export async function scoreCommand(options: ScoreArguments, signal: AbortSignal): Promise<number> {
  const { model, before, data, limit, chatTemplate, out } = options;
  const line = createProgressLine();
  const run = await scoreEdited({
    ...{ model, before, data, limit, chatTemplate, out },
    ...scoringOf(options),
    ...machineOptions(options),
    signal,
    onNotice: (notice) => console.error(notice),
    onProgress: ({ scored, records }) => line.show(`scored ${scored}/${records}`, scored === records),
  });
  line.end();
  printRun(run);
  if (out !== undefined) console.log(`run folder: ${out}`);
  return 0;
}
