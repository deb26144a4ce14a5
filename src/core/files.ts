import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { access, mkdir, open, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { errorText, LabFailure, RefusedInput } from "./errors.js";
import { decodeText, parseJson } from "./json.js";

/** Bytes written and taken away again to see that a folder takes files: too many to hide in a directory entry. */
const PROBE_BYTES = 64 * 1024;

/**
 * Writes a file so that it is there whole or not at all: beside its place first, flushed, then renamed.
 * @throws {LabFailure} naming the path, when it cannot be written; nothing is left behind and an older file stays.
 */
export async function writeFileAtomic(path: string, bytes: Uint8Array | string | Iterable<Uint8Array>): Promise<void> {
  const draft = `${path}.${process.pid}.part`;
  try {
    await writeFlushed(draft, bytes);
    await rename(draft, path);
  } catch (cause) {
    await rm(draft, { force: true }).catch(() => undefined); // the reason to report is the one that stopped the writing
    throw new LabFailure(`cannot write ${path}: ${errorText(cause)}`, { cause });
  }
}

/**
 * Makes a folder where it is missing and proves that files can be written there, before work whose results should go there.
 * @throws {RefusedInput} when it is read-only, full, or not a folder.
 */
export async function requireWritableFolder(path: string): Promise<void> {
  const probe = join(path, `.${process.pid}.probe`);
  try {
    await makeFolder(path);
    await writeFlushed(probe, new Uint8Array(PROBE_BYTES));
  } catch (cause) {
    throw new RefusedInput("an output folder cannot be written to", {
      where: path,
      found: errorText(cause),
      expected: "a folder where files can be written, with room for them",
      cause,
    });
  } finally {
    await rm(probe, { force: true }).catch(() => undefined); // where writing fails, there is nothing to take away
  }
}

/** Makes a folder and those above it. Node's own recursive mkdir never returns where a file system makes none (/proc). */
export async function makeFolder(path: string): Promise<void> {
  if ((await stat(path).catch(() => null))?.isDirectory()) return;
  const above = dirname(path);
  if (above !== path) await makeFolder(above);
  await mkdir(path).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code !== "EEXIST") throw cause; // another process may have made it meanwhile
  });
}

/** True if a file or folder is at this path and can be reached. */
export async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

/**
 * Reads a whole file.
 * @throws {RefusedInput} when it cannot be read.
 */
export async function readBytes(path: string): Promise<Uint8Array> {
  try {
    return await readFile(path);
  } catch (cause) {
    throw unreadable(path, cause);
  }
}

/**
 * SHA-256 of a file, in lower-case hex; the file is streamed, never held whole.
 * @throws {RefusedInput} when it cannot be read.
 */
export async function sha256File(path: string): Promise<string> {
  const hash = createHash("sha256");
  try {
    for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  } catch (cause) {
    throw unreadable(path, cause);
  }
  return hash.digest("hex");
}

/**
 * Reads a UTF-8 text file.
 * @throws {RefusedInput} when it cannot be read, and as `decodeText`.
 */
export async function readText(path: string): Promise<string> {
  return decodeText(await readBytes(path), path);
}

/**
 * Reads a JSON file.
 * @throws {RefusedInput} when it cannot be read, is not UTF-8, is not JSON, or an object has one key twice.
 */
export async function readJsonFile(path: string): Promise<unknown> {
  return parseJson(await readText(path), path);
}

async function writeFlushed(path: string, bytes: Uint8Array | string | Iterable<Uint8Array>): Promise<void> {
  await makeFolder(dirname(path));
  const file = await open(path, "w");
  try {
    await writeFile(file, bytes);
    await file.sync();
  } finally {
    await file.close();
  }
}

function unreadable(path: string, cause: unknown): RefusedInput {
  return new RefusedInput("a file cannot be read", {
    where: path,
    found: errorText(cause),
    expected: "a readable file",
    cause,
  });
}
