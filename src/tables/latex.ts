import { nearest, RefusedInput } from "../core/errors.js";
import type { ScoredRun } from "../run/types.js";
import { metricOf } from "../run/under-metric.js";
import { readableFields, scoreHeads } from "./format.js";
import { caption, footnotes, rowFields } from "./protocols.js";
import type { Cell, Table } from "./readable.js";
import { type Row, rowsOf, type SummaryOptions, summaryRows, tableOf } from "./tables.js";

/** One column of a LaTeX table. */
export interface LatexColumn {
  /** Column of the frame. Where the frame also has NAMELow and NAMEHigh, they stand behind the number as its interval. */
  name: string;
  /** Heading, as text: it is escaped. Default: the name. */
  head?: string;
  /** Better values: the best is bold, the second underlined. "none": no mark. Default: known scores by their nature. */
  best?: "higher" | "lower" | "none";
}

export interface LatexOptions {
  /** States what the numbers mean, e.g. `caption(runs)` or `publishedCaption(rows)`. Text: it is escaped. */
  caption: string;
  /** For \ref, e.g. "tab:zsre". */
  label: string;
  /** Columns in order. Default: all of the frame, an interval with its mean. */
  columns?: readonly (string | LatexColumn)[];
  /** Columns whose value makes a group: best and second are found per group, and a rule parts them. Default: one group. */
  groupBy?: readonly string[];
  /** Decimals of numbers, but of columns of whole numbers that are neither scores nor have an interval. Default 3. */
  digits?: number;
}

const HIGHER = ["rewrite", "rephrase", "locality", "average", "portability", "oodRephrase", "specificity"];
const LOWER = ["perplexity"];

/**
 * A frame as a LaTeX table in the form of booktabs: numbers to the right, intervals small, the best value of a column
 * bold and the second underlined. Values that print alike rank alike; where all do, none is marked. The same frame and
 * options give the same bytes. The document needs \usepackage{booktabs}; letters beyond Latin need LuaLaTeX or XeLaTeX.
 * @param table what `summaryFrame` or `publishedFrame` made.
 * @throws {RefusedInput} for a column that the frame does not have, or a label that \ref cannot name.
 */
export function toLatex(table: Table, options: LatexOptions): string {
  const { caption, label, groupBy = [], digits = 3 } = options;
  requireLabel(label);
  const names = table.columns;
  const columns = (options.columns ?? withoutIntervals(names)).map((column) => completed(column));
  for (const name of [...columns.map((column) => column.name), ...groupBy]) requireColumn(name, names);
  const rows = rowsOf(table);
  const groups = rows.map((row) => JSON.stringify(groupBy.map((name) => row[name])));
  const typeset = columns.map((column) => typesetColumn(rows, column, { digits, groups }));
  const body = rows.map((_, i) => {
    const rule = i > 0 && groups[i] !== groups[i - 1] ? "    \\midrule\n" : "";
    return `${rule}    ${typeset.map((column) => column.cells[i]).join(" & ")} \\\\`;
  });
  return `${[
    "% needs \\usepackage{booktabs}",
    "\\begin{table}[t]",
    "  \\centering",
    `  \\caption{${escapeLatex(caption)}}`,
    `  \\label{${label}}`,
    `  \\begin{tabular}{${typeset.map((column) => column.alignment).join("")}}`,
    "    \\toprule",
    `    ${columns.map((column) => escapeLatex(column.head)).join(" & ")} \\\\`,
    "    \\midrule",
    ...body,
    "    \\bottomrule",
    "  \\end{tabular}",
    "\\end{table}",
  ].join("\n")}\n`;
}

/** Columns, where a table has them, in which rows must agree to be ranked against each other. */
const RANKED_WITHIN = ["T", "when", "metric", "mark"];

/**
 * Runs as a LaTeX table: one row each, scores with their intervals, the protocol and all footnotes as caption. Best and
 * second are found among runs of one T that were scored at the same moment, and never between unlike protocols.
 * @throws {RefusedInput} as `summaryFrame` and `toLatex` do
 */
export function summaryLatex(
  runs: readonly ScoredRun[],
  options: SummaryOptions & Pick<LatexOptions, "label" | "digits">,
): string {
  const { rows, fields } = readableFields(summaryRows(runs, options));
  const table = tableOf(rows, "runs");
  const { notes } = footnotes(runs, options.allow ?? rowFields);
  const scores = Object.entries(scoreHeads).filter(([name]) => table.columns.includes(name));
  const better = new Set(runs.map((run) => metricOf(run).better));
  const [only, ...others] = better;
  const best: NonNullable<LatexColumn["best"]> = only === undefined || others.length > 0 ? "none" : only;
  return toLatex(table, {
    ...options,
    caption: [caption(runs), ...notes].join("\n"),
    columns: [...fields, "records", ...scores.map(([name, head]) => ({ name, head, best }))],
    groupBy: RANKED_WITHIN.filter((name) => fields.includes(name)),
  });
}

