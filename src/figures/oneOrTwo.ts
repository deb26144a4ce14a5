import { RefusedInput } from "../core/errors.js";

/** @throws {RefusedInput} where a figure of one run, or of two side by side, would get none or a crowd */
export function requireOneOrTwo(runs: readonly unknown[]): void {
  if (runs.length === 1 || runs.length === 2) return;
  throw new RefusedInput("this figure shows one run, or two side by side", {
    where: "runs",
    found: `${runs.length} runs`,
    expected: "one or two",
  });
}
