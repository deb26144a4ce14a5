import { inspect } from "node:util";
import { type Cell, readableOf, type Table, toText } from "../tables/readable.js";
import type { MimeBundle } from "./wire.js";

/** The part of a danfo DataFrame that a table shows. */
export interface FrameLike {
  columns: string[];
  index: (string | number)[];
  values: unknown[] | unknown[][];
}

export type TableInput = readonly Record<string, unknown>[] | FrameLike;

export interface TableOptions {
  /** Columns to show, in this order; default all. */
  columns?: readonly string[];
  caption?: string;
  /** Decimal places of numbers that are no integers. Default 3. */
  digits?: number;
  /** Rows shown before the rest is counted in one line. Default 50. */
  maxRows?: number;
}

const DEFAULT_DIGITS = 3;
const DEFAULT_MAX_ROWS = 50;

interface Cells extends Table {
  values: Cell[][];
  digits: number;
  /** Says how many rows are not shown; empty when all are. */
  note: string;
}

/** True if a value is a danfo DataFrame or has the same shape: columns, index and rows of values. */
function isFrame(value: unknown): value is FrameLike {
  if (typeof value !== "object" || value === null) return false;
  const { columns, index, values } = value as Partial<FrameLike>;
  return Array.isArray(columns) && Array.isArray(index) && Array.isArray(values);
}

/** A table as static HTML, with a plain text form for terminals and plain viewers. */
export function tableBundle(input: TableInput, options: TableOptions = {}): MimeBundle {
  const cells = readCells(input, options);
  return { "text/html": htmlTable(cells, options.caption), "text/plain": textTable(cells, options.caption) };
}

/** The value of a cell's last expression: frames as tables, everything else as Node prints it. */
export function resultBundle(value: unknown): MimeBundle {
  return isFrame(value) ? tableBundle(value) : { "text/plain": inspect(value) };
}

function readCells(input: TableInput, options: TableOptions): Cells {
  const records = isFrame(input) ? frameRecords(input) : [...input];
  const columns = [...(options.columns ?? (isFrame(input) ? input.columns : allKeys(records)))];
  const digits = options.digits ?? DEFAULT_DIGITS;
  const maxRows = options.maxRows ?? DEFAULT_MAX_ROWS;
  const values = records.slice(0, maxRows).map((record) => columns.map((column) => cellOf(record[column])));
  const note = records.length > maxRows ? `${maxRows} of ${records.length} rows` : "";
  return { columns, values, digits, note };
}

function frameRecords(frame: FrameLike): Record<string, unknown>[] {
  return frame.values.map((row) => {
    const values = Array.isArray(row) ? row : [row]; // danfo gives the values of a single column unwrapped
    return Object.fromEntries(frame.columns.map((column, i) => [column, values[i]]));
  });
}

function allKeys(records: readonly Record<string, unknown>[]): string[] {
  return [...new Set(records.flatMap((record) => Object.keys(record)))];
}

function cellOf(value: unknown): Cell {
  if (value === null || value === undefined) return null;
  return typeof value === "number" || typeof value === "string" ? value : inspect(value);
}

/**
 * Text stands left and numbers right, on one line; a table that is too wide scrolls. Attributes say it where a viewer takes
 * styles away, as GitHub does, and styles where its own go over attributes, as in Jupyter.
 */
function htmlTable(cells: Cells, caption: string | undefined): string {
  const { header, body, right } = readableOf(cells, cells);
  const place = (i: number) =>
    right[i]
      ? ' align="right" style="text-align: right; white-space: nowrap"'
      : ' align="left" style="text-align: left"';
  const row = (kind: "th" | "td", texts: readonly string[]) =>
    `<tr>${texts.map((text, i) => `<${kind}${place(i)}>${escapeHtml(text)}</${kind}>`).join("")}</tr>`;
  return [
    '<div style="overflow-x: auto"><table class="dataframe">',
    ...(caption ? [`  <caption>${escapeHtml(caption)}</caption>`] : []),
    `  <thead>${row("th", header)}</thead>`,
    "  <tbody>",
    ...body.map((texts) => `    ${row("td", texts)}`),
    "  </tbody>",
    "</table></div>",
    ...(cells.note ? [`<p>${cells.note}</p>`] : []),
  ].join("\n");
}

function textTable(cells: Cells, caption: string | undefined): string {
  const lines = [...(caption ? [caption] : []), toText(cells, cells).trimEnd(), ...(cells.note ? [cells.note] : [])];
  return lines.join("\n");
}

function escapeHtml(text: string): string {
  return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/"/g, "&quot;");
}
