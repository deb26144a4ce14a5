import { nearest, RefusedInput } from "../core/errors.js";
import { firstNotFinite, firstNotFiniteBf16, narrowToBf16, widenBf16, widenF16 } from "../core/float-bits.js";
import { LFS_POINTER } from "../core/json.js";
import { DTYPE_BYTES, LENGTH_BYTES, MAX_HEADER_BYTES, parseHeader, type TensorInfo } from "./safetensors-header.js";

export type { Dtype, TensorInfo } from "./safetensors-header.js";

/** Rows [start, end) of a tensor: indices of its first axis. */
export type RowRange = readonly [start: number, end: number];

export interface ReadOptions {
  rows?: RowRange | undefined;
  /** Refuse NaN and infinities. */
  finite?: boolean;
}

/** An open safetensors file (https://github.com/huggingface/safetensors): its header in memory, its data on disk. */
export interface SafetensorsFile {
  readonly path: string;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: Readonly<Record<string, string>>;
  /**
   * Reads an F32, F16 or BF16 tensor, or some of its rows, as float32; never holds more than the result and one chunk.
   * @param options `finite`: refuse NaN and infinities
   * @throws {RefusedInput} for an unknown name, another dtype, rows out of range, or a file that became shorter
   */
  read(name: string, options?: ReadOptions): Promise<Float32Array>;
  /** As `read`, as bf16 bits: exactly those of a BF16 tensor, rounded to the nearest for the other dtypes. */
  readBf16(name: string, options?: ReadOptions): Promise<Uint16Array>;
  /**
   * Reads the stored bytes of a tensor of any dtype, or of some of its rows, into a buffer of their own:
   * `new Int32Array(bytes.buffer)` views an I32 tensor.
   * @throws {RefusedInput} as `read`
   */
  readRaw(name: string, options?: { rows?: RowRange }): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** One read from disk that is converted: large enough that calls cost nothing, small enough to stay in the processor's cache. */
const CHUNK_BYTES = 1 << 20;

/** One read from disk that is kept as it is. */
const RAW_CHUNK_BYTES = 1 << 24;

/** Files that people download by mistake in place of a safetensors file, by their first bytes. */
const FOREIGN_FILES = [
  { starts: "PK\x03\x04", is: "a zip archive, as PyTorch saves (.bin, .pt)" },
  { starts: "\x80", is: "a Python pickle" },
  { starts: "<", is: "an HTML or XML page" },
  LFS_POINTER,
  { starts: "GGUF", is: "a GGUF file" },
  { starts: "\x89HDF", is: "an HDF5 file" },
] as const;

/** Bytes of an open file, wherever they lie. */
export interface ByteSource {
  readonly size: number;
  /** Reads up to `length` bytes from `position` into the target, from its byte `start` on. @returns their number; 0 at the end */
  read(target: Uint8Array, span: { start: number; length: number; position: number }): Promise<number>;
  close(): Promise<void>;
}

/** Bytes in memory as an open file. */
export function sourceOf(bytes: Uint8Array): ByteSource {
  return {
    size: bytes.length,
    async read(target, { start, length, position }) {
      const part = bytes.subarray(position, position + length);
      target.set(part, start);
      return part.length;
    },
    close: async () => {},
  };
}

/**
 * Checks the header of a safetensors file against the file; no tensor data is read.
 * @param path of the file, for messages
 * @throws {RefusedInput} when it is foreign, truncated or contradicts itself; it is then closed
 */
export async function readSafetensors(handle: ByteSource, path: string): Promise<SafetensorsFile> {
  try {
    const { tensors, metadata } = await readHeader(handle, path);
    return {
      path,
      tensors,
      metadata,
      read: (name, { rows, finite = false } = {}) => {
        const span = tensorSpan({ path, tensors, name, rows });
        return readFloats(handle, span, finite);
      },
      readBf16: (name, { rows, finite = false } = {}) => {
        const span = tensorSpan({ path, tensors, name, rows });
        return readBf16(handle, span, finite);
      },
      readRaw: async (name, { rows } = {}) => {
        const span = tensorSpan({ path, tensors, name, rows });
        const bytes = new Uint8Array(span.bytes);
        await readInto(handle, bytes, { position: span.offset, where: span.where });
        return bytes;
      },
      close: () => handle.close(),
    };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

async function readHeader(handle: ByteSource, path: string): Promise<ReturnType<typeof parseHeader>> {
  const { size } = handle;
  const start = new Uint8Array(Math.min(size, 2 * LENGTH_BYTES));
  await readInto(handle, start, { position: 0, where: path });
  const length = size < LENGTH_BYTES ? undefined : Number(new DataView(start.buffer).getBigUint64(0, true));
  const afterLength = size - LENGTH_BYTES;
  if (length === undefined || length > MAX_HEADER_BYTES || length > afterLength || start[LENGTH_BYTES] !== 0x7b) {
    const expected =
      length !== undefined && length > afterLength && length <= MAX_HEADER_BYTES
        ? `a file of at least ${LENGTH_BYTES + length} bytes, as its first ${LENGTH_BYTES} bytes say`
        : `${LENGTH_BYTES} bytes that give the length of the header (at most ${MAX_HEADER_BYTES}), then the header, starting with {`;
    throw new RefusedInput("this is no whole safetensors file", {
      where: path,
      found: foreignKind(start) ?? `${size} bytes${length === undefined ? "" : `, with a header of ${length} bytes`}`,
      expected,
    });
  }
  const header = new Uint8Array(length);
  await readInto(handle, header, { position: LENGTH_BYTES, where: path });
  return parseHeader(header, afterLength - length, path);
}

function foreignKind(start: Uint8Array): string | undefined {
  const text = String.fromCharCode(...start).trimStart();
  return FOREIGN_FILES.find(({ starts }) => text.startsWith(starts))?.is;
}

/** Place of some rows of a tensor in the file. `where` names file and tensor for messages. */
interface TensorSpan {
  tensor: TensorInfo;
  offset: number;
  bytes: number;
  where: string;
}

function tensorSpan(asked: {
  path: string;
  tensors: ReadonlyMap<string, TensorInfo>;
  name: string;
  rows: RowRange | undefined;
}): TensorSpan {
  const { path, tensors, name, rows } = asked;
  const tensor = tensors.get(name);
  if (!tensor) {
    const near = nearest(name, [...tensors.keys()]);
    throw new RefusedInput("a tensor is missing", {
      where: path,
      found: `${tensors.size} tensors, none named ${name}`,
      expected: near ? `a tensor of the file, such as ${near}` : "a tensor of the file",
    });
  }
  const where = `${path}: ${name}`;
  if (!rows) return { tensor, offset: tensor.offset, bytes: tensor.bytes, where };
  const [start, end] = rows;
  const count = tensor.shape[0] ?? 0;
  if (!Number.isInteger(start) || !Number.isInteger(end) || start < 0 || end < start || end > count) {
    throw new RefusedInput("rows are out of range", {
      where,
      found: `rows ${start} to ${end}`,
      expected: `rows within 0 to ${count}`,
    });
  }
  const rowBytes = count === 0 ? 0 : tensor.bytes / count;
  return { tensor, offset: tensor.offset + start * rowBytes, bytes: (end - start) * rowBytes, where };
}

async function readFloats(handle: ByteSource, span: TensorSpan, finite: boolean): Promise<Float32Array> {
  const dtype = floatDtype(span);
  const values = new Float32Array(span.bytes / DTYPE_BYTES[dtype]);
  const chunkValues = CHUNK_BYTES / DTYPE_BYTES[dtype];
  const stored = storedAs[dtype]?.(Math.min(chunkValues, values.length));
  for (let start = 0; start < values.length; start += chunkValues) {
    const target = values.subarray(start, start + chunkValues);
    const source = stored?.subarray(0, target.length) ?? target;
    await readInto(handle, new Uint8Array(source.buffer, source.byteOffset, source.byteLength), {
      position: span.offset + start * DTYPE_BYTES[dtype],
      where: span.where,
    });
    if (dtype === "BF16") widenBf16(source as Uint16Array, target);
    if (dtype === "F16") widenF16(source as Uint16Array, target);
    if (dtype === "F64") target.set(source);
    if (finite) refuseNotFinite(target, start, span);
  }
  return values;
}

async function readBf16(handle: ByteSource, span: TensorSpan, finite: boolean): Promise<Uint16Array> {
  if (floatDtype(span) !== "BF16") return narrowToBf16(await readFloats(handle, span, finite));
  const bits = new Uint16Array(span.bytes / DTYPE_BYTES.BF16);
  await readInto(handle, new Uint8Array(bits.buffer), { position: span.offset, where: span.where });
  if (finite) refuseNotFiniteBits(bits, span);
  return bits;
}

/** Dtypes that are read as float32. */
export const FLOAT_DTYPES = ["F32", "F16", "BF16", "F64"] as const;
type FloatDtype = (typeof FLOAT_DTYPES)[number];

/** Array of the numbers as they are stored, where that is not float32. */
const storedAs: Partial<Record<FloatDtype, (length: number) => Uint16Array | Float64Array>> = {
  F16: (length) => new Uint16Array(length),
  BF16: (length) => new Uint16Array(length),
  F64: (length) => new Float64Array(length),
};

function floatDtype({ tensor: { dtype }, where }: TensorSpan): FloatDtype {
  const found = FLOAT_DTYPES.find((known) => known === dtype);
  if (found !== undefined) return found;
  const expected = FLOAT_DTYPES.join(", ");
  throw new RefusedInput("a tensor cannot be read as float32", { where, found: dtype, expected });
}

function refuseNotFiniteBits(bits: Uint16Array, span: TensorSpan): void {
  const index = firstNotFiniteBf16(bits);
  if (index < 0) return;
  const value = new Float32Array(1);
  widenBf16(bits.subarray(index, index + 1), value);
  refuseNotFinite(value, index, span);
}

function refuseNotFinite(values: Float32Array, start: number, { tensor, where, offset }: TensorSpan): void {
  const index = firstNotFinite(values);
  if (index < 0) return;
  let rest = start + index + (offset - tensor.offset) / DTYPE_BYTES[tensor.dtype];
  const position = tensor.shape.toReversed().map((extent) => {
    const along = rest % extent;
    rest = (rest - along) / extent;
    return along;
  });
  throw new RefusedInput("a weight is not a finite number", {
    where: `${where} [${position.reverse().join(", ")}]`,
    found: String(values[index]),
    expected: "finite numbers only",
  });
}

/** Fills `target` from the file at `position`. */
async function readInto(
  handle: ByteSource,
  target: Uint8Array,
  { position, where }: { position: number; where: string },
): Promise<void> {
  let done = 0;
  while (done < target.length) {
    const length = Math.min(target.length - done, RAW_CHUNK_BYTES);
    const bytesRead = await handle.read(target, { start: done, length, position: position + done });
    if (bytesRead === 0) {
      throw new RefusedInput("a file became shorter while it was read", {
        where,
        found: `the end of the file at byte ${position + done}`,
        expected: `data up to byte ${position + target.length}`,
      });
    }
    done += bytesRead;
  }
}
