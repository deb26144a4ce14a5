import type { RunResult } from "../run/types.js";
import { atActRatio } from "./actRatio.js";
import { atSteps } from "./numSteps.js";

/** The run that a pair of values would have given. */
export interface GridPoint {
  ratio: number;
  steps: number;
  run: RunResult;
}

/**
 * Every combination of act_ratio and n_iter from one run at T = 1, by arithmetic alone: as reruns would have given them.
 * One at a time, since a thousand records at hundreds of points would fill the memory.
 * @throws {RefusedInput} as `atSteps` and `atActRatio`
 */
export function* gridPoints(
  run: RunResult,
  { ratios, steps }: { ratios: readonly number[]; steps: readonly number[] },
): Generator<GridPoint> {
  for (const limit of steps) {
    const limited = { ...atSteps(run, limit), stepScores: [], scoreSteps: [] };
    for (const ratio of ratios) yield { ratio, steps: limit, run: atActRatio(limited, ratio) };
  }
}
