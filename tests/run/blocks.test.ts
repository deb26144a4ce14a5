import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { blocksOf, parseT } from "../../src/run/blocks.js";
import { refusal } from "../model/support.js";

describe("T", () => {
  test.each([
    ["1", 1],
    ["1000", 1000],
    [10, 10],
    ["all", "all"],
  ] as const)("%j is read as %j", (given, T) => {
    expect(parseT(given)).toBe(T);
  });

  test.each([0, "0", 1.5, "1.5", -1, "-1", "x", "", "1e3", " 2", "ALL", Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53])(
    "%j is refused",
    async (given) => {
      const error = await refusal(() => parseT(given));
      expect(error.where).toContain("T");
      expect(error.found).toBe(given);
      expect(error.expected).toContain('a whole number from 1, or "all"');
    },
  );
});

describe("blocks", () => {
  test.each([
    [1, 1037, 1],
    [10, 104, 7],
    [100, 11, 37],
    [1000, 2, 37],
    ["all", 1, 1037],
    [2000, 1, 1037],
  ] as const)("of T = %s over 1037 records: %i, the last of %i", (T, count, last) => {
    const blocks = blocksOf(1037, T);
    expect(blocks).toHaveLength(count);
    const { start, end } = blocks[count - 1] as (typeof blocks)[number];
    expect(end - start).toBe(last);
  });

  test("take every record once, in order, T at a time", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 3000 }), fc.integer({ min: 1, max: 3000 }), (records, T) => {
        const blocks = blocksOf(records, T);
        expect(blocks.map(({ index }) => index)).toEqual([...blocks.keys()]);
        let next = 0;
        for (const { start, end } of blocks) {
          expect(start).toBe(next);
          expect(end - start).toBe(Math.min(T, records - start));
          next = end;
        }
        expect(next).toBe(records);
      }),
    );
  });
});
