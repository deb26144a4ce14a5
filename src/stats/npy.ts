import { RefusedInput } from "../core/errors.js";

/* The .npy format (NumPy enhancement proposal 1): a magic, a header that is a Python literal, and the values. */

/** Element types: floats and integers of 4 and 8 bytes, and text of a fixed length. */
export type NpyType = "f4" | "f8" | "i4" | "i8" | "U";

/** Values of each type; texts are plain strings. */
export interface NpyValues {
  f4: Float32Array;
  f8: Float64Array;
  i4: Int32Array;
  i8: BigInt64Array;
  U: readonly string[];
}

/** An array, row by row. The empty shape is that of a single value. */
export type NpyArray = { [T in NpyType]: { type: T; shape: readonly number[]; data: NpyValues[T] } }[NpyType];

export interface NpyHeader {
  type: NpyType;
  itemBytes: number;
  shape: readonly number[];
}

/** Bytes from which the length of a header can be told. */
export const NPY_START_BYTES = 12;

/** Values begin at a multiple of this. */
const ALIGNMENT = 64;

/** NumPy itself takes no longer header unless told to trust the file. */
const MAX_HEADER_BYTES = 10_000;

const CODE_POINT_BYTES = 4;
const ITEM_BYTES = { f4: 4, f8: 8, i4: 4, i8: 8 } as const;

