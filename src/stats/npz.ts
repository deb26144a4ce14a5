import { LabFailure, RefusedInput } from "../core/errors.js";
import { writeFileAtomic } from "../core/files.js";
import { openZip, type ZipEntry, type ZipFile } from "../core/zip.js";
import {
  arrayOf,
  elements,
  encodeArray,
  encodeHeader,
  headerSpan,
  NPY_START_BYTES,
  type NpyArray,
  type NpyHeader,
  type NpyType,
  parseHeader,
} from "./npy.js";
import { zipBytes } from "./zip-write.js";

/** An open .npz file: arrays by name (https://numpy.org/doc/stable/reference/generated/numpy.savez.html). */
export interface NpzFile {
  readonly path: string;
  /** Names of the arrays, in the order of the file. */
  readonly names: readonly string[];
  /**
   * Type and shape of an array, without its values.
   * @throws {RefusedInput} naming file and array, when it is not there or not of a type that is read
   */
  header(name: string): Promise<NpyHeader>;
  /** An array, proven by its CRC. @throws {RefusedInput} as `header`, and for one that is damaged or of another type */
  read<T extends NpyType>(name: string, ...types: T[]): Promise<Extract<NpyArray, { type: T }>>;
  close(): Promise<void>;
}

const KIND = { name: ".npz file", contents: "a zip archive of arrays, as numpy.savez writes it" };
const EXTENSION = ".npy";

/** Written at a time. */
const CHUNK_BYTES = 1 << 24;

/**
 * Opens a .npz file; no array is read.
 * @throws {RefusedInput} when it is missing, foreign, cut short or contradicts itself
 */
export async function openNpz(path: string): Promise<NpzFile> {
  const zip = await openZip(path, KIND);
  const names = [...zip.entries.keys()].filter((name) => name.endsWith(EXTENSION)).map((name) => name.slice(0, -4));
  return {
    path,
    names,
    async header(name) {
      const reader = byteReader(zip.read(entryOf(zip, names, name)), `${path}: ${name}`);
      try {
        return await readHeader(reader, `${path}: ${name}`);
      } finally {
        await reader.stop();
      }
    },
    read: async <T extends NpyType>(name: string, ...types: T[]) => {
      const array = await readArray(zip, entryOf(zip, names, name), types);
      return array as Extract<NpyArray, { type: T }>;
    },
    close: () => zip.close(),
  };
}

function entryOf({ path, entries }: ZipFile, names: readonly string[], name: string): ZipEntry {
  const entry = entries.get(name + EXTENSION);
  if (entry !== undefined) return entry;
  throw new RefusedInput("an array is missing", {
    where: path,
    found: names.length === 0 ? "no arrays" : `arrays ${names.join(", ")}`,
    expected: `an array ${name}`,
  });
}

async function readArray(zip: ZipFile, entry: ZipEntry, types: readonly NpyType[]): Promise<NpyArray> {
  const where = `${zip.path}: ${entry.name.slice(0, -EXTENSION.length)}`;
  const reader = byteReader(zip.read(entry), where);
  try {
    const header = await readHeader(reader, where);
    if (!types.includes(header.type)) throw refused(where, `values of type ${header.type}`, types.join(" or "));
    const valueBytes = header.itemBytes * elements(header.shape);
    if (valueBytes !== entry.bytes - reader.taken()) {
      throw refused(where, `${entry.bytes - reader.taken()} bytes of values`, `${valueBytes}, as its shape says`);
    }
    const { bytes, array } = arrayOf(header);
    await reader.fill(bytes);
    await reader.end();
    return array();
  } finally {
    await reader.stop();
  }
}

async function readHeader(reader: ByteReader, where: string): Promise<NpyHeader> {
  const start = new Uint8Array(NPY_START_BYTES);
  await reader.fill(start);
  const { offset, bytes } = headerSpan(start, where);
  const text = new Uint8Array(offset + bytes);
  text.set(start);
  await reader.fill(text.subarray(NPY_START_BYTES));
  return parseHeader(Buffer.from(text.subarray(offset)).toString("latin1"), where);
}

type ByteReader = ReturnType<typeof byteReader>;

/** Takes bytes of an entry in the portions that its reader needs. */
function byteReader(chunks: AsyncGenerator<Uint8Array>, where: string) {
  let rest: Uint8Array = new Uint8Array(0);
  let taken = 0;
  return {
    taken: () => taken,
    async fill(target: Uint8Array): Promise<void> {
      for (let done = 0; done < target.length; ) {
        if (rest.length === 0) {
          const { value } = await chunks.next();
          if (value === undefined) throw refused(where, `${taken + done} bytes`, "a whole array");
          rest = value;
        }
        const part = rest.subarray(0, target.length - done);
        target.set(part, done);
        rest = rest.subarray(part.length);
        done += part.length;
      }
      taken += target.length;
    },
    /** Proves the entry: its last bytes have been taken. */
    async end(): Promise<void> {
      while (!(await chunks.next()).done);
    },
    stop: () => chunks.return(undefined),
  };
}

/** The bytes of a .npz file of these arrays, as numpy.savez writes it. Equal arrays give equal bytes. */
export function npzBytes(arrays: Readonly<Record<string, NpyArray>>): Generator<Uint8Array> {
  return zipBytes(
    Object.entries(arrays).map(([name, array]) => {
      const { header, values } = encodeArray(array);
      if (values.length !== header.itemBytes * elements(array.shape)) {
        throw new LabFailure(
          `array ${name} of shape [${array.shape.join(", ")}] has ${array.data.length} values to write`,
        );
      }
      return { name: name + EXTENSION, chunks: () => arrayChunks(encodeHeader(header), values) };
    }),
  );
}

/** Writes a .npz file, whole or not at all. @throws {LabFailure} when it cannot be written */
export async function writeNpz(path: string, arrays: Readonly<Record<string, NpyArray>>): Promise<void> {
  await writeFileAtomic(path, npzBytes(arrays));
}

function* arrayChunks(header: Uint8Array, values: Uint8Array): Generator<Uint8Array> {
  yield header;
  for (let start = 0; start < values.length; start += CHUNK_BYTES) yield values.subarray(start, start + CHUNK_BYTES);
}

function refused(where: string, found: string, expected: string): RefusedInput {
  return new RefusedInput("an array of a .npz file cannot be used", { where, found, expected });
}