/**
 * Text as LaTeX prints it, letter by letter: no character keeps a meaning of its own, two do not melt into a ligature
 * that reads otherwise (`--`, `''`), and all white space is one blank, so that no paragraph ends.
 */
export function escapeLatex(text: string): string {
  return text
    .replaceAll(/[\s\p{Cc}]+/gu, " ")
    .replaceAll(/[\\{}$&#^_~%<>|"`*[\]]/g, (character) => escapes[character] as string)
    .replaceAll(/([-',])(?=\1)/g, "$1{}");
}

/** Braces after a command end its name; braces around a character hide it from a command in front (`\\[`, `\\*`). */
const escapes: Readonly<Record<string, string>> = {
  "\\": "\\textbackslash{}",
  "{": "\\{",
  "}": "\\}",
  $: "\\$",
  "&": "\\&",
  "#": "\\#",
  "^": "\\textasciicircum{}",
  _: "\\_",
  "~": "\\textasciitilde{}",
  "%": "\\%",
  "<": "\\textless{}",
  ">": "\\textgreater{}",
  "|": "\\textbar{}",
  '"': "\\char34{}",
  "`": "\\textasciigrave{}",
  "*": "{*}",
  "[": "{[}",
  "]": "{]}",
};

interface CompleteColumn {
  name: string;
  head: string;
  best: "higher" | "lower" | "none";
}

function completed(column: string | LatexColumn): CompleteColumn {
  const { name, head = name, best } = typeof column === "string" ? { name: column } : column;
  const nature = HIGHER.includes(name) ? "higher" : LOWER.includes(name) ? "lower" : "none";
  return { name, head, best: best ?? nature };
}

/** The columns that are not the end of an interval or the count behind a mean: those stand with their mean. */
function withoutIntervals(names: readonly string[]): string[] {
  return names.filter((name) => {
    const [, mean] = /^(.+)(?:Low|High|Records)$/.exec(name) ?? [];
    return mean === undefined || !names.includes(`${mean}Low`);
  });
}

interface Setting {
  digits: number;
  /** The group of each row. */
  groups: readonly string[];
}

function typesetColumn(
  rows: readonly Row[],
  column: CompleteColumn,
  { digits, groups }: Setting,
): { alignment: "l" | "r"; cells: string[] } {
  const { name } = column;
  const values = rows.map((row) => row[name] ?? null);
  const hasInterval = rows.some((row) => typeof row[`${name}Low`] === "number");
  const whole = values.every((value) => typeof value !== "number" || Number.isInteger(value) || Number.isNaN(value));
  const decimals = whole && !hasInterval && column.best === "none" ? 0 : digits;
  const marks = marksOf(values, column.best, { digits: decimals, groups });
  const cells = rows.map((row, i) => {
    const number = (marks[i] as Mark)(cellText(values[i] as Cell, decimals));
    const ends = [row[`${name}Low`], row[`${name}High`]];
    if (!ends.every((end) => typeof end === "number")) return number;
    return `${number} {\\scriptsize [${ends.map((end) => numberText(end, decimals)).join(", ")}]}`;
  });
  return { alignment: values.some((value) => typeof value === "number") ? "r" : "l", cells };
}

type Mark = (text: string) => string;
const plain: Mark = (text) => text;
const bold: Mark = (text) => `\\textbf{${text}}`;
const underlined: Mark = (text) => `\\underline{${text}}`;

/** Marks of a column's values. Values are ranked as they print: nobody sees a difference behind the last digit. */
function marksOf(values: readonly Cell[], best: CompleteColumn["best"], { digits, groups }: Setting): Mark[] {
  if (best === "none") return values.map(() => plain);
  const printed = values.map((value) => (typeof value === "number" ? Number(value.toFixed(digits)) : Number.NaN));
  return printed.map((value, i) => {
    const group = printed.filter((other, j) => groups[j] === groups[i] && !Number.isNaN(other));
    const ranks = [...new Set(group)].sort((a, b) => (best === "higher" ? b - a : a - b));
    if (ranks.length < 2) return plain;
    if (value === ranks[0]) return bold;
    return value === ranks[1] ? underlined : plain;
  });
}

function cellText(value: Cell, decimals: number): string {
  if (value === null) return "--";
  return typeof value === "number" ? numberText(value, decimals) : escapeLatex(String(value));
}

function numberText(value: number, decimals: number): string {
  return value.toFixed(decimals).replace("-", "$-$");
}

function requireColumn(name: string, names: readonly string[]): void {
  if (names.includes(name)) return;
  const near = nearest(name, names);
  throw new RefusedInput("a table has no such column", {
    where: "columns of a LaTeX table",
    found: name,
    expected: `one of ${names.join(", ")}`,
    ...(near === undefined ? {} : { hint: near }),
  });
}

/** @throws {RefusedInput} for a label that \\ref cannot name */
export function requireLabel(label: string): void {
  if (/^[A-Za-z0-9:._-]+$/.test(label)) return;
  throw new RefusedInput("a label cannot be used", {
    where: "label of a LaTeX table",
    found: label,
    expected: "letters, digits and : . _ -",
    hint: "tab:zsre",
  });
}
