import type { DataFrame } from "danfojs-node";
import { show, visible } from "../core/errors.js";
import type { EditMethod } from "../edit/contract.js";
import type { OptionSpec } from "../edit/option-table.js";
import { methods } from "../edit/registry.js";
import type { ScoredRun } from "../run/types.js";
import { caption, footnotes, rowFields } from "./protocols.js";
import { type Cell, frameOf, type Row, rowsOf, type SummaryOptions, summaryFrame } from "./tables.js";
import type { MeasureName } from "./values.js";

export interface FormatOptions {
  /** Decimals of numbers that are not whole. Default 3. */
  digits?: number;
  /** Columns of the terminal that a text table may take; longer texts end in "…". Default: no limit. */
  width?: number | undefined;
}

/**
 * A table as CSV (RFC 4180, "\n" after each line): numbers in full, NaN as NaN, null as nothing. A text that a spreadsheet
 * would take for a formula has a "'" in front.
 */
export function toCsv(frame: DataFrame): string {
  const lines = [frame.columns as string[], ...(frame.values as Cell[][])];
  return lines.map((cells) => `${cells.map(csvCell).join(",")}\n`).join("");
}

/** A table as GitHub Markdown, numbers to the right. */
export function toMarkdown(frame: DataFrame, options: FormatOptions = {}): string {
  const { header, body, right } = gridOf(frame, options);
  const line = (cells: readonly string[]) => `| ${cells.map(markdownCell).join(" | ")} |\n`;
  const rule = `| ${right.map((toRight) => (toRight ? "---:" : "---")).join(" | ")} |\n`;
  return [line(header), rule, ...body.map(line)].join("");
}

/** A table as aligned plain text for a terminal, numbers to the right. */
export function toText(frame: DataFrame, options: FormatOptions = {}): string {
  const { header, body, right } = gridOf(frame, options);
  const cells = [header, ...body].map((row) => row.map((cell) => visible(cell.replaceAll(/\s+/g, " "))));
  const full = header.map((_, i) => Math.max(...cells.map((row) => columnsOf(row[i] as string))));
  const widths = fitted(full, right, options.width ?? Number.POSITIVE_INFINITY);
  const lines = cells.map((row) =>
    row
      .map((cell, i) => {
        const width = widths[i] as number;
        const text = cutTo(cell, width);
        const blank = " ".repeat(width - columnsOf(text));
        return right[i] ? blank + text : text + blank;
      })
      .join(GAP)
      .trimEnd(),
  );
  lines.splice(1, 0, widths.map((width) => "-".repeat(width)).join(GAP));
  return `${lines.join("\n")}\n`;
}

const GAP = "  ";
const SHORTEST = 12; // columns that a shortened text keeps

/** Widths of columns within a width in all: the widest texts give way first, numbers never. */
function fitted(full: readonly number[], right: readonly boolean[], width: number): number[] {
  const widths = [...full];
  const total = () => widths.reduce((sum, own) => sum + own, (widths.length - 1) * GAP.length);
  while (total() > width) {
    const texts = widths.map((own, i) => (right[i] || own <= SHORTEST ? 0 : own));
    const widest = Math.max(...texts);
    if (widest === 0) break;
    widths[texts.indexOf(widest)] = widest - 1;
  }
  return widths;
}

/** A text within a width, with "…" at its end where it is cut. */
function cutTo(text: string, width: number): string {
  if (columnsOf(text) <= width) return text;
  let short = "";
  for (const { segment } of graphemes.segment(text)) {
    if (columnsOf(short + segment) >= width) break;
    short += segment;
  }
  return `${short}…`;
}

const graphemes = new Intl.Segmenter("en", { granularity: "grapheme" });
const WIDE =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Emoji_Presentation}\u3000-\u303f\uff01-\uff60]/u;

/** Columns of a terminal that a text takes: two for Chinese, Japanese and Korean characters and for emoji. */
function columnsOf(text: string): number {
  if (/^[\x20-\x7e]*$/.test(text)) return text.length;
  return [...graphemes.segment(text)].reduce((sum, { segment }) => sum + (WIDE.test(segment) ? 2 : 1), 0);
}

