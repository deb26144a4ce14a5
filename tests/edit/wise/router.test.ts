import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { RouterInput } from "../../../src/edit/contract.js";
import { wiseRouter } from "../../../src/edit/wise/routing.js";
import { refusal } from "../../model/support.js";

const activation = fc.oneof(fc.constant(0), fc.double({ min: 1e-3, max: 50, noNaN: true }));
const smallest = fc.oneof(fc.constant(0), fc.constant(1e9), fc.double({ min: 1e-3, max: 50, noNaN: true }));
const saved = fc.array(fc.record({ delta: activation, minAct: smallest }), { maxLength: 4 });

const TINY = 1e-12; // an act_ratio so small that no product of it vanishes

/** Readings as WISE-Retrieve logs them: the side memory, then the saved ones. */
const retrieveReadings = fc
  .tuple(activation, smallest, saved)
  .map(([delta, minAct, others]): RouterInput[] => [
    { memory: "side", delta, minAct },
    ...others.map((other, i) => ({ memory: `memory-${i}` as const, ...other })),
  ]);

/** As WISE-Merge logs them: the merged memory, where there is one, has the min_act of the side memory. */
const mergeReadings = fc
  .tuple(activation, smallest, fc.option(activation))
  .map(([delta, minAct, merged]): RouterInput[] => [
    { memory: "side", delta, minAct },
    ...(merged === null ? [] : [{ memory: "merged" as const, delta: merged, minAct }]),
  ]);

const route = (readings: readonly RouterInput[], actRatio: number, retrieve: boolean) =>
  wiseRouter.decide(readings, { actRatio, retrieve }).route;

describe.each([
  ["retrieve", true, retrieveReadings],
  ["merge", false, mergeReadings],
] as const)("how far a memory reaches: %s", (_, retrieve, readings) => {
  const options = { actRatio: 1, retrieve };
  const near = 1e-12; // rounding of one quotient and one product

  test("up to its reach a memory answers, and beyond it none", () => {
    fc.assert(
      fc.property(readings, (given) => {
        const reach = wiseRouter.reach(given, options);
        const beyond = reach === 0 ? TINY : reach * (1 + near);
        if (reach < Number.POSITIVE_INFINITY) expect(route(given, beyond, retrieve)).toBe("main");
        expect(route(given, Math.min(reach * (1 - near), 1e300), retrieve)).not.toBe("main");
      }),
      { numRuns: 500 },
    );
  });

  test("at any act_ratio, a memory answers exactly where its reach is not below", () => {
    const ratio = fc.oneof(fc.double({ min: TINY, max: 3, noNaN: true }), fc.constantFrom(0, 0.5, 1));
    fc.assert(
      fc.property(readings, ratio, (given, at) => {
        const reach = wiseRouter.reach(given, options);
        fc.pre(at === 0 || Math.abs(reach - at) > near * at); // else rounding decides
        expect(route(given, at, retrieve) !== "main").toBe(reach >= at);
      }),
      { numRuns: 500 },
    );
  });
});

test("a saved memory below the side memory's activation never answers, although the side memory does not either", () => {
  const readings: RouterInput[] = [
    { memory: "side", delta: 6, minAct: 10 },
    { memory: "memory-0", delta: 5, minAct: 1 },
  ];
  expect(wiseRouter.reach(readings, { actRatio: 1, retrieve: true })).toBe(0.6);
  expect(route(readings, 0.7, true)).toBe("main");
});

test("in merge the side memory's threshold counts for both", () => {
  const readings: RouterInput[] = [
    { memory: "side", delta: 2, minAct: 10 },
    { memory: "merged", delta: 8, minAct: 10 },
  ];
  expect(wiseRouter.reach(readings, { actRatio: 1, retrieve: false })).toBe(0.8);
});

test("without memories nothing is within reach", () => {
  expect(wiseRouter.reach([], { actRatio: 1, retrieve: true })).toBe(Number.NEGATIVE_INFINITY);
  expect(wiseRouter.decide([], { actRatio: 1, retrieve: true })).toEqual({ route: "main", readings: [] });
});

test("deciding keeps what stands in a reading, and sets the threshold", () => {
  const reading = { memory: "side" as const, delta: 3, minAct: 4, threshold: 1, predicted: [7], score: 0.5 };
  expect(wiseRouter.decide([reading], { actRatio: 0.5, retrieve: true })).toEqual({
    route: "side",
    readings: [{ ...reading, threshold: 2 }],
  });
});

test.each([
  [{ retrieve: true }],
  [{ actRatio: Number.NaN, retrieve: true }],
  [{ actRatio: -1, retrieve: true }],
  [{ actRatio: 1 }],
])("options that do not say how the router decides are refused: %o", async (options) => {
  const error = await refusal(() => wiseRouter.decide([], options));
  expect(error).toMatchObject({ where: "options of the protocol", expected: expect.stringContaining("actRatio") });
});