const HEADER =
  /^\{ *'descr': *(?<descr>'[^']*'|\[.*\]), *'fortran_order': *(?<fortran>True|False), *'shape': *\((?<shape>[\d, ]*)\),? *\}\s*$/s;

/**
 * Offset and length of the header's text, in bytes.
 * @throws {RefusedInput} when these are not the first bytes of a .npy file
 */
export function headerSpan(start: Uint8Array, where: string): { offset: number; bytes: number } {
  const view = Buffer.from(start.buffer, start.byteOffset, start.byteLength);
  if (view.length < NPY_START_BYTES || view.toString("latin1", 0, 6) !== "\x93NUMPY") {
    throw refused(where, "bytes that are no array", "an array in NumPy's .npy format");
  }
  const version = view[6] as number;
  if (version < 1 || version > 3) throw refused(where, `.npy version ${version}`, "version 1, 2 or 3");
  const [offset, bytes] = version === 1 ? [10, view.readUInt16LE(8)] : [12, view.readUInt32LE(8)];
  if (bytes > MAX_HEADER_BYTES) {
    throw refused(where, `a header of ${bytes} bytes`, `at most ${MAX_HEADER_BYTES} bytes`);
  }
  return { offset, bytes };
}

/**
 * Reads a header's text. Nothing is executed: Python objects are refused.
 * @throws {RefusedInput} for a header of any other form, or values that are not those of `NpyType` in C order
 */
export function parseHeader(text: string, where: string): NpyHeader {
  const { descr, fortran, shape: extents } = HEADER.exec(text)?.groups ?? {};
  if (descr === undefined || extents === undefined) {
    throw refused(where, text.trim(), "a header with descr, fortran_order and shape");
  }
  const { type, itemBytes } = itemOf(descr.slice(1, -1), where);
  const shape = extents
    .split(",")
    .filter((part) => part.trim() !== "")
    .map(Number);
  if (!shape.every(Number.isSafeInteger) || !Number.isSafeInteger(itemBytes * elements(shape))) {
    throw refused(where, `shape (${extents})`, "whole numbers");
  }
  if (fortran === "True" && shape.length > 1) {
    throw new RefusedInput("an array of a .npz file cannot be used", {
      where,
      found: "columns one behind the other (Fortran order)",
      expected: "rows one behind the other",
      hint: "in Python: numpy.ascontiguousarray(array) before numpy.savez",
    });
  }
  return { type, itemBytes, shape };
}

function itemOf(descr: string, where: string): Pick<NpyHeader, "type" | "itemBytes"> {
  const [, order = "", kind = ""] = /^([<>|=])(.*)$/s.exec(descr) ?? [];
  if (kind.startsWith("O")) throw refused(where, "Python objects (a pickle)", "numbers or text");
  if (order === "<" && kind in ITEM_BYTES) {
    const type = kind as keyof typeof ITEM_BYTES;
    return { type, itemBytes: ITEM_BYTES[type] };
  }
  if (order === "<" && /^U\d+$/.test(kind)) return { type: "U", itemBytes: CODE_POINT_BYTES * Number(kind.slice(1)) };
  throw refused(where, `values of type ${descr}`, "little-endian floats or integers of 4 or 8 bytes, or text (<U)");
}

/** Number of values of an array. */
export function elements(shape: readonly number[]): number {
  return shape.reduce((product, extent) => product * extent, 1);
}

/** Room for the values of an array as they stand in the file, and the array over it once it is filled. */
export function arrayOf({ type, itemBytes, shape }: NpyHeader): { bytes: Uint8Array; array(): NpyArray } {
  const buffer = new ArrayBuffer(itemBytes * elements(shape));
  const bytes = new Uint8Array(buffer);
  const views = {
    f4: () => ({ type: "f4", shape, data: new Float32Array(buffer) }),
    f8: () => ({ type: "f8", shape, data: new Float64Array(buffer) }),
    i4: () => ({ type: "i4", shape, data: new Int32Array(buffer) }),
    i8: () => ({ type: "i8", shape, data: new BigInt64Array(buffer) }),
    U: () => ({ type: "U", shape, data: texts(new Uint32Array(buffer), elements(shape)) }),
  } satisfies Record<NpyType, () => NpyArray>;
  return { bytes, array: views[type] };
}

/** Texts are code points of four bytes, filled up with zeros. */
function texts(codePoints: Uint32Array, count: number): string[] {
  const length = count === 0 ? 0 : codePoints.length / count;
  return Array.from({ length: count }, (_, i) => {
    const own = codePoints.subarray(i * length, (i + 1) * length);
    return Array.from(own, (point) => (point <= 0x10ffff ? String.fromCodePoint(point) : "\ufffd"))
      .join("")
      .replace(/\0+$/, "");
  });
}

/** The header as NumPy writes it, up to where the values begin. */
export function encodeHeader({ type, itemBytes, shape }: NpyHeader): Uint8Array {
  const descr = type === "U" ? `<U${itemBytes / CODE_POINT_BYTES}` : `<${type}`;
  const extents = shape.length === 1 ? `${shape[0]},` : shape.join(", ");
  const text = `{'descr': '${descr}', 'fortran_order': False, 'shape': (${extents}), }`;
  const start = 10;
  const total = Math.ceil((start + text.length + 1) / ALIGNMENT) * ALIGNMENT;
  const header = Buffer.alloc(total, " ");
  header.write("\x93NUMPY\x01\x00", 0, "latin1");
  header.writeUInt16LE(total - start, 8);
  header.write(text, start, "latin1");
  header.write("\n", total - 1);
  return header;
}

/** The header of an array and its values as they are stored. */
export function encodeArray(array: NpyArray): { header: NpyHeader; values: Uint8Array } {
  const { type, shape } = array;
  if (type !== "U") {
    const { buffer, byteOffset, byteLength } = array.data;
    return {
      header: { type, itemBytes: ITEM_BYTES[type], shape },
      values: new Uint8Array(buffer, byteOffset, byteLength),
    };
  }
  const points = array.data.map((text) => Array.from(text, (character) => character.codePointAt(0) as number));
  const length = Math.max(1, ...points.map((own) => own.length));
  const values = new Uint32Array(length * points.length);
  points.forEach((own, i) => {
    values.set(own, i * length);
  });
  return { header: { type, itemBytes: CODE_POINT_BYTES * length, shape }, values: new Uint8Array(values.buffer) };
}

function refused(where: string, found: string, expected: string): RefusedInput {
  return new RefusedInput("an array of a .npz file cannot be used", { where, found, expected });
}
