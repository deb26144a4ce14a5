import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { firstNotFinite, narrowToBf16, narrowToF16, widenBf16, widenF16 } from "../../src/core/float-bits.js";

const ALL_BITS = Uint16Array.from({ length: 65536 }, (_, i) => i);

/** The value of a 16-bit float by its definition. */
function decoded(bits: number, { exponentBits, mantissaBits }: { exponentBits: number; mantissaBits: number }): number {
  const sign = bits >>> 15 ? -1 : 1;
  const exponent = (bits & 0x7fff) >>> mantissaBits;
  const fraction = (bits & (2 ** mantissaBits - 1)) / 2 ** mantissaBits;
  const bias = 2 ** (exponentBits - 1) - 1;
  if (exponent === 2 ** exponentBits - 1) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return exponent === 0 ? sign * fraction * 2 ** (1 - bias) : sign * (1 + fraction) * 2 ** (exponent - bias);
}

const FORMATS = {
  BF16: { sizes: { exponentBits: 8, mantissaBits: 7 }, widen: widenBf16, narrow: narrowToBf16 },
  F16: { sizes: { exponentBits: 5, mantissaBits: 10 }, widen: widenF16, narrow: narrowToF16 },
};

describe.each(Object.entries(FORMATS))("%s", (_, { sizes, widen, narrow }) => {
  const widened = new Float32Array(65536);
  widen(ALL_BITS, widened);

  test("all 65536 values become float32 exactly", () => {
    const expected = Float32Array.from(ALL_BITS, (bits) => decoded(bits, sizes));
    expect(widened).toEqual(expected);
  });

  test("all values come back from float32 with the same bits, NaN as NaN", () => {
    const back = narrow(widened);
    const changed = ALL_BITS.filter((bits) => back[bits] !== bits && !Number.isNaN(decoded(bits, sizes)));
    expect([...changed]).toEqual([]);
    const lost = ALL_BITS.filter(
      (bits) => Number.isNaN(widened[bits]) && !Number.isNaN(decoded(back[bits] ?? 0, sizes)),
    );
    expect([...lost]).toEqual([]);
  });

  test("any float32 goes to the nearest value, ties to the even one", () => {
    const infinity = narrow(Float32Array.of(Number.POSITIVE_INFINITY))[0] as number;
    // Beyond the largest number the next step counts as 2^emax, as IEEE 754 rounds to infinity.
    const step = (bits: number) =>
      (bits & 0x7fff) === infinity ? 2 ** (2 ** (sizes.exponentBits - 1)) : decoded(bits & 0x7fff, sizes);
    const check = (value: number) => {
      const bits = narrow(Float32Array.of(value))[0] as number;
      const magnitude = bits & 0x7fff;
      const error = Math.abs(Math.abs(value) - step(magnitude));
      for (const neighbour of [magnitude - 1, magnitude + 1]) {
        if (neighbour < 0 || neighbour > infinity) continue;
        const other = Math.abs(Math.abs(value) - step(neighbour));
        expect(error < other || (error === other && magnitude % 2 === 0), `${value}`).toBe(true);
      }
      expect(bits >>> 15).toBe(Object.is(value, -0) || value < 0 ? 1 : 0);
    };
    fc.assert(fc.property(fc.float({ noNaN: true, min: -1e6, max: 1e6 }), check), { numRuns: 3000 });
    // Ties, which random values rarely hit: half way between neighbours.
    fc.assert(
      fc.property(fc.integer({ min: 0, max: infinity - 2 }), (bits) => {
        check(Math.fround((decoded(bits, sizes) + decoded(bits + 1, sizes)) / 2));
      }),
      { numRuns: 3000 },
    );
    for (const value of [65504, 65519.996, 65520, 65536, 3.3895e38, 3.4028e38, 2 ** -24, 2 ** -25, 2 ** -26, 1e-40]) {
      check(Math.fround(value));
    }
  });
});

test("the first NaN or infinity is found wherever it stands, in a view too", () => {
  fc.assert(
    fc.property(
      fc.array(fc.float({ noNaN: true, noDefaultInfinity: true }), { minLength: 2 }),
      fc.nat(),
      fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY),
      (numbers, at, bad) => {
        const values = Float32Array.from(numbers);
        expect(firstNotFinite(values)).toBe(-1);
        const index = at % values.length;
        values[index] = bad;
        values[values.length - 1] = bad;
        expect(firstNotFinite(values)).toBe(index);
        expect(firstNotFinite(values.subarray(1))).toBe(index === 0 ? values.length - 2 : index - 1);
      },
    ),
  );
});
