import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { sha256File } from "../core/files.js";
import { catalogue } from "../data/catalogue.js";
import { locateData } from "../data/fetch.js";
import { openCheckpoint } from "../model/folder.js";

export interface ModelFacts {
  name: string;
  /** As results record it: over all files that decide what the model computes. */
  sha256: string;
}

export interface DataFacts {
  /** Name in the catalogue, for `wise-lab data fetch`. */
  name: string;
  /** Of the file that is there; null where it has not been fetched. */
  sha256: string | null;
  /** sha256 that the file should have. */
  expected: string;
}

/** The models in the project's data folder, by name. @throws {RefusedInput} for one that is damaged */
export async function readModels(folder: string): Promise<ModelFacts[]> {
  const names = existsSync(folder) ? readdirSync(folder).sort() : [];
  const models: ModelFacts[] = [];
  for (const name of names.filter((entry) => existsSync(join(folder, entry, "config.json")))) {
    const checkpoint = await openCheckpoint(join(folder, name));
    try {
      models.push({ name, sha256: await checkpoint.sha256({ verify: true }) });
    } finally {
      await checkpoint.close();
    }
  }
  return models;
}

/** Every data set of the catalogue, with what is on disk. */
export async function readData(): Promise<DataFacts[]> {
  const facts: DataFacts[] = [];
  for (const [name, entry] of Object.entries(catalogue)) {
    const path = await locateData(name);
    facts.push({ name, sha256: path ? await sha256File(path) : null, expected: entry.sha256 });
  }
  return facts;
}
