import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { RefusedInput } from "../../core/errors.js";
import type { EditMethod } from "../../edit/contract.js";
import { methodNamed } from "../../edit/registry.js";
import type { EditStep, EditTrace } from "../../edit/trace.js";
import { parseT } from "../../run/blocks.js";
import { DEFAULT_METHOD } from "../../run/inputs.js";
import { runSweep, type SweepOptions, type SweepPoint, type SweepRun } from "../../run/sweep.js";
import type { RunResult } from "../../run/types.js";

/**
 * The option that limits the steps of a method's edits, by its released key.
 * @throws {RefusedInput} for a method whose edits of fewer steps are not the beginning of longer ones
 */
export function stepLimitOf({ name, title, stepLimit }: EditMethod): string {
  if (stepLimit !== undefined) return stepLimit;
  throw new RefusedInput("this method has no limit of steps to explore", {
    where: `run of ${name}`,
    found: `${title}, whose edits of fewer steps are not the beginning of longer ones`,
    expected: "a run of a method with a limit of steps",
  });
}

/**
 * A run at T = 1 as a rerun with `steps` as the limit of its edits would have given it, by arithmetic: an edit made alone
 * begins in the same way whatever its limit. Seconds are not measured but estimated, in proportion to the steps of each edit.
 * @param run made with `scoreSteps`; the numbers in it and the run's own limit are what can be asked for
 * @param method the run's
 * @throws {RefusedInput} as `stepLimitOf`, for another T, where later edits of a block depend on how long the earlier ones
 *   went on, and for a number of steps that was not recorded
 */
export function atSteps(run: RunResult, steps: number, method = methodNamed(run.protocol.method)): RunResult {
  const key = stepLimitOf(method);
  requireRecorded(run, steps, key);
  const { protocol, edits, scores, stepScores, scoreSteps } = run;
  if (steps === protocol.options[key]) return run;
  const standing = new Map(
    stepScores.filter((score) => score.steps === steps).map(({ steps: _, ...score }) => [score.record, score]),
  );
  return {
    ...run,
    protocol: { ...protocol, options: { ...protocol.options, [key]: steps } },
    edits: edits.map((edit) => cutTrace(edit, steps, method)),
    scores: scores.map((score) => standing.get(score.record) ?? score),
    stepScores: stepScores.filter((score) => score.steps < steps),
    scoreSteps: scoreSteps.filter((chosen) => chosen < steps),
    folder: null,
  };
}

/** The trace of an edit that was made alone, had it been given so many steps and no more. */
function cutTrace(edit: EditTrace, limit: number, { endNumbers }: EditMethod): EditTrace {
  if (edit.steps.length <= limit) return edit;
  const steps = edit.steps.slice(0, limit);
  const { frozen, steps: all } = edit.seconds;
  const seconds = { frozen, steps: (all * limit) / edit.steps.length };
  const numbers = endNumbers?.(steps[limit - 1] as EditStep) ?? edit.numbers;
  return { record: edit.record, steps, stoppedEarly: false, numbers, seconds };
}

function requireRecorded({ protocol, scoreSteps }: RunResult, steps: number, key: string): void {
  const { T, options, method } = protocol;
  const where = `the ${method} run at T = ${T}`;
  if (T !== 1) {
    throw new RefusedInput("another number of steps needs another run", {
      where,
      found: `T = ${T}: later edits of a block depend on the steps of the earlier ones`,
      expected: "T = 1, where every edit is made alone",
      hint: `wise-lab explore num-steps --method ${method} --T ${T} --steps ${steps}, which runs it`,
    });
  }
  if (scoreSteps.includes(steps) || steps === options[key]) return;
  throw new RefusedInput("scores after this number of steps were not recorded", {
    where,
    found: `${steps} steps`,
    expected: [...new Set([...scoreSteps, options[key]])].join(", "),
    hint: `wise-lab run --method ${method} --T 1 --score-steps ${steps}, with ${key} of at least that many`,
  });
}

/** Runs to make, one per number of steps: those of a sweep, with T and the numbers of steps in place of points. */
export interface StepsRequest extends SweepRun {
  T: number | string;
  /** Values of the step limit, each once. */
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
 * @throws as `stepLimitOf` and `runSweep`
 */
export async function exploreSteps(request: StepsRequest, options: StepsOptions = {}): Promise<RunResult[]> {
  requireSteps(request, stepLimitOf(methodNamed(request.method ?? DEFAULT_METHOD)));
  const out = options.out ?? (await mkdtemp(join(tmpdir(), "wise-lab-steps-")));
  try {
    return await runSteps(request, { ...options, out });
  } finally {
    if (options.out === undefined) await rm(out, { recursive: true });
  }
}

async function runSteps({ T, steps, ...shared }: StepsRequest, options: SweepOptions): Promise<RunResult[]> {
  const key = stepLimitOf(methodNamed(shared.method ?? DEFAULT_METHOD));
  const rising = [...steps].sort((a, b) => a - b);
  const point = (limit: number): SweepPoint => ({
    name: `T${T},${key}=${limit}`,
    T,
    set: [`${key}=${limit}`],
  });
  if (parseT(T) !== 1) {
    const runs = `each of the ${rising.length} values of ${key} is a run of its own`;
    options.onNotice?.(`T = ${T}: later edits of a block depend on the steps of the earlier ones, so ${runs}`);
    return runSweep(rising.map(point), shared, options);
  }
  const last = rising[rising.length - 1] as number;
  const [pass] = (await runSweep([point(last)], { ...shared, scoreSteps: rising.slice(0, -1) }, options)) as [
    RunResult,
  ];
  return rising.map((limit) => atSteps(pass, limit));
}

function requireSteps({ steps, hparams }: StepsRequest, key: string): void {
  const refuse = (found: unknown, expected: string): never => {
    throw new RefusedInput("the numbers of steps cannot be used", { where: "steps", found, expected });
  };
  if (steps.length === 0) refuse(steps, "at least one");
  const odd = steps.find((value) => !Number.isSafeInteger(value) || value < 1);
  if (odd !== undefined) refuse(odd, "whole numbers from 1");
  if (new Set(steps).size < steps.length) refuse(steps, "each number once");
  const given = hparams?.set?.find((setting) => setting.split("=")[0]?.trim() === key);
  if (given !== undefined) refuse(given, `${key} from the numbers of steps alone`);
}
