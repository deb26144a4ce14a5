import { expect, it } from "vitest";
import { createRng } from "../../src/core/rng.js";

it("gives the same stream for ever", () => {
  const rng = createRng(7);
  const drawn = Array.from({ length: 300 }, () => rng.integer(1000));
  expect([...drawn.slice(0, 4), ...drawn.slice(-3)]).toEqual([719, 782, 909, 557, 536, 969, 881]);
});

it("gives the same integers one by one and many at a time, whatever was drawn before", () => {
  const [single, many] = [createRng(7), createRng(7)];
  for (const length of [0, 1, 127, 128, 129, 500]) {
    const filled = new Uint32Array(length);
    many.integers(1037, filled);
    expect([...filled]).toEqual(Array.from({ length }, () => single.integer(1037)));
    expect(many.uniform()).toBe(single.uniform());
    expect(many.normal()).toBe(single.normal());
  }
});
