import { hashSavedEdits } from "../edit/saved.js";
import { readEnvironments, readRun } from "./folder.js";
import { damaged, readFolder, savedEditsFile } from "./folder-files.js";

/**
 * Checks all that stands in a run folder, the saved edits too, which reading a run does not open.
 * @returns its finished blocks
 * @throws {RefusedInput} naming the first place that is not as it was written
 */
export async function checkRun(path: string): Promise<number> {
  await readRun(path);
  await readEnvironments(path);
  const { config, blocks } = await readFolder(path);
  for (const { block, saved } of config.saveEdits ? blocks : []) {
    const file = savedEditsFile(path, block);
    const found = await hashSavedEdits(file);
    if (found === saved) continue;
    throw damaged(file, { found: `edits with sha256 ${found}`, expected: `those of block ${block}, ${saved}` });
  }
  return blocks.length;
}
