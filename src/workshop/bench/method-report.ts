import { METHOD_TOLERANCE, type MethodResult, type MethodSide, type MethodsMeasured, methodAlike } from "./methods.js";
import { type BenchRow, median, shown } from "./numbers.js";

/** The table, one row per method; numbers are medians over edits. */
export function methodRows({ methods }: Pick<MethodsMeasured, "methods">): BenchRow[] {
  return methods.map((method) => {
    const { ours, torch } = method;
    return {
      method: method.title,
      "tokens of an edit": shown(method.tokens),
      steps: shown(median(ours.steps)),
      "s/edit": shown(median(ours.edit)),
      "of it frozen part": ours.frozen === null ? null : shown(median(ours.frozen)),
      "s/step": shown(secondsOfStep(ours)),
      "s/edit, PyTorch": torch === null ? null : shown(median(torch.edit)),
      "s/step, PyTorch": torch === null ? null : shown(secondsOfStep(torch)),
      "times faster than PyTorch":
        torch === null || !methodAlike(method) ? null : shown(median(torch.edit) / median(ours.edit)),
    };
  });
}

/** Seconds of an edit beside its frozen part, by its steps. */
function secondsOfStep({ edit, frozen, steps }: MethodSide): number {
  return median(edit.map((seconds, i) => (seconds - (frozen?.[i] ?? 0)) / (steps[i] as number)));
}

/** Notes under the table, one line each. */
export function methodNotes({ modelSha256, runsOn, methods }: MethodsMeasured): string[] {
  const edits = Math.max(...methods.map(({ ours }) => ours.edit.length));
  const records = edits === 1 ? "of the first record" : `medians over the first ${edits} records`;
  return [
    ...runsOn.map((text) => `${text}.`),
    `lab-llama (sha256 ${modelSha256.slice(0, 12)}), every method with its preset for it. Numbers are ${records}, each edited alone on the untouched model: FT-EWC has no past edits to heed then, and MEMIT-MASS a batch of one. Ours and PyTorch, each a process of its own, take turns.`,
    "PyTorch does what the released code does: the whole model at every step, with as many steps, on the same token rows; MEMIT solves its systems of the matrix' width in float64, AlphaEdit in float32. Context templates, statistics and projections are there before the clock starts; s/step holds what is done after the last step, such as these systems.",
    ...differenceNotes(methods),
  ];
}

/** Results of both sides, compared. */
function differenceNotes(methods: readonly MethodResult[]): string[] {
  const compared = methods.flatMap(({ title, differences }) => {
    if (differences === null) return [];
    return [`${title} ${differences.steps.toExponential(1)} and ${differences.after.toExponential(1)}`];
  });
  if (compared.length === 0) return [];
  const { steps, after } = METHOD_TOLERANCE;
  const unlike = methods.filter((method) => !methodAlike(method)).map(({ title }) => title);
  return [
    `Largest relative difference of the losses of the first three steps (at most ${steps}), and of the target's loss under that edit (at most ${after}): ${compared.join("; ")}. LoRA is compared without dropout, which is drawn otherwise on each side.`,
    ...unlike.map((title) => `${title}: that is not the same computation, and no times are compared.`),
  ];
}
