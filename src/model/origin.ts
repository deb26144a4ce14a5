import { z } from "zod";
import { RefusedInput } from "../core/errors.js";
import { parseJson } from "../core/json.js";
import type { ModelFiles } from "./files.js";
import { checked } from "./schema.js";

/** Stands in the folder of a model that was trained here, and in no other. */
export const ORIGIN_FILE = "training.json";

/** Every file of such a folder that decides what the model computes. */
export const TRAINED_FILES = [
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
  files: Record<(typeof TRAINED_FILES)[number], string>;
}

const sha256 = z.string("a text").regex(/^[0-9a-f]{64}$/, "64 hex digits");
const originSchema: z.ZodType<Origin> = z.looseObject(
  { world: sha256, files: z.record(z.enum(TRAINED_FILES), sha256, "the sha256 of each file of the model") },
  "an object with world and files, as wise-lab lab train writes it",
);

/** @throws {RefusedInput} for a training.json that no training wrote */
export function parseOrigin(text: string, path: string): Origin {
  return checked(originSchema, parseJson(text, path), path);
}

/**
 * Proves that a model trained here is still the one that the training wrote: its tokenizer, its weights, its settings.
 * Any other passes.
 * @throws {RefusedInput} naming the file that is missing or has changed
 */
export async function requireAsTrained(files: ModelFiles): Promise<void> {
  if (!files.names.includes(ORIGIN_FILE)) return;
  const origin = parseOrigin(await files.text(ORIGIN_FILE), files.pathOf(ORIGIN_FILE));
  for (const name of TRAINED_FILES) {
    const found = files.names.includes(name) ? `sha256 ${await files.sha256(name)}` : "no such file";
    if (found === `sha256 ${origin.files[name]}`) continue;
    throw new RefusedInput(`${name} is not the one that the model was trained with`, {
      where: files.pathOf(name),
      found,
      expected: `sha256 ${origin.files[name]}, as ${ORIGIN_FILE} says`,
      hint: `bring the file back, or remove ${ORIGIN_FILE} to use the folder as a model of any other origin`,
    });
  }
}
