import { existsSync } from "node:fs";
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { readJsonFile, writeFileAtomic } from "../core/files.js";
import { unsealed, withSeal } from "../core/seal.js";
import { anchorOf, damaged, type RunFolder } from "./folder-files.js";
import { type Position, positionSchema } from "./position.js";

/*
 * The block that is being made, in a folder of its own, open-block/, that is gone when the block is finished:
 *   N-edits.safetensors   the edits of the block after N edits of the run
 *   block.json            where the line files stood then, sealed; written when the other is there whole, so it is always true
 */

/** The folder of the block that is being made. */
export const openBlockFolder = (run: string) => join(run, "open-block");
const positionFile = (run: string) => join(openBlockFolder(run), "block.json");
const stateName = (edits: number) => `${edits}-edits.safetensors`;

/** The file with the edits of a block at a safe point. */
export function stateFile(run: string, { edits }: Pick<Position, "edits">): string {
  return join(openBlockFolder(run), stateName(edits));
}

/**
 * The safe point of the block that is not finished; null when there is none. One of a block that was finished since is
 * what a kill left behind.
 * @throws {RefusedInput} when it is not as it was written
 */
export async function readOpenBlock({ path, seal, own, blocks }: RunFolder): Promise<Position | null> {
  const file = positionFile(path);
  if (!existsSync(file)) return null;
  const parsed = positionSchema.safeParse(unsealed(await readJsonFile(file), anchorOf(seal, "open-block"), file));
  if (!parsed.success)
    throw damaged(file, { found: parsed.error.message, expected: "where an unfinished block stood" });
  const open = parsed.data;
  const last = blocks.at(-1);
  if (last !== undefined && open.block <= last.block) return null;
  const next = own[blocks.length]?.index;
  if (open.block !== next || open.edits < (last?.edits ?? 0)) {
    throw damaged(file, {
      found: `block ${open.block}`,
      expected: `block ${next ?? "none"}, the first that blocks.jsonl does not end`,
    });
  }
  const state = stateFile(path, open);
  if (existsSync(state)) return open;
  throw damaged(state, { found: "no such file", expected: "the edits that block.json beside it names" });
}

/** Writes a safe point. The one before stays until this one is whole. */
export async function writeOpenBlock(run: string, seal: string, position: Position): Promise<void> {
  await writeFileAtomic(positionFile(run), `${JSON.stringify(withSeal(position, anchorOf(seal, "open-block")))}\n`);
  await removeAllBut(run, position);
}

/** Takes the safe point away: its block is finished. */
export async function removeOpenBlock(run: string): Promise<void> {
  await rm(openBlockFolder(run), { recursive: true, force: true });
}

/** Takes away what an earlier safe point, or a draft, left beside this one. */
export async function removeAllBut(run: string, { edits }: Pick<Position, "edits">): Promise<void> {
  const kept = [stateName(edits), "block.json"];
  const names = (await readdir(openBlockFolder(run))).filter((name) => !kept.includes(name));
  await Promise.all(names.map((name) => rm(join(openBlockFolder(run), name))));
}
