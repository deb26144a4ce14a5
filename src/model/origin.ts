import { join } from "node:path";
import { z } from "zod";
import { RefusedInput } from "../core/errors.js";
import { exists, readJsonFile, sha256File } from "../core/files.js";
import { checked } from "./schema.js";

/** Stands in the folder of a model that was trained here, and in no other. */
export const ORIGIN_FILE = "training.json";

/** Every file of such a folder that decides what the model computes. */
const FILES = [
  "chat_template.jinja",
  "config.json",
  "generation_config.json",
  "model.safetensors",
  "tokenizer.json",
  "tokenizer_config.json",
] as const;

/** Origin of a model: the world it was trained on, and its files as the training left them. */
export interface Origin {
  /** sha256 of the world that it learned, as the world's manifest says. */
  world: string;
  /** sha256 of each file. */
  files: Record<(typeof FILES)[number], string>;
}

const sha256 = z.string("a text").regex(/^[0-9a-f]{64}$/, "64 hex digits");
const originSchema: z.ZodType<Origin> = z.looseObject(
  { world: sha256, files: z.record(z.enum(FILES), sha256, "the sha256 of each file of the model") },
  "an object with world and files, as wise-lab lab train writes it",
);

/** @throws {RefusedInput} when one of the files is missing */
export async function hashModelFiles(folder: string): Promise<Origin["files"]> {
  const hashes: [name: string, sha256: string][] = [];
  for (const name of FILES) hashes.push([name, await sha256File(join(folder, name))]);
  return Object.fromEntries(hashes) as Origin["files"];
}

/**
 * Origin of a model folder; null for one that was not trained here.
 * @throws {RefusedInput} when its training.json is not one that a training wrote
 */
export async function readOrigin(folder: string): Promise<Origin | null> {
  const path = join(folder, ORIGIN_FILE);
  return (await exists(path)) ? checked(originSchema, await readJsonFile(path), path) : null;
}

/**
 * Proves that a model trained here is still the one that the training wrote: its tokenizer, its weights, its settings.
 * Any other folder passes.
 * @throws {RefusedInput} naming the file that is missing or has changed
 */
export async function requireAsTrained(folder: string): Promise<void> {
  const origin = await readOrigin(folder);
  if (origin === null) return;
  const found = await hashModelFiles(folder);
  const changed = FILES.find((name) => found[name] !== origin.files[name]);
  if (changed === undefined) return;
  throw new RefusedInput(`${changed} is not the one that the model was trained with`, {
    where: join(folder, changed),
    found: `sha256 ${found[changed]}`,
    expected: `sha256 ${origin.files[changed]}, as ${ORIGIN_FILE} says`,
    hint: `bring the file back, or remove ${ORIGIN_FILE} to use the folder as a model of any other origin`,
  });
}
