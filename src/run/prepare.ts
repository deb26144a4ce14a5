import { fillCache } from "./cuts.js";
import { type LabOptions, openPlan } from "./lab.js";
import { writePrepared } from "./parts.js";
import type { RunRequest } from "./request.js";
import { configOf } from "./runner.js";

/**
 * Makes once what all parts of a run need: its context templates, and the results of the frozen part where a cache keeps
 * them. Side data is read, so that what is missing is refused here.
 * @param run folder of the run whose parts will be made
 * @param request `what`: "templates" leaves the frozen part to the parts. Each computes its own share, which no other
 *   needs, so that many machines are done sooner; "all" is for parts of one machine, or later runs of the same cut
 * @throws {RefusedInput} as a run does before its first edit
 */
export async function prepareRun(
  run: string,
  options: LabOptions,
  { what = "all", ...request }: RunRequest & { what?: "all" | "templates" },
): Promise<void> {
  const plan = await openPlan(options, request);
  try {
    if (what === "all") await fillCache(plan, request.signal);
    await writePrepared(run, configOf(plan, request));
  } finally {
    plan.model.dispose();
  }
}
