import { LabFailure } from "../core/errors.js";
import { narrowToBf16, narrowToF16 } from "../core/float-bits.js";
import { DTYPE_BYTES, LENGTH_BYTES } from "./safetensors-header.js";

/** A tensor to store, row-major. Float32 values become BF16 or F16 by rounding to the nearest, ties to even. */
export type TensorToWrite =
  | { dtype: "F32" | "BF16" | "F16"; shape: readonly number[]; data: Float32Array }
  | { dtype: "U8"; shape: readonly number[]; data: Uint8Array }
  | { dtype: "I32"; shape: readonly number[]; data: Int32Array };

/** Values converted at a time, so that a large tensor is never in memory twice. */
const CHUNK_VALUES = 1 << 20;

/** Header entry of a tensor to store: its dtype and shape. */
export type TensorOutline = Pick<TensorToWrite, "dtype" | "shape">;

/**
 * The bytes of a safetensors file, part by part. The same tensors and metadata give the same bytes.
 * Wider dtypes come first, so that every tensor starts at a multiple of its element size; within a dtype names decide.
 * @throws {LabFailure} when a tensor's data does not fill its shape
 */
export function safetensorsChunks(
  tensors: Readonly<Record<string, TensorToWrite>>,
  metadata: Readonly<Record<string, string>> = {},
): Iterable<Uint8Array> {
  for (const [name, { shape, data }] of Object.entries(tensors)) {
    if (elementCount(shape) === data.length) continue;
    throw new LabFailure(`tensor ${name} of shape [${shape.join(", ")}] has ${data.length} values to write`);
  }
  const ordered = inFileOrder(Object.entries(tensors));
  return fileChunks(encodeHeader(ordered, metadata), ordered);
}

/** Wider dtypes first, then by name: the order in which tensors stand in a file, as the format's own writer has it. */
export function inFileOrder<T extends TensorOutline>(tensors: readonly [string, T][]): [string, T][] {
  return [...tensors].sort(
    ([a, { dtype: dtypeA }], [b, { dtype: dtypeB }]) => DTYPE_BYTES[dtypeB] - DTYPE_BYTES[dtypeA] || (a < b ? -1 : 1),
  );
}

/** The bytes of a file before its first tensor. @param tensors in file order */
export function encodeHeader(
  tensors: readonly (readonly [string, TensorOutline])[],
  metadata: Readonly<Record<string, string>>,
): Uint8Array {
  const header: Record<string, unknown> = {};
  const entries = Object.entries(metadata).sort(([a], [b]) => (a < b ? -1 : 1));
  if (entries.length > 0) header.__metadata__ = Object.fromEntries(entries);
  let offset = 0;
  for (const [name, { dtype, shape }] of tensors) {
    const end = offset + elementCount(shape) * DTYPE_BYTES[dtype];
    header[name] = { dtype, shape, data_offsets: [offset, end] };
    offset = end;
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  const padded = Math.ceil(json.length / 8) * 8; // the data starts at a multiple of 8 bytes
  const bytes = new Uint8Array(LENGTH_BYTES + padded).fill(" ".charCodeAt(0));
  new DataView(bytes.buffer).setBigUint64(0, BigInt(padded), true);
  bytes.set(json, LENGTH_BYTES);
  return bytes;
}

function elementCount(shape: readonly number[]): number {
  return shape.reduce((product, extent) => product * extent, 1);
}

function* fileChunks(header: Uint8Array, tensors: [string, TensorToWrite][]): Generator<Uint8Array> {
  yield header;
  for (const [, tensor] of tensors) {
    for (let start = 0; start < tensor.data.length; start += CHUNK_VALUES) {
      const stored = storedValues(tensor, start, start + CHUNK_VALUES);
      yield new Uint8Array(stored.buffer, stored.byteOffset, stored.byteLength);
    }
  }
}

function storedValues(tensor: TensorToWrite, start: number, end: number) {
  if (tensor.dtype === "BF16") return narrowToBf16(tensor.data.subarray(start, end));
  if (tensor.dtype === "F16") return narrowToF16(tensor.data.subarray(start, end));
  return tensor.data.subarray(start, end);
}
