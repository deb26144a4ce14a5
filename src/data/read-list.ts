import { basename, extname } from "node:path";
import type { z } from "zod";
import { RefusedInput } from "../core/errors.js";
import { readBytes } from "../core/files.js";
import { sha256Bytes } from "../core/hash.js";
import { decodeUtf8, parseJson } from "../core/json.js";

/** The entries of a data file, with what identifies the file. */
export interface ListFile {
  name: string;
  path: string;
  sha256: string;
  items: [unknown, ...unknown[]];
}

/**
 * Reads a JSON list, or one JSON value per line (JSONL).
 * @throws {RefusedInput} when the file cannot be read, is not UTF-8, not JSON, not a list, empty, or has a key twice.
 */
export async function readListFile(path: string): Promise<ListFile> {
  const bytes = await readBytes(path);
  const text = decodeUtf8(bytes, path);
  const lines = extname(path) === ".jsonl" || text.trimStart().startsWith("{");
  const items = lines ? parseLines(text, path) : parseJson(text, path);
  if (!Array.isArray(items)) {
    throw new RefusedInput("a data file holds no list", {
      where: path,
      found: items,
      expected: "a JSON list, or one JSON value per line",
    });
  }
  const [first, ...rest] = items as unknown[];
  if (items.length === 0) {
    throw new RefusedInput("a data file is empty", {
      where: path,
      found: "0 records",
      expected: "at least one record",
    });
  }
  return { name: basename(path, extname(path)), path, sha256: sha256Bytes(bytes), items: [first, ...rest] };
}

function parseLines(text: string, path: string): unknown[] {
  return text.split("\n").flatMap((line, i) => (line.trim() === "" ? [] : [parseJson(line, `${path}:${i + 1}`)]));
}

/**
 * One entry by a schema whose messages say what is expected.
 * @throws {RefusedInput} naming file, record and field, what stands there and what is expected.
 */
export function parseItem<T>(schema: z.ZodType<T>, item: unknown, place: { path: string; index: number }): T {
  const result = schema.safeParse(item);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const field = issue?.path ?? [];
  throw new RefusedInput("a record cannot be used", {
    where: `${place.path}, ${recordName(place.index)}${field.length > 0 ? `, field ${field.join(".")}` : ""}`,
    found: field.reduce<unknown>((value, key) => (value as Record<PropertyKey, unknown> | undefined)?.[key], item),
    expected: issue?.message ?? "a record",
  });
}

/** Name of a record: its number from 1, as users count, and its index, as the results count. */
export function recordName(index: number): string {
  return `record ${index + 1} (index ${index})`;
}
