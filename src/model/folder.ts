import { readdir } from "node:fs/promises";
import { RefusedInput } from "../core/errors.js";
import { errorText } from "../core/files.js";

export const MODEL_FOLDER = "a folder with config.json, model.safetensors (or its index and shards) and tokenizer.json";

/** Sorted names of the files in a model's folder. @throws {RefusedInput} when it is no folder or is empty */
export async function listModelFolder(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch((cause: unknown) => {
    throw new RefusedInput("a model folder cannot be read", {
      where: folder,
      found: errorText(cause),
      expected: MODEL_FOLDER,
      cause,
    });
  });
  if (names.length > 0) return names.sort();
  throw new RefusedInput("a model folder is empty", { where: folder, found: "no files", expected: MODEL_FOLDER });
}
