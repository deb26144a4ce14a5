import { expect, test } from "vitest";
import { createTally } from "../../../src/workshop/parity/tally.js";

const array = (...values: number[]) => Float32Array.from(values);

test("an item keeps its largest difference, where it was, and how many there were", () => {
  const tally = createTally("s");
  for (const [ours, where] of [
    [1.5, "a"],
    [1, "b"],
    [3, "c"],
    [2, "d"],
  ] as const) {
    tally.number("x", { ours, golden: 1, where }, 5);
  }
  const x = { scenario: "s", item: "x", compared: 4, worst: 2, where: "c", tolerance: 5, passed: true };
  expect(tally.items()).toEqual([x]);
});

test("what failed is shown, also where a larger difference was allowed", () => {
  const tally = createTally("s");
  tally.number("x", { ours: 0.5, golden: 0, where: "a" }, 0);
  tally.number("x", { ours: 1, golden: 0, where: "b" }, 1);
  expect(tally.items()).toMatchObject([{ compared: 2, worst: 0.5, where: "a", tolerance: 0, passed: false }]);
});

test("what is not a number never passes, and the first of those is shown", () => {
  const tally = createTally("s");
  tally.number("x", { ours: 9, golden: 0, where: "a" }, 1);
  tally.number("x", { ours: Number.NaN, golden: 0, where: "b" }, 1);
  tally.number("x", { ours: Number.NaN, golden: 0, where: "c" }, 1);
  tally.entries("y", { ours: array(1, Number.NaN), golden: array(1, 1), where: "a" }, 1);
  tally.matrix("z", { ours: array(1), golden: array(1, 1), where: "a" }, 1);
  expect(tally.items()).toMatchObject([
    { worst: Number.NaN, where: "b", passed: false },
    { worst: Number.NaN, passed: false },
    { worst: Number.NaN, passed: false },
  ]);
});

test("differences are measured absolutely, relatively, entry by entry, by Frobenius norms, or counted", () => {
  const tally = createTally("s");
  tally.number("absolute", { ours: 4, golden: 5, where: "" }, 1);
  tally.number("relative", { ours: 4, golden: 5, where: "", measure: "relative" }, 1);
  tally.entries("entries", { ours: array(1, 2, 3), golden: array(1, 0, 4), where: "" }, 2);
  tally.matrix("matrix", { ours: array(3, 4), golden: array(3, 0), where: "" }, 2);
  tally.matrix("share", { ours: array(3, 4), golden: array(3, 0), where: "", norm: 8 }, 2);
  tally.equal("equal", { ours: [1], golden: [2], where: "a" }, 1);
  tally.equal("equal", { ours: [1], golden: [1], where: "b" }, 1);
  tally.equal("equal", { ours: [1], golden: [3], where: "c" }, 1);
  const worst = Object.fromEntries(tally.items().map((item) => [item.item, item.worst]));
  expect(worst).toEqual({ absolute: 1, relative: 0.2, entries: 2, matrix: 4 / 3, share: 0.5, equal: 2 });
  expect(tally.items().filter(({ passed }) => !passed)).toMatchObject([{ item: "equal", where: "c", compared: 3 }]);
});
