import { type FileHandle, open, stat } from "node:fs/promises";
import { Readable } from "node:stream";
import { crc32, createInflateRaw } from "node:zlib";
import { errorText, RefusedInput } from "./errors.js";
import { LFS_POINTER } from "./json.js";

/*
 * Zip archives (PKWARE APPNOTE 6.3) as far as NumPy's and PyTorch's files need them: entries stored or deflated, zip64, one disk,
 * nothing encrypted. The directory at the end of a file says where everything stands; entries are read one chunk at a
 * time, and only those that are asked for.
 */

/** Kind of file that an archive is, for messages. */
export interface ZipKind {
  /** ".npz file" */
  name: string;
  /** Contents of a whole one: "a zip archive of arrays, as numpy.savez writes it". */
  contents: string;
}

/** One file in an archive. */
export interface ZipEntry {
  name: string;
  deflated: boolean;
  crc: number;
  /** As the entry is read, and as it stands in the archive. */
  bytes: number;
  packedBytes: number;
  /** Byte of the archive at which the entry's own header stands. */
  offset: number;
  /** Byte at which the next entry or the directory begins. */
  end: number;
}

export interface ZipFile {
  readonly path: string;
  readonly entries: ReadonlyMap<string, ZipEntry>;
  /**
   * The bytes of an entry. They are proven by its length and CRC once the last one has been taken.
   * @throws {RefusedInput} naming file and entry, when it is damaged
   */
  read(entry: ZipEntry): AsyncGenerator<Uint8Array>;
  close(): Promise<void>;
}

const LOCAL = 0x04034b50;
const LOCAL_BYTES = 30;
const CENTRAL = 0x02014b50;
const CENTRAL_BYTES = 46;
const END = 0x06054b50;
const END_BYTES = 22;
const LONG_END = 0x06064b50;
const LONG_END_BYTES = 56;
const LONG_LOCATOR = 0x07064b50;
const LONG_LOCATOR_BYTES = 20;
const LONG_EXTRA = 1;
const IN_LONG_EXTRA = 0xffffffff;

const STORED = 0;
const DEFLATED = 8;
const ENCRYPTED = 1;

/** A comment behind the end of the directory is no longer than its 16-bit length can say. */
const MAX_COMMENT_BYTES = 0xffff;

/** Of the directory: hundreds of thousands of entries, which no file of arrays has. */
const MAX_DIRECTORY_BYTES = 1 << 24;

/** Deflate packs no better than this, and a little for its frame: an entry that claims more is made up. */
const MAX_DEFLATE_RATIO = 1032;

/** Read from disk at a time. */
const CHUNK_BYTES = 1 << 20;

/** Files that people name .npz, or download in its place, by their first bytes. */
const FOREIGN_FILES = [
  { starts: "\x93NUMPY", is: "a .npy file, which is one array without its archive" },
  { starts: "PK\x03\x04", is: "a zip archive without its end: it was cut short" },
  { starts: "\x80", is: "a Python pickle" },
  { starts: "<", is: "an HTML or XML page" },
  LFS_POINTER,
  { starts: "\x89HDF", is: "an HDF5 file" },
] as const;

/**
 * Opens a zip archive and checks its directory against the file; no entry is read.
 * @throws {RefusedInput} when it is missing, foreign, cut short, encrypted or contradicts itself
 */
