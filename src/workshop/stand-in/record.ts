import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { errorText, RefusedInput } from "../../core/errors.js";
import { exists, readJsonFile, writeFileAtomic } from "../../core/files.js";
import { canonicalJson } from "../../core/hash.js";
import type { StandInModel } from "../../model/known.js";
import { checked } from "../../model/schema.js";

/** In the folder of a stand-in, and in no other. */
const RECORD = "stand-in.json";

/** Record of a stand-in's folder: the model it stands in for, its seed and the finished files. */
export interface StandInRecord {
  standsInFor: StandInModel;
  seed: number;
  /** sha256 of finished files. */
  files: Record<string, string>;
}

const schema = z.looseObject(
  {
    standsInFor: z.looseObject({ source: z.string(), config: z.looseObject({ num_hidden_layers: z.number() }) }),
    seed: z.number(),
    files: z.record(z.string(), z.string()),
  },
  { error: "an object as wise-lab make-checkpoint writes it" },
);

/** True if the model in a folder stands in for another. */
export function isStandIn(folder: string): Promise<boolean> {
  return exists(join(folder, RECORD));
}

export async function saveRecord(folder: string, record: StandInRecord): Promise<void> {
  await writeFileAtomic(join(folder, RECORD), `${JSON.stringify(record, null, 2)}\n`);
}

/**
 * sha256 of the files that are finished in a folder, by its record; none in a folder that is new or empty.
 * @throws {RefusedInput} when it holds anything but the same stand-in
 */
export async function finishedFiles(
  folder: string,
  standsInFor: StandInModel,
  seed: number,
): Promise<Record<string, string>> {
  const names = await namesIn(folder);
  if (names.length === 0) return {};
  const name = (source: string, layers: number, itsSeed: number) => `${source}, layers: ${layers}, seed: ${itsSeed}`;
  const same = name(standsInFor.source, standsInFor.config.num_hidden_layers, seed);
  const expected = `a new or empty folder, or one with the stand-in for ${same}`;
  if (!names.includes(RECORD)) {
    throw new RefusedInput("the folder holds something else", { where: folder, found: names.join(", "), expected });
  }
  const path = join(folder, RECORD);
  const { files, ...what } = checked(schema, await readJsonFile(path), path);
  if (canonicalJson(what) === canonicalJson({ standsInFor, seed })) return files;
  const found = name(what.standsInFor.source, what.standsInFor.config.num_hidden_layers, what.seed);
  throw new RefusedInput("the folder holds another stand-in", { where: path, found, expected });
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw new RefusedInput("the folder cannot be used", {
      where: folder,
      found: errorText(error),
      expected: "a folder, or a place for a new one",
    });
  }
}
