import { z } from "zod";
import { RefusedInput } from "../core/errors.js";
import { exists, readJsonFile, writeFileAtomic } from "../core/files.js";
import type { LlamaModel } from "../model/model.js";
import { checked } from "../model/schema.js";
import { sideFile } from "./places.js";

const FORMAT = "wise-lab covariance, version 1";

/** Origin of a covariance that was collected here: it stands beside the file, which has no room for it. */
export interface Provenance {
  format: typeof FORMAT;
  /** sha256 of the covariance's file. */
  sha256: string;
  model: { name: string; sha256: string };
  texts: TextsUsed;
  /** Texts one behind the other, BOS included. */
  tokens: number;
  layer: number;
  computedWith: string;
  wiseLab: string;
}

/** The texts behind a covariance. */
export interface TextsUsed {
  name: string;
  /** Of the file that they are from, or of what they were made from. */
  sha256: string;
  /** Their number: the first ones of the file. */
  samples: number;
  /** Tokens after which a text was cut. */
  cutAfter: number;
}

const text = z.string("a text");
const whole = z.int("a whole number").nonnegative("a whole number from 0");
const sha256 = text.regex(/^[0-9a-f]{64}$/, "64 hex digits");
const schema: z.ZodType<Provenance> = z.object(
  {
    format: z.literal(FORMAT, FORMAT),
    sha256,
    model: z.object({ name: text, sha256 }, "name and sha256"),
    texts: z.object({ name: text, sha256, samples: whole, cutAfter: whole }, "name, sha256, samples and cutAfter"),
    tokens: whole,
    layer: whole,
    computedWith: text,
    wiseLab: text,
  },
  "an object, as wise-lab stats writes it",
);

/**
 * The provenance beside a covariance; null for files of any other origin.
 * @throws {RefusedInput} when there is one, but not as it was written
 */
export async function readProvenance(path: string): Promise<Provenance | null> {
  const beside = sideFile(path);
  return (await exists(beside)) ? checked(schema, await readJsonFile(beside), beside) : null;
}

export async function writeProvenance(path: string, provenance: Omit<Provenance, "format">): Promise<void> {
  await writeFileAtomic(sideFile(path), `${JSON.stringify({ format: FORMAT, ...provenance }, null, 2)}\n`);
}

/**
 * Proves that a covariance belongs to a model and layer, and to the file beside it.
 * @throws {RefusedInput} naming what is another one
 */
export function requireProvenance(
  { path, sha256 }: { path: string; sha256: string },
  found: Provenance,
  expected: { model: Pick<LlamaModel, "sha256" | "name">; layer: number },
): void {
  const refuse = (summary: string, what: [found: unknown, expected: string]): never => {
    throw new RefusedInput(summary, { where: sideFile(path), found: what[0], expected: what[1] });
  };
  const { model, layer } = expected;
  if (found.sha256 !== sha256) {
    refuse("a covariance is not the one that its provenance is of", [
      `sha256 ${found.sha256}`,
      `${sha256}, that of ${path}`,
    ]);
  }
  if (found.model.sha256 !== model.sha256) {
    const was = `${found.model.name}, sha256 ${found.model.sha256}`;
    refuse("a covariance is of another model", [was, `${model.name}, sha256 ${model.sha256}`]);
  }
  if (found.layer !== layer) refuse("a covariance is of another layer", [`layer ${found.layer}`, `layer ${layer}`]);
}
