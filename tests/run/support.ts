import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Lab, openLab } from "../../src/run/lab.js";
import { goldenRecords } from "../edit/support.js";
import { temporaryFolder } from "../model/support.js";

/** Few steps, and merges within a block. */
export const QUICK = ["n_iter=2", "save_freq=2", "merge_freq=4"];

/** The project's own model with quick options. */
export const openQuickLab = (...set: string[]): Promise<Lab> => openLab({ hparams: { set: [...QUICK, ...set] } });

/** A records file of `count` records: the golden ones over and over. `change` may damage one. */
export async function recordsFile(
  count: number,
  change: (record: Record<string, unknown>, index: number) => void = () => {},
): Promise<string> {
  const records = Array.from({ length: count }, (_, i) => {
    const record: Record<string, unknown> = { ...goldenRecords.records[i % goldenRecords.records.length] };
    change(record, i);
    return record;
  });
  const path = join(await temporaryFolder(), "records.json");
  await writeFile(path, JSON.stringify(records));
  return path;
}

/** The files of a run that are the same bytes however often it was made, and interrupted. */
export async function bytesOfRun(folder: string): Promise<Record<string, string>> {
  const bytes: Record<string, string> = {};
  for (const name of ["run.json", "edits.jsonl", "scores.jsonl", "blocks.jsonl"]) {
    bytes[name] = await readFile(join(folder, name), "utf8");
  }
  return bytes;
}
