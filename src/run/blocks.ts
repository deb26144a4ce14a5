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
