import { createHash, type Hash } from "node:crypto";
import { type FileHandle, open, stat } from "node:fs/promises";
import { RefusedInput } from "../core/errors.js";
import { writeFileAtomic } from "../core/files.js";
import { encodeHeader, type TensorOutline } from "./safetensors-write.js";

/*
 * Sealed files: safetensors files that say nothing their reader does not know already, except numbers. Whoever asks for
 * one knows its shapes, its key and its tokens, so the header is compared byte for byte and never believed. The numbers
 * come in parts, each with the sha256 of its bytes in the last tensor of the file: written in one pass, and a part can
 * be read and proven without the others.
 */

/** Tensors that are written, read and proven together. All have elements of four bytes. */
export type Part = readonly (readonly [name: string, outline: TensorOutline & { dtype: "F32" | "I32" }])[];

/** Values of a part, one array for each of its tensors. */
export type Numbers = readonly (Float32Array | Int32Array)[];

/** Layout of a sealed file: its header, and the place of each part and of the seals. */
export interface SealedLayout {
  header: Uint8Array;
  /** For each part the byte of the file where it begins, and the bytes of its tensors, one behind the other. */
  spans: readonly { offset: number; tensorBytes: readonly number[] }[];
  sealsOffset: number;
  /** Of the whole file. */
  bytes: number;
}

const ELEMENT_BYTES = 4;
const SEAL_BYTES = 32; // of a sha256

/** Read, written and hashed at a time: large enough that calls cost nothing, small enough for the processor's cache. */
const CHUNK_BYTES = 1 << 20;

/** Lays out a file of these parts. */
export function sealedLayout(parts: readonly Part[], metadata: Readonly<Record<string, string>>): SealedLayout {
  const seals: [string, TensorOutline] = ["sha256", { dtype: "U8", shape: [parts.length, SEAL_BYTES] }];
  const header = encodeHeader([...parts.flat(), seals], metadata);
  let end = header.length;
  const spans = parts.map((part) => {
    const offset = end;
    const tensorBytes = part.map(([, { shape }]) => shape.reduce((product, extent) => product * extent, ELEMENT_BYTES));
    for (const bytes of tensorBytes) end += bytes;
    return { offset, tensorBytes };
  });
  return { header, spans, sealsOffset: end, bytes: end + parts.length * SEAL_BYTES };
}

/**
 * Writes a sealed file, whole or not at all, without a copy of the numbers.
 * @param parts the numbers of every part's tensors, as the layout has them
 * @throws {LabFailure} when it cannot be written
 */
export async function writeSealed(path: string, layout: SealedLayout, parts: readonly Numbers[]): Promise<void> {
  await writeFileAtomic(path, sealedBytes(layout, parts));
}

function* sealedBytes(layout: SealedLayout, parts: readonly Numbers[]): Generator<Uint8Array> {
  yield layout.header;
  const seals: Uint8Array[] = [];
  for (const tensors of parts) {
    const hash = createHash("sha256");
    for (const { buffer, byteOffset, byteLength } of tensors) {
      for (const chunk of chunksOf(new Uint8Array(buffer, byteOffset, byteLength))) {
        hash.update(chunk);
        yield chunk;
      }
    }
    seals.push(hash.digest());
  }
  yield Buffer.concat(seals);
}

/**
 * Reads parts of a sealed file and counts it as used now.
 * @param wanted indices of parts
 * @returns for each of them the bytes of its tensors
 * @throws {RefusedInput} when what is there is not a file of this layout, or a part is not as it was written
 * @throws {NodeJS.ErrnoException} when nothing is there (ENOENT), or the system does not let it be read
 */
export async function readSealed(
  path: string,
  layout: SealedLayout,
  wanted: readonly number[],
): Promise<ArrayBuffer[][]> {
  const there = await stat(path); // before opening: opening a pipe would wait for ever
  if (!there.isFile()) throw damage(path, "something else than a file", "a file");
  const file: OpenFile = { path, handle: await open(path, "r") };
  try {
    const { size } = await file.handle.stat();
    if (size !== layout.bytes) throw damage(path, `${size} bytes`, `${layout.bytes} bytes`);
    const header = Buffer.alloc(layout.header.length);
    await fill(file, header, { position: 0 });
    if (!header.equals(layout.header)) throw damage(path, "another header", "this key, these tokens and shapes");
    const parts: ArrayBuffer[][] = [];
    for (const index of wanted) parts.push(await readPart(file, layout, index));
    const now = new Date();
    await file.handle.utimes(now, now).catch(() => undefined); // another user's file: usable, it only keeps its age
    return parts;
  } finally {
    await file.handle.close();
  }
}

interface OpenFile {
  path: string;
  handle: FileHandle;
}

async function readPart(file: OpenFile, layout: SealedLayout, index: number): Promise<ArrayBuffer[]> {
  const { offset, tensorBytes } = layout.spans[index] as SealedLayout["spans"][number];
  const hash = createHash("sha256");
  const tensors: ArrayBuffer[] = [];
  let position = offset;
  for (const bytes of tensorBytes) {
    const tensor = new ArrayBuffer(bytes);
    await fill(file, new Uint8Array(tensor), { position, hash });
    tensors.push(tensor);
    position += bytes;
  }
  const seal = Buffer.alloc(SEAL_BYTES);
  await fill(file, seal, { position: layout.sealsOffset + index * SEAL_BYTES });
  if (hash.digest().equals(seal)) return tensors;
  throw damage(file.path, `other numbers in part ${index}`, "those that its sha256 was taken of");
}

/** Fills `target` from the file at `position`, and hashes what comes. */
async function fill(
  { path, handle }: OpenFile,
  target: Uint8Array,
  { position, hash }: { position: number; hash?: Hash },
): Promise<void> {
  let at = position;
  for (const chunk of chunksOf(target)) {
    for (let done = 0; done < chunk.length; ) {
      const { bytesRead } = await handle.read(chunk, done, chunk.length - done, at + done);
      if (bytesRead === 0) throw damage(path, `its end at byte ${at + done}`, "the length it was opened with");
      done += bytesRead;
    }
    hash?.update(chunk);
    at += chunk.length;
  }
}

function* chunksOf(bytes: Uint8Array): Generator<Uint8Array> {
  for (let start = 0; start < bytes.length; start += CHUNK_BYTES) yield bytes.subarray(start, start + CHUNK_BYTES);
}

function damage(path: string, found: string, expected: string): RefusedInput {
  return new RefusedInput("a file of the cache is not as it was written", { where: path, found, expected });
}
