import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { errorText, nearest, RefusedInput } from "../core/errors.js";
import { exists, readBytes, requireWritableFolder, sha256File, writeFileAtomic } from "../core/files.js";
import { sha256Bytes } from "../core/hash.js";
import { type CatalogueEntry, catalogue, type DataName } from "./catalogue.js";

/** Long enough for four megabytes over a slow line; without a network the failure comes at once. */
const DOWNLOAD_SECONDS = 120;

export interface FetchOptions {
  /** Copy this file instead of downloading; its bytes are checked in the same way. */
  from?: string | undefined;
  /** Folder to put it in; `dataFolder()` unless told. */
  to?: string | undefined;
  /** Address of a folder that serves the catalogue's files under their names, for networks that are closed. */
  mirror?: string | undefined;
}

export interface FetchedData {
  path: string;
  how: "already there" | "copied" | "downloaded";
}

/** Folder of data files: the one that WISE_LAB_DATA names, else data/downloads of the project. */
export function dataFolder(): string {
  return process.env.WISE_LAB_DATA || fileURLToPath(new URL("../../data/downloads", import.meta.url));
}

/**
 * The entry of a known data file, by its name with or without ".json", or by how no other begins.
 * @throws {RefusedInput} for an unknown name, with those that begin so, or the nearest known one.
 */
export function catalogueEntry(name: string): CatalogueEntry {
  const stem = name.replace(/\.json$/, "");
  if (Object.hasOwn(catalogue, stem)) return catalogue[stem as DataName];
  const names = Object.keys(catalogue);
  const begun = names.filter((known) => known.toLowerCase().startsWith(stem.toLowerCase()));
  const [only] = begun;
  if (begun.length === 1) return catalogue[only as DataName];
  const near = begun.length > 1 ? begun.join(" or ") : nearest(stem, names);
  throw new RefusedInput("an unknown data set", {
    where: "the name of a data set",
    found: name,
    expected: `one of ${names.join(", ")}`,
    ...(near ? { hint: near } : {}),
  });
}

/**
 * Path of a records file: the one that is named; else, where there is none, the known data file of that name.
 * @throws {RefusedInput} for a known one that has not been fetched, with the command
 */
export async function recordsAt(path: string): Promise<string> {
  if ((await exists(path)) || basename(path) !== path) return path;
  const stem = path.replace(/\.json$/, "");
  if (!Object.hasOwn(catalogue, stem)) return path;
  const found = await locateData(stem);
  if (found !== null) return found;
  throw new RefusedInput("a known data file has not been fetched", {
    where: path,
    found: `no such file here or in ${dataFolder()}`,
    expected: "the file itself",
    hint: `wise-lab data fetch ${stem}`,
  });
}

/** Path of a known data file that has been fetched, or null. @throws {RefusedInput} for an unknown name */
export async function locateData(name: string): Promise<string | null> {
  const path = join(dataFolder(), catalogueEntry(name).file);
  return (await exists(path)) ? path : null;
}

/**
 * Brings a known data file into the data folder.
 * @throws {RefusedInput} for an unknown name, bytes that are not the file's (nothing is kept), or a source that cannot
 * be reached (with the way to bring the file by hand).
 */
export async function fetchData(name: string, options: FetchOptions = {}): Promise<FetchedData> {
  return fetchEntry(catalogueEntry(name), options);
}

/** `fetchData` for an entry that need not stand in the catalogue. */
export async function fetchEntry(entry: CatalogueEntry, options: FetchOptions = {}): Promise<FetchedData> {
  const folder = options.to ?? dataFolder();
  const path = join(folder, entry.file);
  if (await exists(path)) {
    requireSame(entry, await sha256File(path), path);
    return { path, how: "already there" };
  }
  await requireWritableFolder(folder);
  const bytes = options.from === undefined ? await download(entry, options) : await readBytes(options.from);
  requireSame(entry, sha256Bytes(bytes), options.from ?? addressOf(entry, options) ?? path);
  await writeFileAtomic(path, bytes);
  return { path, how: options.from === undefined ? "downloaded" : "copied" };
}

async function download(entry: CatalogueEntry, options: FetchOptions): Promise<Uint8Array> {
  const address = addressOf(entry, options);
  if (address === null) throw byHand(entry, "no public address of this file");
  try {
    const response = await fetch(address, { signal: AbortSignal.timeout(DOWNLOAD_SECONDS * 1000) });
    if (!response.ok) throw new Error(`the server answered ${response.status} ${response.statusText}`);
    return new Uint8Array(await response.arrayBuffer());
  } catch (cause) {
    throw byHand(entry, `${address}: ${reasonOf(cause)}`, cause);
  }
}

function addressOf(entry: CatalogueEntry, { mirror }: FetchOptions): string | null {
  return mirror === undefined ? entry.url : `${mirror.replace(/\/$/, "")}/${entry.file}`;
}

function byHand(entry: CatalogueEntry, found: string, cause?: unknown): RefusedInput {
  return new RefusedInput("a data file cannot be downloaded", {
    where: `${entry.file} (${entry.source})`,
    found,
    expected: `the file brought by hand, from ${entry.page}${entry.url ? ` or ${entry.url}` : ""}`,
    hint: `wise-lab data fetch ${entry.file.replace(/\.json$/, "")} --from FILE, or put it into ${dataFolder()}`,
    cause,
  });
}

function requireSame(entry: CatalogueEntry, sha256: string, where: string): void {
  if (sha256 === entry.sha256) return;
  throw new RefusedInput("a data file is not the one it is named for", {
    where,
    found: `sha256 ${sha256}`,
    expected: `sha256 ${entry.sha256} (${entry.file}, ${entry.bytes} bytes)`,
  });
}

/** `fetch` says only "fetch failed"; what failed stands in its cause. */
function reasonOf(cause: unknown): string {
  const inner = cause instanceof Error ? cause.cause : undefined;
  return inner === undefined ? errorText(cause) : `${errorText(cause)}: ${errorText(inner)}`;
}
