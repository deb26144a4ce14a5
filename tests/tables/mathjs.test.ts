import { createRequire } from "node:module";
import fc from "fast-check";
import { describe, expect, test } from "vitest";

const math = createRequire(import.meta.url)("mathjs") as Record<string, (values: unknown[]) => unknown>;
const of = (name: string, ...values: unknown[]) => math[name]?.(values);

describe("the stand-in for mathjs", () => {
  test("has what danfo calls, and no more", () => {
    expect(Object.keys(math).sort()).toEqual(["mean", "median", "mode", "std", "variance"]);
  });

  test("gives what mathjs gives", () => {
    expect([of("mean", 3, 1, 2, 2), of("median", 3, 1, 2), of("median", 4, 1, 10, 2)]).toEqual([2, 2, 3]);
    expect([of("mode", 5, 1, 1, 5, 2), of("mode", 7)]).toEqual([[5, 1], [7]]);
    expect([of("variance", 2, 4, 6, 8), of("variance", 3), of("std", 1, 3)]).toEqual([20 / 3, 0, Math.SQRT2]);
  });

  test("std is unmoved by a shift, and grows with a factor", () => {
    const numbers = fc.array(fc.integer({ min: -1000, max: 1000 }), { minLength: 2, maxLength: 20 });
    fc.assert(
      fc.property(numbers, fc.integer({ min: -50, max: 50 }), (values, shift) => {
        const std = of("std", ...values) as number;
        expect(of("std", ...values.map((x) => x + shift))).toBeCloseTo(std, 6);
        expect(of("std", ...values.map((x) => 3 * x))).toBeCloseTo(3 * std, 6);
      }),
    );
  });

  test.each(["mean", "median", "mode", "std", "variance"])("%s refuses an empty list and what is no number", (name) => {
    expect(() => of(name)).toThrow(/empty/);
    expect(() => of(name, 1, null)).toThrow(/no number/);
  });
});