export async function openZip(path: string, kind: ZipKind): Promise<ZipFile> {
  const handle = await openFile(path, kind);
  try {
    const { size } = await handle.stat();
    const file: OpenFile = { path, kind, handle, size };
    const directory = await findDirectory(file);
    const entries = readEntries(await readAt(file, directory.offset, directory.bytes), directory, file);
    return { path, entries, read: (entry) => entryBytes(file, entry), close: () => handle.close() };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

interface OpenFile {
  path: string;
  kind: ZipKind;
  handle: FileHandle;
  size: number;
}

async function openFile(path: string, { name }: ZipKind): Promise<FileHandle> {
  const refuse = (found: string, cause?: unknown) =>
    new RefusedInput(`a ${name} cannot be opened`, { where: path, found, expected: `a readable ${name}`, cause });
  try {
    if ((await stat(path)).isFile()) return await open(path, "r");
  } catch (cause) {
    throw refuse(errorText(cause), cause);
  }
  throw refuse("something else than a file");
}

async function readAt(file: OpenFile, offset: number, bytes: number): Promise<Buffer> {
  const target = Buffer.alloc(bytes);
  for (let done = 0; done < bytes; ) {
    const { bytesRead } = await file.handle.read(target, done, bytes - done, offset + done);
    if (bytesRead === 0) throw damaged(file, `its end at byte ${offset + done}`, `at least ${offset + bytes} bytes`);
    done += bytesRead;
  }
  return target;
}

interface Directory {
  offset: number;
  bytes: number;
  entries: number;
}

async function findDirectory(file: OpenFile): Promise<Directory> {
  const { size } = file;
  const tailBytes = Math.min(size, LONG_LOCATOR_BYTES + END_BYTES + MAX_COMMENT_BYTES);
  const tail = await readAt(file, size - tailBytes, tailBytes);
  let at = tail.length - END_BYTES;
  while (at >= 0 && !(tail.readUInt32LE(at) === END && tail.readUInt16LE(at + 20) === tail.length - at - END_BYTES))
    at--;
  if (at < 0) throw await foreign(file);
  const end = size - tailBytes + at;
  const isLong = at >= LONG_LOCATOR_BYTES && tail.readUInt32LE(at - LONG_LOCATOR_BYTES) === LONG_LOCATOR;
  const directory = isLong
    ? await longDirectory(file, Number(tail.readBigUInt64LE(at - LONG_LOCATOR_BYTES + 8)))
    : { entries: tail.readUInt16LE(at + 10), bytes: tail.readUInt32LE(at + 12), offset: tail.readUInt32LE(at + 16) };
  if (directory.bytes > MAX_DIRECTORY_BYTES || directory.offset + directory.bytes > end) {
    const found = `a directory of ${directory.bytes} bytes at byte ${directory.offset}`;
    throw damaged(file, found, `at most ${MAX_DIRECTORY_BYTES} bytes that end before byte ${end}`);
  }
  return directory;
}

async function longDirectory(file: OpenFile, offset: number): Promise<Directory> {
  const record = offset + LONG_END_BYTES <= file.size ? await readAt(file, offset, LONG_END_BYTES) : null;
  if (record?.readUInt32LE(0) !== LONG_END) throw damaged(file, "no zip64 end record", `one at byte ${offset}`);
  const long = (at: number) => Number(record.readBigUInt64LE(at));
  return { entries: long(32), bytes: long(40), offset: long(48) };
}

async function foreign(file: OpenFile): Promise<RefusedInput> {
  const start = (await readAt(file, 0, Math.min(file.size, 16))).toString("latin1");
  const kind = FOREIGN_FILES.find(({ starts }) => start.startsWith(starts))?.is;
  return new RefusedInput(`this is no whole ${file.kind.name}`, {
    where: file.path,
    found: kind ?? `${file.size} bytes without the end of a zip archive`,
    expected: file.kind.contents,
  });
}

function readEntries(bytes: Buffer, directory: Directory, file: OpenFile): Map<string, ZipEntry> {
  const entries = new Map<string, ZipEntry>();
  let at = 0;
  for (let i = 0; i < directory.entries; i++) {
    const fits = at + CENTRAL_BYTES <= bytes.length && bytes.readUInt32LE(at) === CENTRAL;
    const [nameBytes, extraBytes, commentBytes] = fits
      ? ([28, 30, 32].map((field) => bytes.readUInt16LE(at + field)) as [number, number, number])
      : [0, 0, 0];
    const next = at + CENTRAL_BYTES + nameBytes + extraBytes + commentBytes;
    if (!fits || next > bytes.length)
      throw damaged(file, `${i} whole entries`, `${directory.entries} in its directory`);
    const extraAt = at + CENTRAL_BYTES + nameBytes;
    const name = bytes.toString("utf8", at + CENTRAL_BYTES, extraAt);
    if (entries.has(name)) throw damaged(entryOf(file, name), "two entries of this name", "every name once");
    const head = bytes.subarray(at, at + CENTRAL_BYTES);
    entries.set(name, readEntry(name, { head, extra: bytes.subarray(extraAt, extraAt + extraBytes) }, directory, file));
    at = next;
  }
  const placed = [...entries.values()].sort((a, b) => a.offset - b.offset);
  for (const [i, entry] of placed.entries()) entry.end = placed[i + 1]?.offset ?? directory.offset;
  return entries;
}

function readEntry(
  name: string,
  { head, extra }: { head: Buffer; extra: Buffer },
  directory: Directory,
  file: OpenFile,
): ZipEntry {
  const where = entryOf(file, name);
  const method = head.readUInt16LE(10);
  if (head.readUInt16LE(8) & ENCRYPTED) throw damaged(where, "an encrypted entry", "one that is not encrypted");
  if (method !== STORED && method !== DEFLATED) {
    throw damaged(where, `compression method ${method}`, "an entry that is stored (0) or deflated (8)");
  }
  const long = longFields(extra);
  const size = (at: number) => {
    const short = head.readUInt32LE(at);
    return short === IN_LONG_EXTRA ? Number(long.shift() ?? short) : short;
  };
  // In the order in which the zip64 field holds what did not fit.
  const [bytes, packedBytes, offset] = [size(24), size(20), size(42)];
  const found = { name, crc: head.readUInt32LE(16), bytes, packedBytes, offset };
  const entry = { ...found, deflated: method === DEFLATED, end: directory.offset };
  const possible = entry.deflated ? bytes <= (packedBytes + 16) * MAX_DEFLATE_RATIO : bytes === packedBytes;
  if (!possible || offset + LOCAL_BYTES + packedBytes > directory.offset) {
    const found = `${bytes} bytes in ${packedBytes} from byte ${offset}`;
    throw damaged(where, found, `an entry that ends before the directory at byte ${directory.offset}`);
  }
  return entry;
}

function longFields(extra: Buffer): bigint[] {
  for (let at = 0; at + 4 <= extra.length; at += 4 + extra.readUInt16LE(at + 2)) {
    if (extra.readUInt16LE(at) !== LONG_EXTRA) continue;
    const fields = extra.subarray(at + 4, at + 4 + extra.readUInt16LE(at + 2));
    return Array.from({ length: Math.floor(fields.length / 8) }, (_, i) => fields.readBigUInt64LE(8 * i));
  }
  return [];
}

async function* entryBytes(file: OpenFile, entry: ZipEntry): AsyncGenerator<Uint8Array> {
  const where = entryOf(file, entry.name);
  const header = await readAt(file, entry.offset, LOCAL_BYTES);
  if (header.readUInt32LE(0) !== LOCAL) throw damaged(where, "no header of an entry", `one at byte ${entry.offset}`);
  const start = entry.offset + LOCAL_BYTES + header.readUInt16LE(26) + header.readUInt16LE(28);
  if (start + entry.packedBytes > entry.end) {
    throw damaged(
      where,
      `bytes ${start} to ${start + entry.packedBytes}`,
      `an entry that ends before byte ${entry.end}`,
    );
  }
  const packed = packedBytes(file, start, entry.packedBytes);
  let crc = 0;
  let bytes = 0;
  for await (const chunk of entry.deflated ? inflated(packed, where) : packed) {
    bytes += chunk.length;
    if (bytes > entry.bytes) break;
    crc = crc32(chunk, crc);
    yield chunk;
  }
  if (bytes !== entry.bytes) {
    throw damaged(
      where,
      `${bytes > entry.bytes ? "more than " : ""}${Math.min(bytes, entry.bytes)} bytes`,
      `${entry.bytes}`,
    );
  }
  if (crc !== entry.crc)
    throw damaged(where, `bytes with CRC ${hex(crc)}`, `CRC ${hex(entry.crc)}, as they were written`);
}

async function* packedBytes(file: OpenFile, start: number, bytes: number): AsyncGenerator<Buffer> {
  for (let done = 0; done < bytes; done += CHUNK_BYTES) {
    yield await readAt(file, start + done, Math.min(CHUNK_BYTES, bytes - done));
  }
}

async function* inflated(packed: AsyncIterable<Buffer>, where: Place): AsyncGenerator<Buffer> {
  const source = Readable.from(packed);
  const stream = createInflateRaw();
  source.on("error", (error) => stream.destroy(error));
  try {
    yield* source.pipe(stream) as AsyncIterable<Buffer>;
  } catch (cause) {
    if (cause instanceof RefusedInput) throw cause;
    throw damaged(where, errorText(cause), "deflated bytes");
  } finally {
    source.destroy();
  }
}

const hex = (crc: number) => crc.toString(16).padStart(8, "0");

/** A file, or an entry of it, for messages. */
type Place = Pick<OpenFile, "path" | "kind">;

function entryOf({ path, kind }: OpenFile, name: string): Place {
  return { path: `${path}: ${name}`, kind };
}

function damaged({ path, kind }: Place, found: string, expected: string): RefusedInput {
  return new RefusedInput(`a ${kind.name} cannot be used`, { where: path, found, expected });
}
