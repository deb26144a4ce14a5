import { RefusedInput } from "../core/errors.js";
import { readJsonFile, writeFileAtomic } from "../core/files.js";
import type { MimeBundle } from "./wire.js";

/** One output of a code cell, as nbformat 4 stores it. Texts are single strings here, lists of lines in files. */
export type Output =
  | { output_type: "stream"; name: string; text: string }
  | { output_type: "display_data"; data: MimeBundle; metadata: Record<string, unknown> }
  | {
      output_type: "execute_result";
      data: MimeBundle;
      metadata: Record<string, unknown>;
      execution_count: number | null;
    }
  | { output_type: "error"; ename: string; evalue: string; traceback: string[] };

export interface CellMetadata extends Record<string, unknown> {
  tags?: string[];
}

export interface CodeCell {
  cell_type: "code";
  id: string;
  source: string;
  metadata: CellMetadata;
  execution_count: number | null;
  outputs: Output[];
}

export interface TextCell {
  cell_type: "markdown" | "raw";
  id: string;
  source: string;
  metadata: CellMetadata;
  attachments?: unknown;
}

export type Cell = CodeCell | TextCell;

/** A notebook of nbformat 4.5. */
export interface Notebook {
  nbformat: 4;
  nbformat_minor: number;
  metadata: Record<string, unknown>;
  cells: Cell[];
}

/** Cell ids came with 4.5. */
const MINOR_VERSION = 5;
const CELL_ID = /^[a-zA-Z0-9-_]{1,64}$/;

type Json = Record<string, unknown>;

/**
 * Reads a notebook and brings it to nbformat 4.5: cells without an id get one from their place.
 * @throws {RefusedInput} naming the cell and the field when it is no notebook of format 4.
 */
export async function readNotebook(path: string): Promise<Notebook> {
  return checkNotebook(await readJsonFile(path), path);
}

/** Writes a notebook the way Jupyter does (sorted keys, indent 1, lists of lines), so that saving it there changes nothing. */
export async function writeNotebook(path: string, notebook: Notebook): Promise<void> {
  await writeFileAtomic(path, notebookText(notebook));
}

/** The bytes of a notebook file. */
export function notebookText(notebook: Notebook): string {
  const cells = notebook.cells.map((cell) => ({
    ...cell,
    source: splitLines(cell.source),
    ...(cell.cell_type === "code" ? { outputs: cell.outputs.map(outputForFile) } : {}),
  }));
  return `${JSON.stringify(sortKeys({ ...notebook, cells }), null, 1)}\n`;
}

/** @param where the notebook's name in refusals. @throws {RefusedInput} as `readNotebook`. */
export function checkNotebook(value: unknown, where: string): Notebook {
  if (!isObject(value) || value.nbformat !== 4) {
    const found = isObject(value) ? `nbformat ${String(value.nbformat)}` : value;
    throw new RefusedInput("not a notebook that can be run", {
      where,
      found,
      expected: "a Jupyter notebook, nbformat 4",
    });
  }
  const { nbformat_minor, metadata, cells } = value;
  if (typeof nbformat_minor !== "number") throw malformed(where, "nbformat_minor", nbformat_minor, "a number");
  if (!isObject(metadata)) throw malformed(where, "metadata", metadata, "an object");
  if (!Array.isArray(cells)) throw malformed(where, "cells", cells, "a list");
  const ids = new Set<string>();
  const checked = cells.map((cell, index) => {
    const result = checkCell(cell, index, `${where}, cell ${index + 1}`);
    if (ids.has(result.id)) throw malformed(`${where}, cell ${index + 1}`, "id", result.id, "an id no other cell has");
    ids.add(result.id);
    return result;
  });
  return { nbformat: 4, nbformat_minor: Math.max(nbformat_minor, MINOR_VERSION), metadata, cells: checked };
}

