import type { Stats } from "node:fs";
import { lstat, readdir } from "node:fs/promises";
import { join } from "node:path";
import { RefusedInput } from "../core/errors.js";
import { RERUN_FILES } from "./position.js";

const FILES = [
  "run.json",
  "run.lock",
  ...[...RERUN_FILES, "timings", "blocks", "environment"].map((name) => `${name}.jsonl`),
];
const FOLDERS = ["saved-edits", "open-block"];

/**
 * Requires that a run folder's files are its own: what is read or cut must not stand somewhere else, and reading must end.
 * @param options `alone`: they are to be written, so that no second name may stand for them
 * @throws {RefusedInput} for a link, a pipe or the like in the place of one
 */
export async function requireOwnFiles(path: string, { alone = false } = {}): Promise<void> {
  for (const name of FILES) await requireOwn(join(path, name), "file", alone);
  for (const folder of FOLDERS) {
    const place = join(path, folder);
    if (!(await requireOwn(place, "folder", alone))) continue;
    for (const name of await readdir(place)) await requireOwn(join(place, name), "file", alone);
  }
}

/** @returns false when nothing stands there */
async function requireOwn(place: string, kind: "file" | "folder", alone: boolean): Promise<boolean> {
  const found = await lstat(place).catch(() => null);
  if (found === null) return false;
  const shared = alone && found.isFile() && found.nlink > 1;
  if ((kind === "file" ? found.isFile() : found.isDirectory()) && !shared) return true;
  throw new RefusedInput("something else stands in the place of a run's own file", {
    where: place,
    found: kindOf(found, shared),
    expected: `a ${kind} of its own`,
    hint: "cp -rL FOLDER NEWFOLDER, and go on there",
  });
}

function kindOf(found: Stats, shared: boolean): string {
  if (shared) return "a file with a second name (a hard link)";
  if (found.isSymbolicLink()) return "a symbolic link";
  if (found.isFIFO()) return "a pipe (FIFO)";
  if (found.isDirectory()) return "a folder";
  return found.isFile() ? "a file" : "a device or socket";
}
