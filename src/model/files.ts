import { RefusedInput } from "../core/errors.js";
import { sha256Bytes } from "../core/hash.js";
import { decodeText, parseJson } from "../core/json.js";
import { type ByteSource, sourceOf } from "./safetensors.js";

export const MODEL_FOLDER = "a folder with config.json, model.safetensors (or its index and shards) and tokenizer.json";

/** The files of a model's folder, wherever they lie. */
export interface ModelFiles {
  /** Absolute path. */
  readonly folder: string;
  /** The folder's base name. */
  readonly name: string;
  /** The folder as the user named it, for messages. */
  readonly where: string;
  /** Sorted names of the files. */
  readonly names: readonly string[];
  /** Path of a file, for messages. */
  pathOf(name: string): string;
  /** @throws {RefusedInput} when it cannot be read or is not UTF-8 */
  text(name: string): Promise<string>;
  /** @throws {RefusedInput} when it cannot be opened */
  open(name: string): Promise<ByteSource>;
  /** @param options `verify`: hash it again, whatever was kept of an earlier time */
  sha256(name: string, options?: { verify?: boolean | undefined }): Promise<string>;
  /**
   * Tries the rendering of a chat template, which is a program. Left out where the files are the project's own.
   * @throws {Error} for a template that comes to no end
   */
  tryTemplate?(source: string, context: Record<string, unknown>): void;
}

/** A JSON file of a model. @throws {RefusedInput} when it cannot be read, or is not JSON */
export async function readJson(files: ModelFiles, name: string): Promise<unknown> {
  return parseJson(await files.text(name), files.pathOf(name));
}

/** The files of a model in memory, by name. */
export function filesInMemory(name: string, all: ReadonlyMap<string, Uint8Array>): ModelFiles {
  const pathOf = (file: string) => `${name}/${file}`;
  const bytes = (file: string): Uint8Array => {
    const found = all.get(file);
    if (found !== undefined) return found;
    throw new RefusedInput("a file of the model is missing", {
      where: pathOf(file),
      found: [...all.keys()].join(", "),
      expected: MODEL_FOLDER,
    });
  };
  const hashes = new Map<string, string>();
  return {
    folder: name,
    name,
    where: name,
    names: [...all.keys()].sort(),
    pathOf,
    text: async (file) => decodeText(bytes(file), pathOf(file)),
    open: async (file) => sourceOf(bytes(file)),
    async sha256(file) {
      const hash = hashes.get(file) ?? sha256Bytes(bytes(file));
      hashes.set(file, hash);
      return hash;
    },
  };
}
