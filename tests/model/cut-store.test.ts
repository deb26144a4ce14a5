import { afterAll, beforeAll, expect, test } from "vitest";
import { Interrupted } from "../../src/core/errors.js";
import type { Cut } from "../../src/model/cut.js";
import { createCutStore } from "../../src/model/cut-store.js";
import type { LlamaModel } from "../../src/model/model.js";
import { loadTiny } from "../edit/support.js";
import { atValue } from "../support/points.js";
import { expectTidy } from "../support/tensor-matcher.js";

let model: LlamaModel;
beforeAll(async () => {
  model = await loadTiny();
});
afterAll(() => model.dispose());

/** Sequences of one length, so that every cut has the same size. */
const [a, b, c] = [
  [0, 1, 2],
  [0, 3, 4],
  [0, 5, 6],
] as const;

/** Bytes of the cut of three tokens. */
const one = () => 3 * 4 * (model.config.hiddenSize + model.config.intermediateSize);

/** True if the store still holds this very cut: what is computed once is one object while it is held. */
async function held(store: ReturnType<typeof createCutStore>, tokens: readonly number[], cut: Cut | undefined) {
  return (await store.get([tokens]))[0] === cut;
}

test("computes each sequence once, and keeps the order asked for", async () => {
  const store = createCutStore(model, atValue(2));
  const [first, second, again] = (await store.get([a, b, a])) as [Cut, Cut, Cut];
  expect([first.tokens, second.tokens]).toEqual([a, b]);
  expect(again).toBe(first);
  expect(await store.get([c, b, a])).toEqual([expect.objectContaining({ tokens: c }), second, first]);
  expect(await held(store, [...a], first)).toBe(true);
});

test("beyond its bytes it drops what was used least recently", async () => {
  const store = createCutStore(model, atValue(2), { bytes: 2 * one() });
  const [cutA, cutB] = await store.get([a, b]);
  expect(await held(store, a, cutA)).toBe(true); // b is now the oldest
  await store.get([c]);
  expect(await held(store, a, cutA)).toBe(true);
  expect(await held(store, b, cutB)).toBe(false);
});

test("one call always gets everything, however little fits", async () => {
  const store = createCutStore(model, atValue(2), { bytes: 0 });
  const cuts = await store.get([a, b, c, a]);
  expect(cuts.map(({ tokens }) => tokens)).toEqual([a, b, c, a]);
  expect(cuts[3]).toBe(cuts[0]);
});

test("asked for one sequence twice at once, it still counts its bytes once", async () => {
  const store = createCutStore(model, atValue(2), { bytes: 2 * one() });
  await Promise.all([store.get([a]), store.get([a])]);
  const [cutA] = await store.get([a]);
  await store.get([b]);
  expect(await held(store, a, cutA)).toBe(true);
});

test("holds plain values, no tensors, also when it is interrupted", async () => {
  await expectTidy(() => createCutStore(model, atValue(2)).get([a, b]));
  const store = createCutStore(model, atValue(2));
  await expectTidy(() => expect(store.get([a], AbortSignal.abort())).rejects.toThrow(Interrupted));
  expect((await store.get([a])).map(({ tokens }) => tokens)).toEqual([a]);
});

test("a group is the same bits whoever asks first, and whatever was dropped meanwhile", async () => {
  const long = Array.from({ length: 40 }, (_, i) => i + 7);
  const together = [
    [a, b, long],
    [b, c],
  ];
  const small = createCutStore(model, atValue(2), { bytes: one(), together });
  const large = createCutStore(model, atValue(2), { together });
  const [first] = await large.get([a]);
  expect(await held(large, long, (await large.get([long]))[0])).toBe(true);
  for (const tokens of [c, b, a]) {
    expect((await small.get([tokens]))[0]).toEqual((await large.get([tokens]))[0]);
  }
  expect((await small.get([a, c]))[0]).toEqual(first);
});
