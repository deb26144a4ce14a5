import { LabFailure, takeTurn } from "../core/errors.js";
import type { EditControl, EditRequest, EditSession } from "./contract.js";
import type { Overlay } from "./overlay.js";
import type { EditStep, EditTrace } from "./trace.js";

/** Losses of one forward pass. */
export type StepReport = Omit<EditStep, "step">;

/** One forward pass of an edit with its gradient. */
export interface Pass {
  report: StepReport;
  /** Moves what is trained. */
  move(): void;
  dispose(): void;
}

/** An edit that is made in steps. */
export interface SteppedEdit {
  /** Most passes. */
  limit: number;
  pass(step: number): Promise<Pass>;
  /** True if the edit ends with this pass, without a move. `before` are the steps up to it. */
  settled(now: StepReport, before: readonly EditStep[]): boolean;
  /** The edits as they would stand had this one ended with the last pass or move. */
  standing(steps: readonly EditStep[]): Promise<Overlay>;
  /** Advice that keeps the loss finite, for the error. */
  hint: string;
}

/** The steps that an edit took. */
export interface StepsTaken {
  steps: EditStep[];
  /** True when the loss settled before the limit. */
  stoppedEarly: boolean;
  /** Seconds, those of checkpoints not counted. */
  seconds: number;
}

/**
 * Runs the steps of an edit: pass, report, move, until it settles or the limit is reached.
 * @throws {Interrupted} when the signal is aborted; {LabFailure} for a loss that is not finite
 */
export async function runSteps(edit: SteppedEdit, control: EditControl = {}): Promise<StepsTaken> {
  const { signal, onStep, checkpoints } = control;
  const steps: EditStep[] = [];
  const started = performance.now();
  let looked = 0;
  const taken = (stoppedEarly: boolean): StepsTaken => {
    return { steps, stoppedEarly, seconds: (performance.now() - started - looked) / 1000 };
  };
  for (let step = 0; step < edit.limit; step++) {
    await takeTurn(signal, `step ${step} of an edit`);
    const pass = await edit.pass(step);
    try {
      requireFinite(pass.report, step, edit.hint);
      const settled = edit.settled(pass.report, steps);
      steps.push({ step, ...pass.report });
      onStep?.(steps[step] as EditStep);
      if (settled) return taken(true);
      pass.move();
    } finally {
      pass.dispose();
    }
    const arrived = performance.now();
    const count = step + 1;
    if (count < edit.limit && checkpoints?.steps.includes(count)) {
      const overlay = await edit.standing(steps);
      try {
        await checkpoints.read(count, overlay);
      } finally {
        overlay.dispose();
      }
    }
    looked += performance.now() - arrived;
  }
  return taken(false);
}

/**
 * Proves the loss of a pass.
 * @param hint advice that keeps it finite
 * @throws {LabFailure} with its terms
 */
export function requireFinite({ loss, terms }: StepReport, step: number, hint: string): void {
  if (Number.isFinite(loss)) return;
  const parts = Object.entries(terms).map(([name, value]) => `${name} ${value}`);
  throw new LabFailure(`the loss of an edit became ${loss} at step ${step} (${parts.join(", ")}): ${hint}`);
}

/** `EditSession.edit` of a method that makes its edits one after another. */
export function oneByOne(
  editOne: (request: EditRequest, control: EditControl) => Promise<EditTrace>,
): EditSession["edit"] {
  return async (requests, control = {}) => {
    const traces: EditTrace[] = [];
    for (const request of requests) traces.push(await editOne(request, control));
    return traces;
  };
}
