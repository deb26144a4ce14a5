import type { EditMethod } from "../../edit/contract.js";
import { methodNamed } from "../../edit/registry.js";
import type { RunResult, ScoredRecord, ScoredRun } from "../../run/types.js";
import { recordUnder } from "../recordUnder.js";
import { inferenceOf, requireValue } from "./router.js";

/**
 * A run as a rerun at another value of the router's inference-only option would have given it, without one: editing never
 * sees the option, and a run logs what every variant would have answered. Edits stay as they are; margins, routes,
 * predictions and scores follow.
 * @param run a run, or the summary of one, with the rounding of its numbers
 * @param method the run's
 * @throws {RefusedInput} for a value below 0, or a run of a method without such an option
 */
export function atInference(run: RunResult, value: number, method?: EditMethod): RunResult;
export function atInference(run: ScoredRun, value: number, method?: EditMethod): ScoredRun;
export function atInference(
  run: RunResult | ScoredRun,
  value: number,
  method = methodNamed(run.protocol.method),
): RunResult | ScoredRun {
  const option = inferenceOf(run.protocol, method);
  const options = { ...run.protocol.options, [option.key]: requireValue(value, option.key) };
  const at = <R extends ScoredRecord>(record: R) => recordUnder(record, option, options);
  return {
    ...run,
    protocol: { ...run.protocol, options },
    scores: run.scores.map(at),
    ...("stepScores" in run ? { stepScores: run.stepScores.map(at) } : {}),
    folder: null, // no folder holds this run
  };
}
