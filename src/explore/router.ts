import { RefusedInput } from "../core/errors.js";
import type { EditMethod, Router } from "../edit/contract.js";
import { methodNamed } from "../edit/registry.js";
import type { Protocol } from "../run/types.js";

/** The router of a run, and the value of its option that the run was made with. */
export interface RunRouter extends Router {
  own: number;
}

/** @throws {RefusedInput} for a run of a method whose routes do not follow from logged readings */
export function routerOf({ method, options }: Protocol): RunRouter {
  const router = requireRouter(methodNamed(method));
  return { ...router, own: requireRatio(options[router.option], `${router.option} of the run`) };
}

/** @throws {RefusedInput} for a method without a router */
export function requireRouter({ name, router }: EditMethod): Router {
  if (router !== undefined) return router;
  throw new RefusedInput("a method without a threshold has none to explore", {
    where: `run of ${name}`,
    found: "no router that decides on logged activations",
    expected: "a run of a method with one, such as wise",
  });
}

/** @throws {RefusedInput} for what is no factor of a threshold */
export function requireRatio(ratio: unknown, where = "act_ratio"): number {
  if (typeof ratio === "number" && Number.isFinite(ratio) && ratio >= 0) return ratio;
  throw new RefusedInput("a threshold cannot be multiplied by this", {
    where,
    found: typeof ratio === "number" ? String(ratio) : ratio,
    expected: "a number from 0",
  });
}
