import { visible } from "../core/errors.js";

/* Tables as text, Markdown and CSV: numbers of a column alike, and nothing in a text that acts. */

/** A cell: null where there is nothing. */
export type Cell = string | number | boolean | null;

/** Rows under their columns, as a danfo DataFrame has them. */
export interface Table {
  columns: string[];
  values: unknown;
}

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
export function toCsv(table: Table): string {
  const lines = [table.columns, ...(table.values as Cell[][])];
  return lines.map((cells) => `${cells.map(csvCell).join(",")}\n`).join("");
}

/** A table as GitHub Markdown, numbers to the right. */
export function toMarkdown(table: Table, options: FormatOptions = {}): string {
  const { header, body, right } = readableOf(table, options);
  const line = (cells: readonly string[]) => `| ${cells.map(markdownCell).join(" | ")} |\n`;
  const rule = `| ${right.map((toRight) => (toRight ? "---:" : "---")).join(" | ")} |\n`;
  return [line(header), rule, ...body.map(line)].join("");
}

/** A table as aligned plain text for a terminal, numbers to the right. */
export function toText(table: Table, options: FormatOptions = {}): string {
  const { header, body, right } = readableOf(table, options);
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

/** A table whose cells are text. */
export interface ReadableTable {
  header: string[];
  body: string[][];
  /** True for a column that is aligned to the right: all its cells begin like numbers, or are empty. */
  right: boolean[];
}

/** The text of every cell. */
export function readableOf(table: Table, options: FormatOptions): ReadableTable {
  const header = table.columns;
  const values = table.values as Cell[][];
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
export const NOTHING = "-";

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
