import { rm } from "node:fs/promises";
import { RefusedInput } from "../core/errors.js";
import { exists } from "../core/files.js";
import { openNpz, writeNpz } from "./npz.js";

/** The sum over the first batches of a collection, kept so that one that was killed goes on from there. */
export interface PartialSum {
  /** Batches it is over: the next one's position. */
  next: number;
  tokens: number;
  /** k k^T in float64, row-major [m, m]. */
  sum: Float64Array;
}

/** Path of the partial sum of a covariance. */
function partialFile(path: string): string {
  return path.replace(/\.npz$/, ".partial.npz");
}

/**
 * The partial sum that was kept for a covariance.
 * @param key everything that decides its bits, as text
 * @returns null when there is none; also, after saying why, when it is of another key or damaged
 */
export async function readPartial(
  path: string,
  { key, m }: { key: string; m: number },
  onNotice: (line: string) => void,
): Promise<PartialSum | null> {
  const partial = partialFile(path);
  if (!(await exists(partial))) return null;
  try {
    const file = await openNpz(partial);
    try {
      if ((await file.read("key", "U")).data[0] !== key) {
        onNotice(`${partial} is of another model, other texts or another backend; collecting from the start`);
        return null;
      }
      const [next, tokens] = (await file.read("position", "i8")).data;
      const { data: sum } = await file.read("sum", "f8");
      return sum.length === m * m ? { next: Number(next), tokens: Number(tokens), sum } : null;
    } finally {
      await file.close();
    }
  } catch (error) {
    if (!(error instanceof RefusedInput)) throw error;
    onNotice(`${partial} is damaged (${error.found}); collecting from the start`);
    return null;
  }
}

/** Keeps a partial sum in place of the one before. @throws {LabFailure} when it cannot be written */
export async function writePartial(
  path: string,
  { key, m }: { key: string; m: number },
  { next, tokens, sum }: PartialSum,
): Promise<void> {
  await writeNpz(partialFile(path), {
    key: { type: "U", shape: [], data: [key] },
    position: { type: "i8", shape: [2], data: BigInt64Array.from([next, tokens], BigInt) },
    sum: { type: "f8", shape: [m, m], data: sum },
  });
}

export async function removePartial(path: string): Promise<void> {
  await rm(partialFile(path), { force: true });
}
