import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { distinctRows } from "../../src/model/distinct.js";
import { runFrozen } from "../../src/model/frozen.js";
import type { LlamaModel } from "../../src/model/model.js";
import { largestDifference, loadTiny } from "../edit/support.js";

describe("distinct prefixes", () => {
  test("a token after the same tokens is one row, after others another", () => {
    const { tokens, places, firsts } = distinctRows(
      [
        [1, 2, 3],
        [1, 2, 4, 3],
        [2, 1],
        [1, 2, 3],
      ],
      4,
    );
    expect([...tokens]).toEqual([1, 2, 3, 4, 3, 2, 1]);
    expect([...places]).toEqual([0, 1, 2, 0, 0, 1, 3, 4, 5, 6, 0, 0, 0, 1, 2, 0]);
    expect([...firsts]).toEqual([0, 1, 2, 6, 7, 8, 9]);
  });

  test("of one sequence are its tokens", () => {
    const { tokens, places } = distinctRows([[5, 5, 5]], 3);
    expect([[...tokens], [...places]]).toEqual([
      [5, 5, 5],
      [0, 1, 2],
    ]);
  });
});

describe("the frozen part", () => {
  let model: LlamaModel;
  beforeAll(async () => {
    model = await loadTiny();
  });
  afterAll(() => model.dispose());

  const alike = [
    [0, 7, 9, 4],
    [0, 7, 9],
    [0, 7, 9, 4, 4, 1],
    [0, 8],
    [0, 7, 9, 4],
  ];

  test.each([
    { layer: 2, at: "input" },
    { layer: 3, at: "mlpIn" },
    { layer: 0, at: "mlpIn" },
  ] as const)("gives sequences that begin alike what each gets alone, cut at $layer $at", async (point) => {
    const together = await runFrozen(model, alike, { point });
    for (const [i, ids] of alike.entries()) {
      const [alone] = await runFrozen(model, [ids], { point });
      const cut = together[i];
      expect(cut?.tokens).toEqual(ids);
      expect(largestDifference(cut?.stream as Float32Array, alone?.stream as Float32Array)).toBeLessThan(1e-5);
      if (point.at === "mlpIn") {
        expect(largestDifference(cut?.mlpIn as Float32Array, alone?.mlpIn as Float32Array)).toBeLessThan(1e-5);
      } else expect(cut?.mlpIn).toBeNull();
    }
    expect(together[0]?.stream).toEqual(together[4]?.stream); // bit for bit: computed once
  });
});
