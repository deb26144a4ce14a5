import { existsSync } from "node:fs";
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { RefusedInput } from "../core/errors.js";
import { makeFolder, readJsonFile, writeFileAtomic } from "../core/files.js";
import type { SaveEdits } from "./output.js";
import { positionSchema } from "./position.js";

/*
 * The block that is being made, in a folder of its own, open-block/, that is gone when the block is finished:
 *   N-edits.safetensors   the edits of the block after N edits of the run
 *   block.json            where the line files stood then; written when the other is there whole, so it is always true
 */

const openBlockSchema = positionSchema.extend({ block: z.number().int().nonnegative() });

/** A safe point within a block. */
export type OpenBlock = z.infer<typeof openBlockSchema>;

const folderOf = (run: string) => join(run, "open-block");
const positionFile = (run: string) => join(folderOf(run), "block.json");
const stateName = (edits: number) => `${edits}-edits.safetensors`;

/** The file with the edits of a block at a safe point. */
export function stateFile(run: string, { edits }: Pick<OpenBlock, "edits">): string {
  return join(folderOf(run), stateName(edits));
}

/**
 * The safe point of the block `next`, the first that is not finished; null when there is none. What is left of a block
 * that was finished since is taken away.
 * @throws {RefusedInput} when it is damaged
 */
export async function readOpenBlock(run: string, next: number): Promise<OpenBlock | null> {
  const file = positionFile(run);
  const found = existsSync(file) ? openBlockSchema.safeParse(await readJsonFile(file)) : null;
  if (found !== null && !found.success) {
    throw new RefusedInput("a run folder is damaged", {
      where: file,
      found: z.prettifyError(found.error),
      expected: "where an unfinished block stood",
      hint: "another --out folder",
    });
  }
  const open = found?.data.block === next ? found.data : null;
  if (open === null || !existsSync(stateFile(run, open))) {
    await removeOpenBlock(run);
    return null;
  }
  await removeAllBut(run, stateName(open.edits));
  return open;
}

/** Writes a safe point. The one before stays until this one is whole. */
export async function writeOpenBlock(run: string, open: OpenBlock, save: SaveEdits): Promise<void> {
  await makeFolder(folderOf(run));
  const state = stateFile(run, open);
  if (!existsSync(state)) await save(state); // while records are scored, the edits stay the same
  await writeFileAtomic(positionFile(run), `${JSON.stringify(open)}\n`);
  await removeAllBut(run, stateName(open.edits));
}

/** Takes the safe point away: its block is finished. */
export async function removeOpenBlock(run: string): Promise<void> {
  await rm(folderOf(run), { recursive: true, force: true });
}

async function removeAllBut(run: string, state: string): Promise<void> {
  const kept = [state, "block.json"];
  const names = (await readdir(folderOf(run))).filter((name) => !kept.includes(name));
  await Promise.all(names.map((name) => rm(join(folderOf(run), name))));
}
