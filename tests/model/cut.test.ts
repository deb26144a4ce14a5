import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Interrupted } from "../../src/core/errors.js";
import { batchCuts, type Cut, carriedOn, logitsAt } from "../../src/model/cut.js";
import { batchesOf, runFrozen } from "../../src/model/frozen.js";
import type { LlamaModel } from "../../src/model/model.js";
import { deltaChange, type Patch } from "../../src/model/patch.js";
import { tf } from "../../src/tensor/tf.js";
import { goldenRecords, largestDifference, loadTiny } from "../edit/support.js";
import { atInput, atValue } from "../support/points.js";
import { expectTidy } from "../support/tensor-matcher.js";
import { refusal } from "./support.js";

let model: LlamaModel;
beforeAll(async () => {
  model = await loadTiny();
});
afterAll(() => model.dispose());

const point = atValue(2);
const texts = Object.values(goldenRecords.tokens).filter((ids) => ids.length > 1);

/** Logits at the last position of every cut. */
async function lastLogits(cuts: readonly Cut[]): Promise<Float32Array> {
  const batch = batchCuts(model, cuts);
  const spots = cuts.map(({ tokens }, row) => ({ row, position: tokens.length - 1 }));
  const logits = tf.tidy(() => logitsAt(model, batch, { spots }));
  const values = await logits.data<"float32">();
  batch.dispose();
  logits.dispose();
  return values;
}

test("a cut holds the real tokens only, whatever it was batched with", async () => {
  const { hiddenSize: D, intermediateSize: M } = model.config;
  const together = await runFrozen(model, texts, { point });
  for (const [i, tokens] of texts.entries()) {
    const [alone] = (await runFrozen(model, [tokens], { point })) as [Cut];
    const cut = together[i] as Cut;
    expect(cut).toMatchObject({ point, tokens });
    expect([cut.stream.length, cut.mlpIn?.length]).toEqual([tokens.length * D, tokens.length * M]);
    expect(largestDifference(cut.stream, alone.stream)).toBeLessThan(1e-5);
    expect(largestDifference(cut.mlpIn as Float32Array, alone.mlpIn as Float32Array)).toBeLessThan(1e-5);
  }
});

test("the edited part is the same for a sequence alone and among longer ones", async () => {
  const cuts = await runFrozen(model, texts, { point });
  const together = await lastLogits(cuts);
  const V = model.config.vocabSize;
  for (const [row, cut] of cuts.entries()) {
    expect(largestDifference(await lastLogits([cut]), together.subarray(row * V, (row + 1) * V))).toBeLessThan(1e-5);
  }
});

test("a cut is a value: written out and read back it gives the same bits", async () => {
  const cuts = await runFrozen(model, texts, { point });
  const copies = cuts.map((cut): Cut => {
    const text = JSON.stringify({ ...cut, stream: [...cut.stream], mlpIn: [...(cut.mlpIn as Float32Array)] });
    const { stream, mlpIn, ...rest } = JSON.parse(text) as { stream: number[]; mlpIn: number[] } & Cut;
    return { ...rest, stream: Float32Array.from(stream), mlpIn: Float32Array.from(mlpIn) };
  });
  expect(copies.map(({ point, tokens }) => ({ point, tokens }))).toEqual(texts.map((tokens) => ({ point, tokens })));
  expect(largestDifference(await lastLogits(copies), await lastLogits(cuts))).toBe(0);
});

test("many sequences in several batches come back in order", async () => {
  const many = Array.from({ length: 300 }, (_, i) => [0, i, ...(texts[i % texts.length] as number[])]);
  const cuts = await runFrozen(model, many, { point: atValue(0) });
  expect(cuts.map(({ tokens }) => tokens)).toEqual(many);
  const { hiddenSize: D } = model.config;
  expect(cuts.every((cut, i) => cut.stream.length === (many[i] as number[]).length * D)).toBe(true);
});

