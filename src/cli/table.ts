import { dirname } from "node:path";
import type { DataFrame } from "danfojs-node";
import { nearest, RefusedInput } from "../core/errors.js";
import { requireWritableFolder, writeFileAtomic } from "../core/files.js";
import { TEACHER_FORCED } from "../eval/metrics.js";
import { readRunsAt } from "../run/finished.js";
import type { RunSummary } from "../run/summary.js";
import type { RunResult } from "../run/types.js";
import { byMetrics } from "../run/under-metric.js";
import { renderSummary } from "../tables/format.js";
import { summaryLatex, toLatex } from "../tables/latex.js";
import { caption, fieldNames, rowFields } from "../tables/protocols.js";
import { type Table, toCsv, toMarkdown, toText } from "../tables/readable.js";
import { blocksFrame, casesFrame, groupsFrame, rowsOf, summaryRows, tableOf } from "../tables/tables.js";
import { terminal } from "./terminal.js";

/** Options of `wise-lab table`, as the command line gives them. */
export interface TableArguments {
  format: "text" | "markdown" | "csv" | "latex";
  kind: "methods" | "blocks" | "cases" | "groups";
  /** Fields in which runs may differ, besides method, T and when. */
  allow?: string[];
  mark?: boolean;
  /** Metrics, by name; each run has a row for each. Those that all runs were made for, when left out. */
  metric?: string[];
  out?: string;
}

type ShownRun = RunResult | RunSummary;

/** `wise-lab table`: runs as a table, under their protocol. @returns the exit status */
export async function tableCommand(paths: readonly string[], options: TableArguments): Promise<number> {
  const made: ShownRun[] = [];
  for (const path of paths) made.push(...(await readRunsAt(path)));
  const names = options.metric ?? (options.kind === "methods" ? undefined : [TEACHER_FORCED.name]);
  const { runs, differ } = byMetrics(made, names);
  if (options.out !== undefined) await requireWritableFolder(dirname(options.out));
  const text =
    options.kind === "methods" ? methodsTable(runs, options, differ) : tableOfOne(runs, options.kind, options.format);
  if (options.format === "csv") console.error(caption(runs)); // a CSV file has no place for it
  if (options.out === undefined) process.stdout.write(text);
  else await writeFileAtomic(options.out, text);
  return 0;
}

function methodsTable(
  runs: readonly ShownRun[],
  { format, allow: more = [], mark = false }: TableArguments,
  differ: readonly string[],
): string {
  for (const field of more) requireField(field, runs);
  const allow = [...new Set([...rowFields, ...more, ...differ])];
  if (format === "csv") return toCsv(tableOf(summaryRows(runs, { allow, mark }), "runs"));
  if (format === "latex") return summaryLatex(runs, { allow, mark, label: "tab:methods" });
  return renderSummary(runs, format, { allow, mark, ...terminal() });
}

function requireField(field: string, runs: readonly ShownRun[]): void {
  const known = runs.flatMap(({ protocol }) => fieldNames(protocol));
  if (known.includes(field)) return;
  const near = nearest(field, known);
  throw new RefusedInput("no run has such a field", {
    where: "--allow",
    found: field,
    expected: "a field of the protocol, or options.NAME for an option of the method",
    ...(near === undefined ? {} : { hint: near }),
  });
}

/** Columns shown of a run's blocks and records; CSV has every column. */
const columnsOfOne = {
  blocks: [
    "block",
    "firstRecord",
    "lastRecord",
    "records",
    "rewrite",
    "rephrase",
    "locality",
    "average",
    "portability",
  ],
  groups: ["kind", "group", "probes", "score", "scoreLow", "scoreHigh", "before"],
  cases: ["record", "block", "prompt", "answer", "rewrite", "rephrase", "locality", "rewriteRoute", "steps"],
} as const;

const FRAMES = {
  blocks: blocksFrame,
  groups: groupsFrame,
  cases: (run) => casesFrame(withTexts(run)),
} satisfies Record<keyof typeof columnsOfOne, (run: ShownRun) => DataFrame>;

function tableOfOne(
  runs: readonly ShownRun[],
  kind: keyof typeof columnsOfOne,
  format: TableArguments["format"],
): string {
  const run = onlyRun(runs, kind);
  const frame = FRAMES[kind](run);
  if (format === "csv") return toCsv(frame);
  const columns = columnsOfOne[kind].filter((name) => (frame.columns as string[]).includes(name));
  if (format === "latex") {
    const unranked = columns.map((name) => ({ name, best: "none" as const }));
    return toLatex(frame, { caption: caption([run]), label: `tab:${kind}`, columns: unranked });
  }
  const shown = pick(frame, columns);
  return `${format === "text" ? toText(shown, terminal()) : toMarkdown(shown)}\n${caption([run])}\n`;
}

function onlyRun(runs: readonly ShownRun[], kind: string): ShownRun {
  const [run] = runs;
  if (run !== undefined && runs.length === 1) return run;
  throw new RefusedInput("this table shows one run", {
    where: `--kind ${kind}`,
    found: `${runs.length} runs`,
    expected: "one run; --kind methods has one row for each of several",
  });
}

function withTexts(run: ShownRun): RunResult {
  if (!("sha256" in run)) return run;
  throw new RefusedInput("a summary has no prompts and answers", {
    where: "--kind cases",
    found: "the summary of a run",
    expected: "the run's folder",
    hint: run.command,
  });
}

function pick(frame: DataFrame, columns: readonly string[]): Table {
  const rows = rowsOf(frame).map((row) => Object.fromEntries(columns.map((name) => [name, row[name] ?? null])));
  return tableOf(rows, "rows of the run");
}
