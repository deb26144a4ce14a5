import { type Metric, metrics } from "../eval/metrics.js";
import { toMarkdown, toText } from "../tables/readable.js";
import { terminal } from "./terminal.js";

/** `wise-lab metrics`: what a run can be scored by. @returns the exit status */
export function metricsCommand({ markdown = false }: { markdown?: boolean } = {}): number {
  const columns = ["metric", "range", "better", "needs", "meaning"];
  const table = { columns, values: [...metrics.values()].map(rowOf) };
  process.stdout.write(markdown ? toMarkdown(table) : toText(table, terminal()));
  return 0;
}

function rowOf({ name, range: [least, most], better, needs, meaning }: Metric): string[] {
  const words = { logp: "probabilities", written: "free answers" };
  const range = `${least ?? "no least"} to ${most ?? "no most"}`;
  return [name, range, better, needs.map((need) => words[need]).join(", ") || "-", meaning];
}
