import type { EditMethod } from "../edit/contract.js";
import { methods } from "../edit/registry.js";
import { TEACHER_FORCED } from "../eval/metrics.js";
import type { Protocol, ScoredRun } from "../run/types.js";
import { metricOf } from "../run/under-metric.js";

/** Methods that a subtitle has room for; a figure of more names them where they stand. */
const FEW_METHODS = 2;

/**
 * Parts of a figure's subtitle, from the protocols of its runs: method, records, T, model, when they were scored, and the
 * metric where it is not teacher-forced token accuracy. Every value that occurs is named.
 */
export function subtitleOf(runs: readonly ScoredRun[]): string[] {
  const every = (text: (protocol: Protocol) => string | number) => [
    ...new Set(runs.map(({ protocol }) => text(protocol))),
  ];
  const records = [...new Set(runs.map(({ scores }) => scores.length))];
  const titles = every(({ method }) => (methods as Record<string, EditMethod>)[method]?.title ?? method);
  const metrics = runs.map(metricOf).filter((metric) => metric !== TEACHER_FORCED);
  return [
    ...(titles.length > FEW_METHODS ? [] : [titles.join(" and ")]),
    `${records.join(" or ")} ${records.join() === "1" ? "record" : "records"}`,
    `T = ${every(({ T }) => T).join(", ")}`,
    every(({ model }) => model).join(" or "),
    `scored ${every(({ when }) => when).join(" or ")}`,
    ...new Set(metrics.map(({ title }) => title)),
  ];
}
