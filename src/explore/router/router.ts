import { RefusedInput } from "../../core/errors.js";
import type { EditMethod, InferenceOption, Router } from "../../edit/contract.js";
import { LARGEST_MARGIN } from "../../edit/overlay.js";
import { methodNamed } from "../../edit/registry.js";
import { probeKinds, probesOf } from "../../run/measures.js";
import type { Protocol, ScoredRun } from "../../run/types.js";

/** The option of a run's router that is read at inference only, and the value that the run was made with. */
export interface RunInference extends InferenceOption {
  own: number;
}

/**
 * @param method the run's
 * @throws {RefusedInput} as `requireInference`, and for a run that does not say its value
 */
export function inferenceOf(
  { method: name, options }: Pick<Protocol, "method" | "options">,
  method = methodNamed(name),
): RunInference {
  const option = requireInference(method);
  return { ...option, own: requireValue(options[option.key], `${option.key} of the run`) };
}

/** @throws {RefusedInput} for a method whose edits always answer, or whose router has no option to vary without new edits */
export function requireInference(method: EditMethod): InferenceOption {
  const { inference } = requireRouter(method);
  if (inference !== undefined) return inference;
  throw new RefusedInput(`the router of ${method.title} has no option to explore`, {
    where: `run of ${method.name}`,
    found: "no option that is read at inference only",
    expected: "a run of a method whose router has one",
  });
}

/** @throws {RefusedInput} for a method whose edits always answer */
export function requireRouter({ name, title, router }: EditMethod): Router {
  if (router !== undefined) return router;
  throw new RefusedInput(`the edits of ${title} always answer: there is no routing to look at`, {
    where: `run of ${name}`,
    found: "no router",
    expected: "a run of a method with a router",
  });
}

/** @throws {RefusedInput} for what is no value of such an option */
export function requireValue(value: unknown, where: string): number {
  if (typeof value === "number" && Number.isFinite(value) && value >= 0) return value;
  throw new RefusedInput("a router cannot decide under this value", {
    where,
    found: typeof value === "number" ? String(value) : value,
    expected: "a number from 0",
  });
}

/** True of a run whose router decided nothing: its threshold is 0, so that an edit answers every probe it looked at. */
export function alwaysAnswers({ scores }: ScoredRun): boolean {
  const looked = scores
    .flatMap((record) => probeKinds.flatMap((kind) => probesOf(record, kind)))
    .filter(({ readings }) => readings.length > 0);
  return looked.length > 0 && looked.every(({ readings }) => readings.some(({ margin }) => margin >= LARGEST_MARGIN));
}
