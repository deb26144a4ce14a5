import { readdir, rm, stat, statfs } from "node:fs/promises";
import { join } from "node:path";
import { errorText, LabFailure } from "../core/errors.js";

/** Content of a file of the cache: cuts, or a stream on its way. Drafts of both end in .part. */
export type EntryKind = "cuts" | "stream";

const ENTRY = /^(cuts|stream)-[0-9a-f]{64}\.safetensors(\.\d+\.part)?$/;

const MINUTE_MS = 60_000;
/** A draft grows until it is whole, within seconds: one untouched for so long has lost its process. */
const DRAFT_AGE_MS = 10 * MINUTE_MS;
/** A stream is what an interrupted pass goes on from; after so long nobody comes back to it. */
const STREAM_AGE_MS = 7 * 24 * 60 * MINUTE_MS;

/** Name of the file of an entry. */
export function entryName(kind: EntryKind, sha256: string): string {
  return `${kind}-${sha256}.safetensors`;
}

/**
 * Takes entries away until `bytes` more fit into the limit: first streams and drafts that nobody will come back for,
 * then the cuts that were not used for longest. Where that is not enough, the limit is exceeded: streams in use stay.
 * @param replacing the file that the new bytes replace
 */
export async function makeRoom(
  folder: string,
  { bytes, limitBytes, replacing }: { bytes: number; limitBytes: number; replacing: string },
): Promise<void> {
  const entries = (await entriesIn(folder)).filter(({ path }) => path !== replacing);
  let used = entries.reduce((sum, entry) => sum + entry.bytes, 0);
  const now = Date.now();
  const abandoned = entries.filter(({ kind, usedMs }) => {
    if (kind === "draft") return now - usedMs > DRAFT_AGE_MS;
    return kind === "stream" && now - usedMs > STREAM_AGE_MS;
  });
  const cuts = entries.filter(({ kind }) => kind === "cuts").sort((a, b) => a.usedMs - b.usedMs);
  for (const entry of [...abandoned, ...cuts]) {
    if (used + bytes <= limitBytes) return;
    await rm(entry.path, { recursive: true, force: true }); // another process may have been faster
    used -= entry.bytes;
  }
}

interface Entry {
  path: string;
  kind: EntryKind | "draft";
  bytes: number;
  /** Time of the last use, in milliseconds. */
  usedMs: number;
}

async function entriesIn(folder: string): Promise<Entry[]> {
  const entries: Entry[] = [];
  for (const name of await readdir(folder)) {
    const [, kind, draft] = ENTRY.exec(name) ?? [];
    if (kind === undefined) continue; // not the cache's
    const path = join(folder, name);
    const found = await stat(path).catch(() => null); // taken away by another process meanwhile
    if (found === null) continue;
    entries.push({
      path,
      kind: draft === undefined ? (kind as EntryKind) : "draft",
      bytes: found.size,
      usedMs: found.mtimeMs,
    });
  }
  return entries;
}

/** The failure to write so many bytes into the cache, with what there is room for and what can be done. */
export async function writeFailure(folder: string, bytes: number, cause: unknown): Promise<LabFailure> {
  const free = await statfs(folder).then(
    ({ bavail, bsize }) => megabytes(bavail * bsize),
    (error: unknown) => `unknown (${errorText(error)})`,
  );
  const lines = [
    `the cache of cuts cannot be written: ${errorText(cause)}`,
    `folder: ${folder}`,
    `needed: ${megabytes(bytes)}`,
    `free: ${free}`,
    "try: free space on the disk, --cache FOLDER for another disk, or a smaller --cache-size to let old entries go",
  ];
  return new LabFailure(lines.join("\n  "), { cause });
}

/** Bytes for people. */
export function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(3)} MB`;
}
