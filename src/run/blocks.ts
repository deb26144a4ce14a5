import { RefusedInput } from "../core/errors.js";

/** Consecutive records that are edited on the untouched model one after another, then rolled back together. */
export interface Block {
  /** 0-based. */
  index: number;
  /** First record and the one after the last, as positions in the list of records. */
  start: number;
  end: number;
}

/** Records whose prompts go through the frozen part together: enough rows to fill the matrix products. */
export const RECORDS_TOGETHER = 8;

/** Records in groups of so many. */
export function inGroups<R>(records: readonly R[]): R[][] {
  const count = Math.ceil(records.length / RECORDS_TOGETHER);
  return Array.from({ length: count }, (_, i) => records.slice(i * RECORDS_TOGETHER, (i + 1) * RECORDS_TOGETHER));
}

/** Reads T as a user gives it: a whole number of edits between rollbacks, or "all". */
export function parseT(value: string | number): number | "all" {
  if (value === "all") return "all";
  const T = typeof value === "number" ? value : /^\d+$/.test(value) ? Number(value) : Number.NaN;
  if (Number.isSafeInteger(T) && T >= 1) return T;
  throw new RefusedInput("T cannot be used", {
    where: "T, the number of edits between rollbacks",
    found: value,
    expected: 'a whole number from 1, or "all" for one block',
  });
}

/** Splits `records` records into blocks of T; the last one holds the rest. */
export function blocksOf(records: number, T: number | "all"): Block[] {
  const size = T === "all" ? records : T;
  return Array.from({ length: Math.ceil(records / size) }, (_, index) => ({
    index,
    start: index * size,
    end: Math.min((index + 1) * size, records),
  }));
}

/** One share of the blocks of a run or the points of a sweep, which different processes or machines make; counted from 1. */
export interface RunPart {
  index: number;
  of: number;
}

/** Reads a part as a user gives it, as 3/6. */
export function parsePart(text: string): RunPart {
  const [, index, of] = (/^([1-9]\d*)\/([1-9]\d*)$/.exec(text) ?? []).map(Number);
  if (index !== undefined && of !== undefined && index <= of) return { index, of };
  throw new RefusedInput("a part cannot be used", {
    where: "--part",
    found: text,
    expected: "i/n, the i-th of n parts, as 3/6",
  });
}

/** The items of a part, dealt out in turns; all of them where there is no part. */
export function dealtTo<I>(items: readonly I[], part: RunPart | undefined): readonly I[] {
  return part === undefined ? items : items.filter((_, i) => i % part.of === part.index - 1);
}

/** Consecutive blocks, cut where a group of the frozen part ends, so that no two processes compute one group. */
export function sharesOf(blocks: readonly Block[]): Block[][] {
  const shares: Block[][] = [[]];
  for (const block of blocks) {
    if (block.start % RECORDS_TOGETHER === 0) shares.push([]);
    shares.at(-1)?.push(block);
  }
  return shares.filter((share) => share.length > 0);
}

/**
 * The blocks of a run, or of one part of it: whole shares while there are enough of them, else single blocks.
 * @throws {RefusedInput} for more parts than blocks
 */
export function blocksOfPart(
  { records, T }: { records: number; T: number | "all" },
  part: RunPart | undefined,
): Block[] {
  const blocks = blocksOf(records, T);
  if (part === undefined) return blocks;
  const shares = sharesOf(blocks);
  const units = part.of <= shares.length ? shares : blocks.map((block) => [block]);
  if (part.of > units.length) {
    throw new RefusedInput("a run has fewer blocks than parts", {
      where: "--part",
      found: `${part.of} parts of ${blocks.length} blocks`,
      expected: `at most ${blocks.length} parts`,
    });
  }
  const cut = (index: number) => Math.floor((index * units.length) / part.of);
  return units.slice(cut(part.index - 1), cut(part.index)).flat();
}
