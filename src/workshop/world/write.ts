import { join } from "node:path";
import { requireWritableFolder, writeFileAtomic } from "../../core/files.js";
import { filesOf, MANIFEST_FILE, manifestOf, manifestText } from "../../data/world/store.js";
import type { Manifest, World } from "../../data/world/types.js";

/**
 * Writes a world as JSON files, the manifest last; the same world gives the same bytes.
 * @throws {RefusedInput} when the folder cannot be written to.
 */
export async function writeWorld(world: World, folder: string): Promise<Manifest> {
  await requireWritableFolder(folder);
  const files = filesOf(world);
  const manifest = manifestOf(world.seed, files);
  for (const [name, text] of Object.entries(files)) await writeFileAtomic(join(folder, name), text);
  await writeFileAtomic(join(folder, MANIFEST_FILE), manifestText(manifest));
  return manifest;
}
