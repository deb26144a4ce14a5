import { rm, stat, utimes } from "node:fs/promises";
import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";
import { errorText, LabFailure, RefusedInput } from "../core/errors.js";
import { makeFolder, requireWritableFolder } from "../core/files.js";
import { sha256Bytes } from "../core/hash.js";
import type { Cut, Sequences } from "./cut.js";
import { type Numbers, type Part, readSealed, type SealedLayout, sealedLayout, writeSealed } from "./cut-cache-file.js";
import { type EntryKind, entryName, makeRoom, megabytes, writeFailure } from "./cut-cache-room.js";
import { distinctRows } from "./distinct.js";
import type { StreamKeeper } from "./frozen.js";
import { type CutPoint, cutName } from "./patch.js";

/** Everything besides the tokens that decides the bits of a cut. */
export interface CutKey {
  modelSha256: string;
  point: CutPoint;
  /** Precision, backend, version, device, threads, in one line. */
  computedWith: string;
}

/**
 * Cuts on disk, one file per batch: batching decides the last bits of a float, so a batch is what is computed, kept and
 * found again. Nothing read is trusted: every file is compared with what was asked for and its numbers with their
 * sha256. Any number of processes may share the folder: files appear whole, and one that another process took away is
 * only not there. Streams count as used space and stay for a week; a damaged one is none.
 */
export interface CutCache extends StreamKeeper {
  readonly folder: string;
  readonly limitBytes: number;
  /** True if the cuts of a batch are there, whole or not. Counts as use. */
  has(batch: Sequences): Promise<boolean>;
  /**
   * The cuts of a batch, or of those of its sequences whose positions are in `wanted`, without reading the others.
   * @returns null when they are not there or not as they were written: such an entry is taken away, never trusted
   */
  read(batch: Sequences, wanted?: readonly number[]): Promise<Cut[] | null>;
  /**
   * Keeps the cuts of a batch, after making room for them: least recently used entries of any key go first. What was
   * just computed is kept even if it exceeds the limit alone, or together with streams in use: the next write makes up
   * for it.
   * @throws {LabFailure} when they cannot be written, with the bytes needed and free; nothing half written stays
   */
  write(batch: Sequences, cuts: readonly Cut[]): Promise<void>;
}

export interface CutCacheOptions {
  key: CutKey;
  /** Bytes that all files of the cache may take, whatever their key. */
  limitBytes: number;
  hiddenSize: number;
  intermediateSize: number;
  /** Told of every entry that was there and could not be used. */
  onNotice?: (line: string) => void;
}

/**
 * Opens a cache of the cuts of one model at one point, in a folder that other models and processes may share.
 * @throws {RefusedInput} when the folder cannot be written to
 */
export async function openCutCache(folder: string, options: CutCacheOptions): Promise<CutCache> {
  await requireWritableFolder(folder);
  const { limitBytes, onNotice = () => {} } = options;

  function entry(kind: EntryKind, batch: Sequences): { path: string; layout: SealedLayout } {
    const layout = kind === "cuts" ? cutsLayout(batch, options) : streamLayout(batch, options);
    return { layout, path: join(folder, entryName(kind, sha256Bytes(layout.header))) };
  }

  async function readEntry(kind: EntryKind, batch: Sequences, wanted: readonly number[]) {
    const { path, layout } = entry(kind, batch);
    try {
      return await readSealed(path, layout, wanted);
    } catch (error) {
      if (error instanceof RefusedInput) await takeAway(path, error);
      else if (!isSystemError(error)) throw error;
      else if (error.code !== "ENOENT") onNotice(`${path} cannot be read and is computed again: ${error.message}`);
      return null;
    }
  }

  async function takeAway(path: string, { found, expected }: RefusedInput): Promise<void> {
    const why = `found ${found}, expected ${expected}`;
    const removed = await rm(path, { recursive: true, force: true }).then(
      () => "removed",
      (error: unknown) => `not removed (${errorText(error)})`,
    );
    onNotice(`${path} is not as it was written (${why}); ${removed}, and computed again`);
  }

  async function writeEntry(kind: EntryKind, batch: Sequences, parts: readonly Numbers[]): Promise<void> {
    const { path, layout } = entry(kind, batch);
    requireFilled(layout, parts);
    if (kind === "cuts" && layout.bytes > limitBytes) {
      onNotice(`one batch of cuts takes ${megabytes(layout.bytes)}, more than the cache may: ${megabytes(limitBytes)}`);
    }
    try {
      await makeFolder(folder); // caches are emptied at any time
      await makeRoom(folder, { bytes: layout.bytes, limitBytes, replacing: path });
      await writeSealed(path, layout, parts);
    } catch (cause) {
      throw await writeFailure(folder, layout.bytes, cause);
    }
  }

  return {
    folder,
    limitBytes,
    async has(batch) {
      const { path } = entry("cuts", batch);
      const found = await stat(path).catch(() => null);
      if (!found?.isFile()) return false;
      const now = new Date();
      await utimes(path, now, now).catch(() => undefined); // another user's file, or just taken away: read will tell
      return true;
    },
    async read(batch, wanted = batch.map((_, position) => position)) {
      const parts = await readEntry("cuts", batch, wanted);
      return (
        parts?.map(([stream, mlpIn], i) => ({
          point: options.key.point,
          tokens: batch[wanted[i] as number] as readonly number[],
          stream: new Float32Array(stream as ArrayBuffer),
          mlpIn: mlpIn === undefined ? null : new Float32Array(mlpIn),
        })) ?? null
      );
    },
    write: (batch, cuts) =>
      writeEntry(
        "cuts",
        batch,
        cuts.map(({ stream, mlpIn }) => (mlpIn === null ? [stream] : [stream, mlpIn])),
      ),
    async readStream(batch) {
      const [part] = (await readEntry("stream", batch, [0])) ?? [];
      if (part === undefined) return null;
      const [x, next] = part as [ArrayBuffer, ArrayBuffer];
      return { next: new Int32Array(next)[0] as number, x: new Float32Array(x) };
    },
    writeStream: (batch, { next, x }) => writeEntry("stream", batch, [[x, Int32Array.of(next)]]),
    removeStream: (batch) => rm(entry("stream", batch).path, { force: true }),
  };
}

