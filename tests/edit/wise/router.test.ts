import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { InferenceOption } from "../../../src/edit/contract.js";
import { LARGEST_MARGIN, type Reading } from "../../../src/edit/overlay.js";
import { wiseRouter } from "../../../src/edit/wise/routing.js";
import { refusal } from "../../model/support.js";

const { decide, turn, answers, key } = wiseRouter.inference as InferenceOption;

const activation = fc.oneof(fc.constant(0), fc.double({ min: 1e-3, max: 50, noNaN: true }));
const smallest = fc.oneof(fc.constant(0), fc.constant(1e9), fc.double({ min: 1e-3, max: 50, noNaN: true }));
const saved = fc.array(fc.record({ delta: activation, min_act: smallest }), { maxLength: 4 });

const TINY = 1e-12; // an act_ratio so small that no product of it vanishes

const reading = (variant: string, delta: number, min_act: number): Reading => ({
  variant,
  margin: 0,
  numbers: { delta, min_act },
});

/** Readings as WISE-Retrieve logs them: the side memory, then the saved ones. */
const retrieveReadings = fc
  .tuple(activation, smallest, saved)
  .map(([delta, min_act, others]): Reading[] => [
    reading("side", delta, min_act),
    ...others.map((other, i) => reading(`memory-${i}`, other.delta, other.min_act)),
  ]);

/** As WISE-Merge logs them: the merged memory, where there is one, has the min_act of the side memory. */
const mergeReadings = fc
  .tuple(activation, smallest, fc.option(activation))
  .map(([delta, min_act, merged]): Reading[] => [
    reading("side", delta, min_act),
    ...(merged === null ? [] : [reading("merged", merged, min_act)]),
  ]);

const variantAt = (readings: readonly Reading[], act_ratio: number, retrieve: boolean) =>
  decide(readings, { act_ratio, retrieve }).variant;

describe.each([
  ["retrieve", true, retrieveReadings],
  ["merge", false, mergeReadings],
] as const)("how far a memory reaches: %s", (_, retrieve, readings) => {
  const options = { act_ratio: 1, retrieve };
  const near = 1e-12; // rounding of one quotient and one product

  test("up to its reach a memory answers, and beyond it none", () => {
    fc.assert(
      fc.property(readings, (given) => {
        const reach = turn(given, options);
        const beyond = reach === 0 ? TINY : reach * (1 + near);
        if (reach < Number.POSITIVE_INFINITY) expect(variantAt(given, beyond, retrieve)).toBe("main");
        expect(variantAt(given, Math.min(reach * (1 - near), 1e300), retrieve)).not.toBe("main");
      }),
      { numRuns: 500 },
    );
  });

  test("at any act_ratio, a memory answers exactly where its reach is not below", () => {
    const ratio = fc.oneof(fc.double({ min: TINY, max: 3, noNaN: true }), fc.constantFrom(0, 0.5, 1));
    fc.assert(
      fc.property(readings, ratio, (given, at) => {
        const reach = turn(given, options);
        fc.pre(at === 0 || Math.abs(reach - at) > near * at); // else rounding decides
        expect(variantAt(given, at, retrieve) !== "main").toBe(reach >= at);
      }),
      { numRuns: 500 },
    );
  });

  test("a margin is the activation in thresholds, and never infinite", () => {
    fc.assert(
      fc.property(readings, fc.double({ min: 0, max: 3, noNaN: true }), (given, act_ratio) => {
        for (const { margin, numbers } of decide(given, { act_ratio, retrieve }).readings) {
          const { delta, min_act } = numbers as { delta: number; min_act: number };
          const threshold = min_act * act_ratio;
          expect(margin).toBe(threshold === 0 ? LARGEST_MARGIN : Math.min(delta / threshold, LARGEST_MARGIN));
          if (Math.abs(delta - threshold) > near * threshold) expect(margin >= 1).toBe(delta >= threshold);
        }
      }),
      { numRuns: 500 },
    );
  });
});

test("the option that it reads at inference is act_ratio, and the smaller it is the more is answered", () => {
  expect({ key, answers }).toEqual({ key: "act_ratio", answers: "below" });
});

test("a saved memory below the side memory's activation never answers, although the side memory does not either", () => {
  const readings = [reading("side", 6, 10), reading("memory-0", 5, 1)];
  expect(turn(readings, { act_ratio: 1, retrieve: true })).toBe(0.6);
  expect(variantAt(readings, 0.7, true)).toBe("main");
});

test("in merge the side memory's threshold counts for both", () => {
  const readings = [reading("side", 2, 10), reading("merged", 8, 10)];
  expect(turn(readings, { act_ratio: 1, retrieve: false })).toBe(0.8);
});

test("without memories nothing is within reach", () => {
  expect(turn([], { act_ratio: 1, retrieve: true })).toBe(Number.NEGATIVE_INFINITY);
  expect(decide([], { act_ratio: 1, retrieve: true })).toEqual({ variant: "main", readings: [] });
});

test("deciding keeps what stands in a reading, and sets the margin", () => {
  const given = { ...reading("side", 3, 4), margin: 0.75, predicted: [7], score: 0.5 };
  expect(decide([given], { act_ratio: 0.5, retrieve: true })).toEqual({
    variant: "side",
    readings: [{ ...given, margin: 1.5 }],
  });
});

test.each([
  [{ retrieve: true }],
  [{ act_ratio: Number.NaN, retrieve: true }],
  [{ act_ratio: -1, retrieve: true }],
  [{ act_ratio: 1 }],
])("options that do not say how the router decides are refused: %o", async (options) => {
  for (const ask of [decide, turn]) {
    const error = await refusal(() => ask([], options));
    expect(error).toMatchObject({ where: "options of the protocol", expected: expect.stringContaining("act_ratio") });
  }
});

test("variants have names in words, and only the side memory holds its edits as they were made", () => {
  const { called, rewritten } = wiseRouter;
  expect(["side", "merged", "memory-3"].map(called)).toEqual(["the side memory", "the merged memory", "memory-3"]);
  expect(["side", "merged", "memory-3"].map((variant) => rewritten?.(variant))).toEqual([false, true, true]);
});
