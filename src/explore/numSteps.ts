import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { RefusedInput } from "../core/errors.js";
import type { EditTrace } from "../edit/trace.js";
import { parseT } from "../run/blocks.js";
import { runSweep, type SweepOptions, type SweepPoint, type SweepRun } from "../run/sweep.js";
import type { RunResult } from "../run/types.js";

/** The released key of the step limit. */
const KEY = "n_iter";

/**
 * A run at T = 1 as a rerun with n_iter = `steps` would have given it, by arithmetic: an edit made alone begins in the
 * same way whatever its limit. Seconds are not measured but estimated, in proportion to the steps of each edit.
 * @param run made with `scoreSteps`; the numbers in it and the run's own n_iter are what can be asked for
 * @throws {RefusedInput} for another T, where later edits of a block depend on how long the earlier ones went on, and
 *   for a number of steps that was not recorded
 */
export function atSteps(run: RunResult, steps: number): RunResult {
  requireRecorded(run, steps);
  const { protocol, edits, scores, stepScores, scoreSteps } = run;
  if (steps === protocol.options.steps) return run;
  const standing = new Map(
    stepScores.filter((score) => score.steps === steps).map(({ steps: _, ...score }) => [score.record, score]),
  );
  return {
    ...run,
    protocol: { ...protocol, options: { ...protocol.options, steps } },
    edits: edits.map((edit) => cutTrace(edit, steps)),
    scores: scores.map((score) => standing.get(score.record) ?? score),
    stepScores: stepScores.filter((score) => score.steps < steps),
    scoreSteps: scoreSteps.filter((chosen) => chosen < steps),
    folder: null,
  };
}

/** The trace of an edit that was made alone, had it been given so many steps and no more. */
function cutTrace(edit: EditTrace, limit: number): EditTrace {
  if (edit.steps.length <= limit) return edit;
  const steps = edit.steps.slice(0, limit);
  const { inScope } = steps[limit - 1] as EditTrace["steps"][number];
  const { frozen, steps: all } = edit.seconds;
  const seconds = { frozen, steps: (all * limit) / edit.steps.length };
  return { record: edit.record, steps, stoppedEarly: false, minAct: inScope, seconds };
}

function requireRecorded({ protocol, scoreSteps }: RunResult, steps: number): void {
  const { T, options, method } = protocol;
  const where = `the ${method} run at T = ${T}`;
  if (T !== 1) {
    throw new RefusedInput("another number of steps needs another run", {
      where,
      found: `T = ${T}: later edits of a block depend on the steps of the earlier ones`,
      expected: "T = 1, where every edit is made alone",
      hint: `wise-lab explore num-steps --T ${T} --steps ${steps}, which runs it`,
    });
  }
  if (scoreSteps.includes(steps) || steps === options.steps) return;
  throw new RefusedInput("scores after this number of steps were not recorded", {
    where,
    found: `${steps} steps`,
    expected: [...new Set([...scoreSteps, options.steps])].join(", "),
    hint: `wise-lab run --T 1 --score-steps ${steps}, with ${KEY} of at least that many`,
  });
}

/** Runs to make, one per number of steps: those of a sweep, with T and the numbers of steps in place of points. */
export interface StepsRequest extends SweepRun {
  T: number | string;
  /** Values of n_iter, each once. */
  steps: readonly number[];
}

export interface StepsOptions extends Omit<SweepOptions, "out"> {
  /** Folder of the run folders, which are continued from there; a temporary one when left out. */
  out?: string | undefined;
}

/**
 * The same records edited with each number of steps. At T = 1 one pass gives them all, through `atSteps`; at any other T
 * each is a run of its own, and a notice says so. Finished runs are read, not made again.
 * @returns a run per number of steps, rising; at T = 1 the last one is the pass itself, with its `stepScores`
 * @throws as `runSweep`
 */
export async function exploreSteps(request: StepsRequest, options: StepsOptions = {}): Promise<RunResult[]> {
  requireSteps(request);
  const out = options.out ?? (await mkdtemp(join(tmpdir(), "wise-lab-steps-")));
  try {
    return await runSteps(request, { ...options, out });
  } finally {
    if (options.out === undefined) await rm(out, { recursive: true });
  }
}

async function runSteps({ T, steps, ...shared }: StepsRequest, options: SweepOptions): Promise<RunResult[]> {
  const rising = [...steps].sort((a, b) => a - b);
  const point = (limit: number): SweepPoint => ({
    name: `T${T},${KEY}=${limit}`,
    T,
    set: [`${KEY}=${limit}`],
  });
  if (parseT(T) !== 1) {
    const runs = `each of the ${rising.length} values of ${KEY} is a run of its own`;
    options.onNotice?.(`T = ${T}: later edits of a block depend on the steps of the earlier ones, so ${runs}`);
    return runSweep(rising.map(point), shared, options);
  }
  const last = rising[rising.length - 1] as number;
  const [pass] = (await runSweep([point(last)], { ...shared, scoreSteps: rising.slice(0, -1) }, options)) as [
    RunResult,
  ];
  return rising.map((limit) => atSteps(pass, limit));
}

function requireSteps({ steps, set = [] }: StepsRequest): void {
  const refuse = (found: unknown, expected: string): never => {
    throw new RefusedInput("the numbers of steps cannot be used", { where: "steps", found, expected });
  };
  if (steps.length === 0) refuse(steps, "at least one");
  const odd = steps.find((value) => !Number.isSafeInteger(value) || value < 1);
  if (odd !== undefined) refuse(odd, "whole numbers from 1");
  if (new Set(steps).size < steps.length) refuse(steps, "each number once");
  const given = set.find((setting) => setting.split("=")[0]?.trim() === KEY);
  if (given !== undefined) refuse(given, `${KEY} from the numbers of steps alone`);
}