/**
 * Default folder of cuts: the one that WISE_LAB_CACHE names, else wise-lab/cuts in the one that XDG_CACHE_HOME names,
 * else in the user's own for caches.
 */
export function defaultCacheFolder(): string {
  const { WISE_LAB_CACHE, XDG_CACHE_HOME, LOCALAPPDATA } = process.env;
  if (WISE_LAB_CACHE) return WISE_LAB_CACHE;
  const own = join("wise-lab", "cuts");
  // The XDG base directory specification has relative paths ignored.
  if (XDG_CACHE_HOME && isAbsolute(XDG_CACHE_HOME)) return join(XDG_CACHE_HOME, own);
  if (process.platform === "darwin") return join(homedir(), "Library", "Caches", own);
  if (process.platform === "win32" && LOCALAPPDATA) return join(LOCALAPPDATA, own);
  return join(homedir(), ".cache", own);
}

function cutsLayout(batch: Sequences, { key, hiddenSize, intermediateSize }: CutCacheOptions): SealedLayout {
  const parts = batch.map(
    ({ length: T }, i): Part => [
      [`${i}.stream`, { dtype: "F32", shape: [T, hiddenSize] }],
      ...(key.point.at === "input" ? [] : [[`${i}.mlpIn`, { dtype: "F32", shape: [T, intermediateSize] }] as const]),
    ],
  );
  return sealedLayout(parts, metadataOf("cuts", batch, key));
}

function streamLayout(batch: Sequences, { key, hiddenSize }: CutCacheOptions): SealedLayout {
  const { length: U } = distinctRows(batch, Math.max(...batch.map(({ length }) => length))).tokens;
  const part: Part = [
    ["x", { dtype: "F32", shape: [U, hiddenSize] }],
    ["next", { dtype: "I32", shape: [1] }],
  ];
  return sealedLayout([part], metadataOf("stream", batch, key));
}

function metadataOf(kind: EntryKind, batch: Sequences, key: CutKey): Record<string, string> {
  const { modelSha256, point, computedWith } = key;
  return { kind, modelSha256, point: cutName(point), computedWith, rows: "distinct", tokens: JSON.stringify(batch) };
}

/** @throws {LabFailure} when the numbers to write are not those of the layout: they would stand in the wrong places */
function requireFilled({ spans }: SealedLayout, parts: readonly Numbers[]): void {
  const expected = JSON.stringify(spans.map(({ tensorBytes }) => tensorBytes));
  const found = JSON.stringify(parts.map((tensors) => tensors.map(({ byteLength }) => byteLength)));
  if (found !== expected)
    throw new LabFailure(`numbers of another shape for the cache of cuts: ${found}, not ${expected}`);
}

function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && "errno" in error;
}
