import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { errorText, RefusedInput } from "../core/errors.js";
import { readText } from "../core/files.js";

export const MODEL_FOLDER = "a folder with config.json, model.safetensors (or its index and shards) and tokenizer.json";

/** Sorted names of the files in a model's folder. @throws {RefusedInput} when it is no folder, is empty, or is a cache of models */
export async function listModelFolder(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch((cause: unknown) => {
    throw new RefusedInput("a model folder cannot be read", {
      where: folder,
      found: errorText(cause),
      expected: MODEL_FOLDER,
      ...(HUB_ID.test(folder) && { hint: downloadOf(folder) }),
      cause,
    });
  });
  if (names.includes("snapshots") && names.includes("blobs")) await refuseCacheRoot(folder);
  if (names.length > 0) return names.sort();
  throw new RefusedInput("a model folder is empty", { where: folder, found: "no files", expected: MODEL_FOLDER });
}

/** Name of a model on the Hugging Face hub. */
const HUB_ID = /^[\w.-]+\/[\w.-]+$/;

function downloadOf(id: string): string {
  const to = id.slice(id.indexOf("/") + 1);
  return `nothing is downloaded here: hf download ${id} --local-dir ${to}, then --model ${to}`;
}

/** A Hugging Face cache keeps a model's files under snapshots/REVISION. */
async function refuseCacheRoot(folder: string): Promise<never> {
  const revisions = (await readdir(join(folder, "snapshots"))).sort();
  const main = await readText(join(folder, "refs", "main")).catch(() => "");
  const named = revisions.find((revision) => revision === main.trim()) ?? revisions[0];
  throw new RefusedInput("this is the root of a model in a Hugging Face cache", {
    where: folder,
    found: `snapshots of ${revisions.length} revisions`,
    expected: MODEL_FOLDER,
    hint: named === undefined ? "download the model: it has no snapshot" : join(folder, "snapshots", named),
  });
}
