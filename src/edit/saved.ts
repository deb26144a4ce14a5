import { writeFileAtomic } from "../core/files.js";
import type { SafetensorsFile } from "../model/safetensors.js";
import { openSafetensors } from "../model/safetensors-file.js";
import type { EditSession, EditSetting } from "./contract.js";
import {
  describeEdits,
  type EditFile,
  type EditOwner,
  editFile,
  restoreFrom,
  type SavedEdits,
  sealedFile,
} from "./state.js";

/* Saved edits on disk. */

/** Writes the edits of a session to one file. @returns `hashEdits` of them, which stands in the file too */
export async function saveEdits(path: string, session: EditSession, owner: EditOwner): Promise<string> {
  return writeEdits(path, await editFile(session, owner));
}

/** Puts the edits of a file in place; see `restoreFrom`. */
export function restoreEdits(
  path: string,
  setting: EditSetting,
  owner: EditOwner,
): Promise<{ session: EditSession; edits: number; sha256: string }> {
  return withFile(path, (file) => restoreFrom(file, setting, owner));
}

/** Describes the edits in a file. @throws {RefusedInput} when they are not as they were written */
export function readSaved(path: string): Promise<SavedEdits> {
  return withFile(path, describeEdits);
}

/** sha256 of the edits in a file, as `hashEdits` takes it. @throws {RefusedInput} when they are not as they were written */
export async function hashSavedEdits(path: string): Promise<string> {
  return (await readSaved(path)).sha256;
}

/** Gives saved edits of the form before their sha256. @returns it */
export async function sealEdits(from: string, to: string): Promise<string> {
  return writeEdits(to, await withFile(from, sealedFile));
}

/** Writes saved edits whole or not at all. @returns their sha256 */
export async function writeEdits(path: string, { sha256, chunks }: EditFile): Promise<string> {
  await writeFileAtomic(path, chunks);
  return sha256;
}

async function withFile<T>(path: string, use: (file: SafetensorsFile) => Promise<T>): Promise<T> {
  const file = await openSafetensors(path);
  try {
    return await use(file);
  } finally {
    await file.close();
  }
}
