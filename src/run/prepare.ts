import { type LabOptions, openPlan } from "./lab.js";
import { writePrepared } from "./parts.js";
import type { RunRequest } from "./request.js";
import { configOf, fillCache } from "./runner.js";

/**
 * Makes once what all parts of a run need: its context templates, and the results of the frozen part where a cache keeps
 * them. Side data is read, so that what is missing is refused here.
 * @param run folder of the run whose parts will be made
 * @throws {RefusedInput} as a run does before its first edit
 */
export async function prepareRun(run: string, options: LabOptions, request: RunRequest): Promise<void> {
  const plan = await openPlan(options, request);
  try {
    await fillCache(plan, request.signal);
    await writePrepared(run, configOf(plan, request));
  } finally {
    plan.model.dispose();
  }
}
