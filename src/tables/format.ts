import type { DataFrame } from "danfojs-node";
import { show } from "../core/errors.js";
import type { EditMethod } from "../edit/contract.js";
import type { OptionSpec } from "../edit/option-table.js";
import { methods } from "../edit/registry.js";
import type { ScoredRun } from "../run/types.js";
import { caption, footnotes, rowFields } from "./protocols.js";
import { type Cell, type FormatOptions, NOTHING, toMarkdown, toText } from "./readable.js";
import { frameOf, type Row, rowsOf, type SummaryOptions, summaryRows, tableOf } from "./tables.js";
import type { MeasureName } from "./values.js";

/** Headings of a summary's scores where people read it, in the order of the columns. */
export const scoreHeads = {
  rewrite: "Rewrite",
  rephrase: "Rephrase",
  locality: "Locality",
  average: "Avg",
  portability: "Portability",
  unedited: "Unedited",
  ood: "OOD",
} satisfies Partial<Record<MeasureName, string>>;

const OPTION = /^options\./;

/** Options whose values say little by themselves, as fields, with the words that a method has for them. */
export const spokenOptions: ReadonlyMap<string, NonNullable<OptionSpec["spoken"]>> = new Map(
  Object.values<EditMethod>(methods).flatMap(({ options }) =>
    Object.entries(options).flatMap(([key, { spoken }]) => (spoken ? [[`options.${key}`, spoken] as const] : [])),
  ),
);

/** A field of a protocol with its value in few words: "T = 10", "seed = 7", or the word for it. */
export function spoken(field: string, value: unknown): string {
  return spokenOptions.get(field)?.say[String(value)] ?? `${field.replace(OPTION, "")} = ${show(value)}`;
}

/**
 * A summary whose fields are as people read them: fields in which the rows do not differ are left to the caption, T
 * excepted, and options stand under their plain names. All other columns stay.
 * @param rows those of `summaryRows`
 */
export function readableFields(rows: readonly Row[]): { rows: Row[]; fields: string[] } {
  const names = Object.keys(rows[0] ?? {});
  const end = names.indexOf("records");
  const shown = names.slice(0, end).filter((field) => field === "T" || new Set(rows.map((row) => row[field])).size > 1);
  const head = (field: string) => spokenOptions.get(field)?.head ?? field.replace(OPTION, "");
  const readable = rows.map((row): Row => {
    const fields = shown.map((field): [string, Cell] => {
      const cell = row[field] ?? null;
      return [head(field), spokenOptions.get(field)?.say[String(cell)] ?? cell];
    });
    return Object.fromEntries([...fields, ...names.slice(end).map((name) => [name, row[name] ?? null] as const)]);
  });
  return { rows: readable, fields: shown.map(head) };
}

/**
 * A summary for reading: a mean and its interval in one cell, e.g. "0.979 [0.946, 1.000]", and fields as
 * `readableFields` shows them.
 * @param frame what `summaryFrame` made.
 */
export function summaryView(frame: DataFrame, options: FormatOptions = {}): DataFrame {
  return frameOf(viewOf(rowsOf(frame), options), "runs");
}

function viewOf(summaries: readonly Row[], { digits = 3 }: FormatOptions): Row[] {
  const { rows, fields } = readableFields(summaries);
  const has = (name: string) => summaries.some((row) => name in row);
  const scores = Object.entries(scoreHeads).filter(([name]) => has(name));
  const routed = ["rewriteToMain", "rephraseToMain", "localityToMain"] as const;
  const toMain = (row: Row): Row =>
    routed.some(has) ? { "To main rew / reph / loc": routed.map((name) => fixed(row[name], 2)).join(" / ") } : {};
  return rows.map(
    (row): Row => ({
      ...Object.fromEntries(fields.map((field) => [field, row[field] ?? null])),
      Records: row.records ?? null,
      Blocks: row.blocks ?? null,
      ...Object.fromEntries(scores.map(([name, head]) => [head, intervalText(row, name, digits)])),
      "Pre-edit rew / reph": [row.preRewrite, row.preRephrase].map((value) => fixed(value, digits)).join(" / "),
      ...(has("preUnedited") ? { "Unedited before": fixed(row.preUnedited, digits) } : {}),
      ...toMain(row),
      "s/edit": fixed(row.secondsPerEdit, 2),
    }),
  );
}

/** Table, caption and footnotes of runs as one text: what a terminal prints and what a notebook shows. */
export function renderSummary(
  runs: readonly ScoredRun[],
  format: "text" | "markdown",
  options: SummaryOptions & FormatOptions = {},
): string {
  const view = tableOf(viewOf(summaryRows(runs, options), options), "runs");
  const table = format === "text" ? toText(view, { width: options.width }) : toMarkdown(view);
  const { notes } = footnotes(runs, options.allow ?? rowFields);
  return `${table}\n${[caption(runs), ...notes].join("\n")}\n`;
}

function fixed(cell: Cell | undefined, digits: number): string {
  return typeof cell === "number" ? cell.toFixed(digits) : NOTHING;
}

/** A mean with its interval, and with the number of records behind it where that is not all of them. */
export function intervalText(row: Row, name: string, digits: number): string {
  const [mean, low, high] = [name, `${name}Low`, `${name}High`].map((column) => fixed(row[column], digits));
  if (mean === NOTHING) return NOTHING;
  const count = row[`${name}Records`];
  return `${mean} [${low}, ${high}]${count === row.records ? "" : ` (n = ${count})`}`;
}
