import type { RunResult } from "../../run/types.js";
import { atInference } from "../router/atInference.js";
import { atSteps } from "../steps/numSteps.js";

/** The run that a pair of values would have given. */
export interface GridPoint {
  /** Of the router's inference-only option. */
  value: number;
  steps: number;
  run: RunResult;
}

/**
 * Every combination of the router's inference-only option and the step limit from one run at T = 1, by arithmetic alone: as
 * reruns would have given them. One at a time, since a thousand records at hundreds of points would fill the memory.
 * @throws {RefusedInput} as `atSteps` and `atInference`
 */
export function* gridPoints(
  run: RunResult,
  { values, steps }: { values: readonly number[]; steps: readonly number[] },
): Generator<GridPoint> {
  for (const limit of steps) {
    const limited = { ...atSteps(run, limit), stepScores: [], scoreSteps: [] };
    for (const value of values) yield { value, steps: limit, run: atInference(limited, value) };
  }
}