function checkCell(value: unknown, index: number, where: string): Cell {
  if (!isObject(value)) throw malformed(where, "cell", value, "an object");
  const metadata = value.metadata;
  if (!isObject(metadata)) throw malformed(where, "metadata", metadata, "an object");
  if (metadata.tags !== undefined && !isStrings(metadata.tags))
    throw malformed(where, "tags", metadata.tags, "a list of texts");
  const id = value.id ?? `cell-${index + 1}`;
  if (typeof id !== "string" || !CELL_ID.test(id)) {
    throw malformed(where, "id", id, "1 to 64 letters, digits, hyphens or underscores");
  }
  const common = { id, metadata: metadata as CellMetadata, source: joinLines(value.source, where, "source") };
  if (value.cell_type === "markdown" || value.cell_type === "raw") {
    const attachments = value.attachments === undefined ? {} : { attachments: value.attachments };
    return { cell_type: value.cell_type, ...common, ...attachments };
  }
  if (value.cell_type !== "code") throw malformed(where, "cell_type", value.cell_type, "code, markdown or raw");
  const count = value.execution_count ?? null;
  if (count !== null && typeof count !== "number") throw malformed(where, "execution_count", count, "a number or null");
  if (!Array.isArray(value.outputs)) throw malformed(where, "outputs", value.outputs, "a list");
  return {
    cell_type: "code",
    ...common,
    execution_count: count,
    outputs: value.outputs.map((output) => checkOutput(output, where)),
  };
}

function checkOutput(value: unknown, where: string): Output {
  if (!isObject(value)) throw malformed(where, "output", value, "an object");
  switch (value.output_type) {
    case "stream":
      return {
        output_type: "stream",
        name: requireText(value.name, where, "name"),
        text: joinLines(value.text, where, "text"),
      };
    case "display_data":
    case "execute_result": {
      if (!isObject(value.data)) throw malformed(where, "data", value.data, "an object");
      const metadata = isObject(value.metadata) ? value.metadata : {};
      const data = Object.fromEntries(
        Object.entries(value.data).map(([type, content]) => [type, isStrings(content) ? content.join("") : content]),
      );
      if (value.output_type === "display_data") return { output_type: "display_data", data, metadata };
      const count = typeof value.execution_count === "number" ? value.execution_count : null;
      return { output_type: "execute_result", data, metadata, execution_count: count };
    }
    case "error": {
      const { ename, evalue, traceback } = value;
      if (!isStrings(traceback)) throw malformed(where, "traceback", traceback, "a list of texts");
      const text = { ename: requireText(ename, where, "ename"), evalue: requireText(evalue, where, "evalue") };
      return { output_type: "error", ...text, traceback };
    }
    default:
      throw malformed(where, "output_type", value.output_type, "stream, display_data, execute_result or error");
  }
}

function outputForFile(output: Output): Json {
  if (output.output_type === "stream") return { ...output, text: splitLines(output.text) };
  if (output.output_type === "error") return output;
  const data = Object.entries(output.data).map(([type, content]) => [
    type,
    typeof content === "string" && isSplitType(type) ? splitLines(content) : content,
  ]);
  return { ...output, data: Object.fromEntries(data) };
}

/** nbformat keeps text as lists of lines, base64 as one string, and leaves JSON as it is. */
function isSplitType(type: string): boolean {
  return type.startsWith("text/") || type === "image/svg+xml" || type === "application/javascript";
}

function splitLines(text: string): string[] {
  return text === "" ? [] : text.split(/(?<=\n)/);
}

function joinLines(value: unknown, where: string, field: string): string {
  if (typeof value === "string") return value;
  if (isStrings(value)) return value.join("");
  throw malformed(where, field, value, "a text or a list of texts");
}

function requireText(value: unknown, where: string, field: string): string {
  if (typeof value === "string") return value;
  throw malformed(where, field, value, "a text");
}

function sortKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sortKeys);
  if (!isObject(value)) return value;
  const keys = Object.keys(value).sort();
  return Object.fromEntries(keys.filter((key) => value[key] !== undefined).map((key) => [key, sortKeys(value[key])]));
}

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isStrings(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === "string");
}

function malformed(where: string, field: string, found: unknown, expected: string): RefusedInput {
  return new RefusedInput(`a notebook has a malformed ${field}`, { where, found, expected });
}
