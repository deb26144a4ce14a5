import { type FileHandle, open, stat } from "node:fs/promises";
import { errorText, RefusedInput } from "../core/errors.js";
import { writeFileAtomic } from "../core/files.js";
import { type ByteSource, readSafetensors, type SafetensorsFile } from "./safetensors.js";
import { safetensorsChunks, type TensorToWrite } from "./safetensors-write.js";

/* Safetensors files on disk. */

/**
 * Opens a safetensors file and checks its header against the file; no tensor data is read.
 * @throws {RefusedInput} when it is missing, foreign, truncated or contradicts itself
 */
export async function openSafetensors(path: string): Promise<SafetensorsFile> {
  return readSafetensors(await sourceOnDisk(path), path);
}

/**
 * Writes a safetensors file whole or not at all; see `safetensorsChunks`.
 * @throws {LabFailure} when it cannot be written, or a tensor's data does not fill its shape
 */
export async function writeSafetensors(
  path: string,
  tensors: Readonly<Record<string, TensorToWrite>>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  await writeFileAtomic(path, safetensorsChunks(tensors, metadata));
}

/** A file of weights as bytes. @throws {RefusedInput} when it cannot be opened */
export async function sourceOnDisk(path: string): Promise<ByteSource> {
  const handle = await openFile(path);
  const { size } = await handle.stat();
  return {
    size,
    async read(target, { start, length, position }) {
      return (await handle.read(target, start, length, position)).bytesRead;
    },
    close: () => handle.close(),
  };
}

async function openFile(path: string): Promise<FileHandle> {
  try {
    if ((await stat(path)).isFile()) return await open(path, "r");
  } catch (cause) {
    throw new RefusedInput("a safetensors file cannot be opened", {
      where: path,
      found: errorText(cause),
      expected: "a readable safetensors file",
      cause,
    });
  }
  throw new RefusedInput("a safetensors file cannot be opened", {
    where: path,
    found: "something else than a file",
    expected: "a safetensors file",
  });
}