describe("batchesOf", () => {
  test("covers every sequence once, in order, and stays within the limit wherever one sequence does", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 50 })), fc.integer({ min: 1, max: 200 }), (lengths, limit) => {
        const batches = [
          ...batchesOf(
            lengths.map((length) => ({ length })),
            limit,
          ),
        ];
        expect(batches.flatMap(([start, end]) => lengths.slice(start, end))).toEqual(lengths);
        for (const [start, end] of batches) {
          const padded = Math.max(...lengths.slice(start, end)) * (end - start);
          expect(end === start + 1 || padded <= limit).toBe(true);
        }
      }),
    );
  });
});

describe("refused, before anything is computed", () => {
  test.each([
    ["no tokens", [[]], "number of tokens", "found: 0"],
    ["more tokens than positions", [new Array<number>(8193).fill(1)], "number of tokens", "found: 8193"],
    ["a token beyond the vocabulary", [[1, 1024]], "token id", "found: 1024"],
    ["a negative token", [[1, 2], [-1]], "token id", "found: -1"],
    ["half a token", [[0.5]], "token id", "found: 0.5"],
  ])("%s", async (_, sequences, where, found) => {
    const error = await expectTidy(() => refusal(() => runFrozen(model, sequences, { point })));
    expect(error.message).toContain(`where: ${where}`);
    expect(error.message).toContain(found);
  });

  test.each([-1, 4, 1.5, Number.NaN])("layer %d", async (bad) => {
    const error = await refusal(() => runFrozen(model, [[1]], { point: atValue(bad) }));
    expect(error.message).toContain(`has no layer ${bad}`);
    expect(error.expected).toContain("0 to 3");
  });
});

test("leaves no tensor behind", async () => {
  await expectTidy(() => runFrozen(model, texts, { point }));
  await expectTidy(async () => batchCuts(model, await runFrozen(model, texts, { point })).dispose());
  await expectTidy(async () => {
    const stopped = runFrozen(model, texts, { point, signal: AbortSignal.abort() });
    await expect(stopped).rejects.toThrow(Interrupted);
  });
});

describe("a batch that is carried on", () => {
  const delta = () => tf.randomNormal([model.config.hiddenSize, model.config.intermediateSize], 0, 0.1, "float32", 7);

  test.each([
    [atInput(0), atInput(2)],
    [atInput(1), atValue(1)],
    [atValue(1), atValue(3)],
    [atValue(2), atValue(2)],
  ])("from %o to %o gives the logits of the whole way, with what is changed on both parts of it", async (from, to) => {
    const cuts = await runFrozen(model, texts, { point: from });
    await expectTidy(async () => {
      const batch = batchCuts(model, cuts);
      const deltas = [delta() as tf.Tensor2D, delta() as tf.Tensor2D];
      const patch: Patch = [1, 3].map((layer, i) => ({
        site: { layer, matrix: "down" },
        change: deltaChange(deltas[i] as tf.Tensor2D),
      }));
      const spots = cuts.map(({ tokens }, row) => ({ row, position: tokens.length - 1 }));
      const whole = logitsAt(model, batch, { patch, spots });
      const on = carriedOn(model, batch, { patch, to });
      expect(on).toMatchObject({ point: to, lengths: batch.lengths, promptTokens: batch.promptTokens });
      const rest = logitsAt(model, on, { patch, spots });
      const [ours, wanted] = await Promise.all([rest.data<"float32">(), whole.data<"float32">()]);
      expect(largestDifference(ours, wanted)).toBeLessThan(1e-4);
      on.dispose();
      batch.dispose();
      tf.dispose([whole, rest, ...deltas]);
    });
  });

  test("backwards is refused", async () => {
    const batch = batchCuts(model, await runFrozen(model, texts.slice(0, 1), { point }));
    expect(() => carriedOn(model, batch, { patch: [], to: atInput(2) })).toThrow(
      /layers.2.mlpIn lies after layers.2.input/,
    );
    batch.dispose();
  });
});
