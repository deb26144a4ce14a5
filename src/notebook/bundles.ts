import { inspect } from "node:util";
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

interface Cells {
  columns: string[];
  rows: { text: string; isNumber: boolean }[][];
  /** Says how many rows are not shown; empty when all are. */
  note: string;
}

/** True if a value is a danfo DataFrame or has the same shape: columns, index and rows of values. */
export function isFrame(value: unknown): value is FrameLike {
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
  const rows = records.slice(0, maxRows).map((record) => columns.map((column) => formatCell(record[column], digits)));
  const note = records.length > maxRows ? `${maxRows} of ${records.length} rows` : "";
  return { columns, rows, note };
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

function formatCell(value: unknown, digits: number): { text: string; isNumber: boolean } {
  if (value === null || value === undefined) return { text: "", isNumber: false };
  if (typeof value !== "number") return { text: typeof value === "string" ? value : inspect(value), isNumber: false };
  const text = Number.isFinite(value) && !Number.isInteger(value) ? value.toFixed(digits) : String(value);
  return { text, isNumber: true };
}

/** No styles and no scripts: GitHub and nbconvert show it the same. */
function htmlTable({ columns, rows, note }: Cells, caption: string | undefined): string {
  const cell = (text: string, isNumber: boolean) => `<td${isNumber ? ' align="right"' : ""}>${escapeHtml(text)}</td>`;
  const body = rows.map((row) => `    <tr>${row.map(({ text, isNumber }) => cell(text, isNumber)).join("")}</tr>`);
  return [
    '<table class="dataframe">',
    ...(caption ? [`  <caption>${escapeHtml(caption)}</caption>`] : []),
    `  <thead><tr>${columns.map((column) => `<th>${escapeHtml(column)}</th>`).join("")}</tr></thead>`,
    "  <tbody>",
    ...body,
    "  </tbody>",
    "</table>",
    ...(note ? [`<p>${note}</p>`] : []),
  ].join("\n");
}

function textTable({ columns, rows, note }: Cells, caption: string | undefined): string {
  const widths = columns.map((column, i) => Math.max(column.length, ...rows.map((row) => row[i]?.text.length ?? 0)));
  const line = (texts: { text: string; isNumber: boolean }[]) =>
    texts
      .map(({ text, isNumber }, i) => (isNumber ? text.padStart(widths[i] ?? 0) : text.padEnd(widths[i] ?? 0)))
      .join("  ")
      .trimEnd();
  return [
    ...(caption ? [caption] : []),
    line(columns.map((text, i) => ({ text, isNumber: rows.every((row) => row[i]?.isNumber) && rows.length > 0 }))),
    widths.map((width) => "-".repeat(width)).join("  "),
    ...rows.map(line),
    ...(note ? [note] : []),
  ].join("\n");
}

function escapeHtml(text: string): string {
  return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/"/g, "&quot;");
}
