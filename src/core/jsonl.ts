import { closeSync, fstatSync, fsyncSync, ftruncateSync, openSync, readSync, writeSync } from "node:fs";
import { errorText, LabFailure, RefusedInput } from "./errors.js";
import { readBytes } from "./files.js";
import { decodeUtf8, requireFinite } from "./json.js";

/** A file of one JSON value per line that only grows. Calls are synchronous: when `append` returns, the line is the system's to keep. */
export interface JsonlWriter {
  readonly path: string;
  /**
   * Appends one value as one line, in one write call.
   * @throws {LabFailure} when the line could not be written whole (disk full, no permission), or a number in it is not
   * finite, which JSON would turn into null; the file is then as it was before.
   * @returns the bytes of the line
   */
  append(value: unknown): Uint8Array;
  /** Bytes in the file now. */
  size(): number;
  /** Waits until all lines are on the disk. */
  sync(): void;
  close(): void;
}

export interface JsonlOptions {
  /** Cut the file to this many bytes first: `goodBytes` of `readJsonl`, which drops a torn last line. */
  keepBytes?: number;
  /** Wait until each line is on the disk, so that it also survives a power cut. */
  fsync?: boolean;
}

/** The lines of a file that is only appended to. */
export interface JsonlContent {
  values: unknown[];
  /** Bytes up to the end of the last whole line. */
  goodBytes: number;
  /** True when something stood behind the last whole line: a write that was cut short. */
  torn: boolean;
}

/**
 * Opens (or creates) a line file for appending.
 * @throws {RefusedInput} when the file cannot be opened for writing, or what is kept does not end with a whole line.
 */
export function openJsonl(path: string, options: JsonlOptions = {}): JsonlWriter {
  const fd = openForAppend(path);
  if (options.keepBytes !== undefined) ftruncateSync(fd, options.keepBytes);
  requireWholeLines(fd, path);

  return {
    path,
    append(value) {
      const line = Buffer.from(`${JSON.stringify(value, refuseNonFinite)}\n`);
      const before = fstatSync(fd).size;
      try {
        const written = writeSync(fd, line);
        if (written < line.length) throw new Error(`disk full: ${written} of ${line.length} bytes were written`);
        if (options.fsync) fsyncSync(fd);
      } catch (cause) {
        cutBack(fd, before);
        throw new LabFailure(`cannot append to ${path}: ${errorText(cause)}; the lines before it are whole`, { cause });
      }
      return line;
    },
    size: () => fstatSync(fd).size,
    sync: () => fsyncSync(fd),
    close: () => closeSync(fd),
  };
}

/**
 * Reads a line file. A last line without its newline was cut short while it was written and is left out.
 * @param options `most`: read its first lines only
 * @throws {RefusedInput} when the file cannot be read, or any whole line is not JSON (named as file:line).
 */
export async function readJsonl(
  path: string,
  { most = Number.POSITIVE_INFINITY }: { most?: number | undefined } = {},
): Promise<JsonlContent> {
  const bytes = await readBytes(path);
  const values: unknown[] = [];
  let start = 0;
  for (let end = bytes.indexOf(10); end >= 0 && values.length < most; end = bytes.indexOf(10, start)) {
    values.push(parseLine(bytes.subarray(start, end), `${path}:${values.length + 1}`));
    start = end + 1;
  }
  return { values, goodBytes: start, torn: start < bytes.length };
}

function refuseNonFinite(key: string, value: unknown): unknown {
  if (typeof value === "number" && !Number.isFinite(value)) {
    throw new LabFailure(`"${key}" is ${value}: a line file keeps finite numbers only`);
  }
  return value;
}

function parseLine(bytes: Uint8Array, where: string): unknown {
  const text = decodeUtf8(bytes, where);
  try {
    const value: unknown = JSON.parse(text);
    requireFinite(text, value, where);
    return value;
  } catch (cause) {
    if (cause instanceof RefusedInput) throw cause;
    throw new RefusedInput("a broken line in a file that is only appended to", {
      where,
      found: text,
      expected: "one JSON value; only the last line of a file may be cut short",
      cause,
    });
  }
}

function openForAppend(path: string): number {
  try {
    return openSync(path, "a+");
  } catch (cause) {
    throw new RefusedInput("a line file cannot be opened for writing", {
      where: path,
      found: errorText(cause),
      expected: "a file in a folder that can be written to",
      cause,
    });
  }
}

function requireWholeLines(fd: number, path: string): void {
  const bytes = fstatSync(fd).size;
  const last = Buffer.from("\n"); // what an empty file keeps here
  if (bytes > 0) readSync(fd, last, 0, 1, bytes - 1);
  if (last[0] === 10) return;
  closeSync(fd);
  throw new RefusedInput("a line file does not end with a whole line", {
    where: `${path}, byte ${bytes}`,
    found: "a line that was cut short",
    expected: "a newline: read the file first and keep its goodBytes",
  });
}

/** Takes back what a failed write left behind. A device such as /dev/full cannot be cut; nothing was kept there either. */
function cutBack(fd: number, bytes: number): void {
  if (fstatSync(fd).isFile()) ftruncateSync(fd, bytes);
}
