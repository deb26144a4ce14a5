import { stat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { z } from "zod";
import { exists, makeFolder, readText, sha256File, writeFileAtomic } from "../core/files.js";
import { sha256Bytes } from "../core/hash.js";
import { defaultCacheFolder } from "./cut-cache.js";

/** A file whose hash is kept: a smaller one is hashed in no time. */
const KEPT_FROM_BYTES = 64 * 1024 ** 2;

/** A hash, with what tells that the file is still the one it was taken of. Times in ms, as decimal text: they are fractions. */
const keptSchema = z.object({
  path: z.string(),
  size: z.number(),
  modified: z.string(),
  changed: z.string(),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
});

/**
 * SHA-256 of a file that takes seconds to hash: the one that was taken before, while size, time of modification and time of
 * change (which no program sets) are what they were.
 * @param options `verify`: take it again, whatever is kept
 */
export async function sha256Kept(
  path: string,
  { verify = false }: { verify?: boolean | undefined } = {},
): Promise<string> {
  const { size, mtimeMs, ctimeMs } = await stat(path);
  if (size < KEPT_FROM_BYTES) return sha256File(path);
  const folder = join(dirname(defaultCacheFolder()), "hashes");
  const file = join(folder, `${sha256Bytes(resolve(path))}.json`);
  const now = { path: resolve(path), size, modified: String(mtimeMs), changed: String(ctimeMs) };
  const kept = verify ? null : await readKept(file);
  if (kept !== null && Object.entries(now).every(([key, value]) => kept[key as keyof typeof now] === value)) {
    return kept.sha256;
  }
  const sha256 = await sha256File(path);
  await makeFolder(folder);
  await writeFileAtomic(file, `${JSON.stringify({ ...now, sha256 }, null, 1)}\n`);
  return sha256;
}

/** Null where there is none, or a damaged one, which is written anew. */
async function readKept(file: string): Promise<z.infer<typeof keptSchema> | null> {
  if (!(await exists(file))) return null;
  try {
    return keptSchema.safeParse(JSON.parse(await readText(file))).data ?? null;
  } catch {
    return null;
  }
}