/** Headings of a summary's scores where people read it, in the order of the columns. */
export const scoreHeads = {
  rewrite: "Rewrite",
  rephrase: "Rephrase",
  locality: "Locality",
  average: "Avg",
  portability: "Portability",
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
 * @param frame what `summaryFrame` made.
 */
export function readableFields(frame: DataFrame): { frame: DataFrame; fields: string[] } {
  const rows = rowsOf(frame);
  const names = frame.columns as string[];
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
  return { frame: frameOf(readable, "runs"), fields: shown.map(head) };
}

/**
 * A summary for reading: a mean and its interval in one cell, e.g. "0.979 [0.946, 1.000]", and fields as
 * `readableFields` shows them.
 * @param frame what `summaryFrame` made.
 */
export function summaryView(frame: DataFrame, { digits = 3 }: FormatOptions = {}): DataFrame {
  const readable = readableFields(frame);
  const names = frame.columns as string[];
  const scores = Object.entries(scoreHeads).filter(([name]) => names.includes(name));
  const routed = ["rewriteToMain", "rephraseToMain", "localityToMain"] as const;
  const toMain = (row: Row): Row =>
    routed.some((name) => names.includes(name))
      ? { "To main rew / reph / loc": routed.map((name) => fixed(row[name], 2)).join(" / ") }
      : {};
  const view = rowsOf(readable.frame).map((row): Row => {
    return {
      ...Object.fromEntries(readable.fields.map((field) => [field, row[field] ?? null])),
      Records: row.records ?? null,
      Blocks: row.blocks ?? null,
      ...Object.fromEntries(scores.map(([name, head]) => [head, intervalText(row, name, digits)])),
      "Pre-edit rew / reph": [row.preRewrite, row.preRephrase].map((value) => fixed(value, digits)).join(" / "),
      ...toMain(row),
      "s/edit": fixed(row.secondsPerEdit, 2),
    };
  });
  return frameOf(view, "runs");
}

/** Table, caption and footnotes of runs as one text: what a terminal prints and what a notebook shows. */
export function renderSummary(
  runs: readonly ScoredRun[],
  format: "text" | "markdown",
  options: SummaryOptions & FormatOptions = {},
): string {
  const view = summaryView(summaryFrame(runs, options), options);
  const table = format === "text" ? toText(view, { width: options.width }) : toMarkdown(view);
  const { notes } = footnotes(runs, options.allow ?? rowFields);
  return `${table}\n${[caption(runs), ...notes].join("\n")}\n`;
}

interface Grid {
  header: string[];
  body: string[][];
  /** True for a column that is aligned to the right: all its cells begin like numbers, or are empty. */
  right: boolean[];
}

function gridOf(frame: DataFrame, options: FormatOptions): Grid {
  const header = frame.columns as string[];
  const values = frame.values as Cell[][];
  const columns = header.map((_, i) =>
    columnText(
      values.map((row) => row[i] ?? null),
      options,
    ),
  );
  return {
    header,
    body: values.map((_, row) => columns.map((column) => column[row] as string)),
    right: columns.map((column) => column.every((text) => /^(-$|NaN|-?\d)/.test(text))),
  };
}

/** Cells of a column as text. Decimals are the same in all cells, and none where all numbers are whole. */
function columnText(cells: readonly Cell[], { digits = 3 }: FormatOptions): string[] {
  const whole = cells.every((cell) => typeof cell !== "number" || Number.isInteger(cell) || Number.isNaN(cell));
  return cells.map((cell) => {
    if (cell === null) return NOTHING;
    return typeof cell === "number" && !whole ? cell.toFixed(digits) : String(cell);
  });
}

/** Text of a cell where there is no such probe. */
const NOTHING = "-";

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

function csvCell(cell: Cell): string {
  const text = typeof cell === "string" && FORMULA.test(cell) ? `'${cell}` : String(cell ?? "");
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

const FORMULA = /^[=+\-@\t\r]/;

/** A text in which nothing is markup for Markdown, HTML or GitHub. */
function markdownCell(text: string): string {
  return visible(text)
    .replaceAll(/[\\`*|]|~(?=~)|\](?=[([:])/g, "\\$&")
    .replaceAll(/(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])/g, "\\_") // within a word it is no markup
    .replaceAll(/[&<>@]/g, (character) => `&#${character.charCodeAt(0)};`)
    .replaceAll("://", "&#58;//")
    .replaceAll(/\bwww\./gi, "www&#46;")
    .replaceAll(/\s*\n\s*/g, "<br>");
}
