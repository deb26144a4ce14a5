import { z } from "zod";
import { RefusedInput } from "../core/errors.js";
import { decodeUtf8, parseJson } from "../core/json.js";
import { checked } from "./schema.js";

/** Bytes per element of every dtype that a safetensors file may name. */
export const DTYPE_BYTES = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
  U16: 2,
  I16: 2,
  F16: 2,
  BF16: 2,
  U32: 4,
  I32: 4,
  F32: 4,
  U64: 8,
  I64: 8,
  F64: 8,
} as const;

export type Dtype = keyof typeof DTYPE_BYTES;

/** One tensor of a safetensors file: `bytes` bytes from byte `offset` of the file, row-major. */
export interface TensorInfo {
  dtype: Dtype;
  shape: readonly number[];
  bytes: number;
  offset: number;
}

/** The length of the header is a little-endian u64 in front of it. */
export const LENGTH_BYTES = 8;

/** The format's own reader refuses longer headers, so no honest file has one; a LLaMA shard needs some 10 kB. */
export const MAX_HEADER_BYTES = 100_000_000;

const DTYPES = Object.keys(DTYPE_BYTES) as [Dtype, ...Dtype[]];
const wholeNumber = z.int({ error: "a whole number, 0 or more" }).nonnegative({ error: "a whole number, 0 or more" });
const entrySchema = z.strictObject(
  {
    dtype: z.enum(DTYPES, { error: `one of ${DTYPES.join(", ")}` }),
    shape: z.array(wholeNumber, { error: "a list of whole numbers" }),
    data_offsets: z.tuple([wholeNumber, wholeNumber], { error: "a pair [begin, end] of whole numbers" }),
  },
  { error: "an object with dtype, shape and data_offsets, nothing else" },
);
const metadataSchema = z.record(z.string(), z.string({ error: "a string" }), { error: "an object of strings" });

/**
 * Checks the header of the safetensors file `path` and returns what it says.
 * @param header the bytes of the header, without its length
 * @param dataBytes bytes of the file after the header
 * @throws {RefusedInput} when the header is no JSON, names a tensor twice, an unknown dtype or a span that does not
 *   fit its shape, or when the tensors do not fill the rest of the file exactly, without holes or overlaps
 */
export function parseHeader(
  header: Uint8Array,
  dataBytes: number,
  path: string,
): { tensors: Map<string, TensorInfo>; metadata: Record<string, string> } {
  const entries = headerEntries(header, path);
  const tensors = new Map<string, TensorInfo>();
  let metadata: Record<string, string> = {};
  for (const [name, entry] of entries) {
    if (name === "__metadata__") metadata = checked(metadataSchema, entry, `${path}: __metadata__`);
    else tensors.set(name, tensorInfo(entry, `${path}: ${name}`, LENGTH_BYTES + header.length));
  }
  checkSpans(tensors, { begin: LENGTH_BYTES + header.length, dataBytes, path });
  return { tensors, metadata };
}

function headerEntries(header: Uint8Array, path: string): [string, unknown][] {
  const where = `header of ${path}`;
  const value = parseJson(decodeUtf8(header, where), where);
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new RefusedInput("the header of this safetensors file is no table of tensors", {
      where,
      found: value,
      expected: "a JSON object",
    });
  }
  return Object.entries(value);
}

function tensorInfo(entry: unknown, where: string, dataStart: number): TensorInfo {
  const { dtype, shape, data_offsets } = checked(entrySchema, entry, where);
  const [begin, end] = data_offsets;
  const bytes = shape.reduce((product, extent) => product * extent, DTYPE_BYTES[dtype]);
  if (!Number.isSafeInteger(bytes) || end - begin !== bytes) {
    throw new RefusedInput("a tensor's span does not fit its shape", {
      where,
      found: `bytes ${begin} to ${end} (${end - begin}) for ${dtype} [${shape.join(", ")}]`,
      expected: `${bytes} bytes`,
    });
  }
  return { dtype, shape, bytes, offset: dataStart + begin };
}

function checkSpans(
  tensors: ReadonlyMap<string, TensorInfo>,
  { begin, dataBytes, path }: { begin: number; dataBytes: number; path: string },
): void {
  const inOrder = [...tensors].sort(([, a], [, b]) => a.offset - b.offset || a.bytes - b.bytes);
  const last = inOrder.at(-1);
  const claimed = last ? last[1].offset + last[1].bytes - begin : 0;
  if (claimed > dataBytes) {
    throw new RefusedInput("the safetensors file is truncated: its tensors end after the file does", {
      where: `${path}: ${last?.[0]}`,
      found: `${dataBytes} bytes of tensor data in the file`,
      expected: `${claimed} bytes, as its header says`,
      hint: "copy or download the file again",
    });
  }
  let expected = begin;
  for (const [name, { offset, bytes }] of inOrder) {
    if (offset !== expected) {
      throw new RefusedInput(`tensors ${offset < expected ? "overlap" : "leave a hole"} in the safetensors file`, {
        where: `${path}: ${name}`,
        found: `data starts at byte ${offset - begin}`,
        expected: `byte ${expected - begin}, where the tensor before it ends`,
      });
    }
    expected += bytes;
  }
  if (claimed < dataBytes) {
    throw new RefusedInput("the safetensors file goes on after its last tensor", {
      where: path,
      found: `${dataBytes} bytes of tensor data in the file`,
      expected: `${claimed} bytes, as its header says`,
    });
  }
}
