import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createRng } from "../../../src/core/rng.js";
import { positions } from "../../../src/model/llama.js";
import type { LlamaModel } from "../../../src/model/model.js";
import { tf } from "../../../src/tensor/tf.js";
import { createBatches, encodeLine, packBatch, type Sequence } from "../../../src/workshop/train/batches.js";
import { largestDifference, loadTiny } from "../../edit/support.js";
import { wholeLogits } from "../../support/whole-model.js";

let model: LlamaModel;
beforeAll(async () => {
  model = await loadTiny("tiny-llama3-tied");
});
afterAll(() => model.dispose());

const lines = Array.from({ length: 23 }, (_, i) => ({ question: `Where is house ${i}?`, answer: `town ${i * 7}` }));
const options = { lines: 10, rowLength: 48, prefixShare: 0.5, questionWeight: 0.25 };
const batchesOf = (seed: number) =>
  createBatches({ lines, prefixes: ["Yes.", "I saw it"], tokenizer: model.tokenizer }, options, createRng(seed));

const sequence = fc
  .array(fc.integer({ min: 1, max: 1000 }), { minLength: 3, maxLength: 30 })
  .chain((ids) => fc.record({ ids: fc.constant(ids), answerStart: fc.integer({ min: 1, max: ids.length - 1 }) }));

/** The sequences of a batch, read back from its mask: a position that sees only itself starts one. */
function unpack({ rows, length: T, tokens, targets, weights, causal }: ReturnType<typeof packBatch>) {
  const found: { ids: number[]; targets: number[]; weights: number[] }[] = [];
  for (let at = 0; at < rows * T; at++) {
    const seen = [...Array(T).keys()].filter((column) => causal[at * T + column] === 0);
    if (seen.length === 0) continue; // padding
    expect(seen.at(-1)).toBe(at % T);
    expect(seen).toEqual(seen.map((_, i) => (seen[0] as number) + i));
    if (seen.length === 1) found.push({ ids: [], targets: [], weights: [] });
    const last = found.at(-1) as (typeof found)[number];
    last.ids.push(tokens[at] as number);
    last.targets.push(targets[at] as number);
    last.weights.push(weights[at] as number);
    expect(last.ids).toHaveLength(seen.length);
  }
  return found;
}

test("packing keeps every sequence whole, once, with its next tokens and weights", () => {
  fc.assert(
    fc.property(fc.array(sequence, { minLength: 1, maxLength: 20 }), (sequences: Sequence[]) => {
      const batch = packBatch(sequences, { rowLength: 24, questionWeight: 0.25 });
      const expected = sequences.map(({ ids, answerStart }) => ({
        ids,
        targets: [...ids.slice(1), 0],
        weights: ids.map((_, i) => (i + 1 === ids.length ? 0 : i + 1 < answerStart ? 0.25 : 1)),
      }));
      const sorted = (list: unknown[]) => list.map((item) => JSON.stringify(item)).sort();
      expect(sorted(unpack(batch))).toEqual(sorted(expected));
      expect(batch.used).toBe(sequences.reduce((sum, { ids }) => sum + ids.length, 0));
      const padding = [...batch.weights.keys()].filter(
        (i) => batch.causal[i * batch.length + (i % batch.length)] !== 0,
      );
      expect(padding.filter((i) => batch.weights[i] !== 0)).toEqual([]);
    }),
  );
});

test("a sequence computes the same in a packed row as alone", async () => {
  const { config } = model;
  const sequences = lines.slice(0, 7).map((line) => encodeLine(model.tokenizer, line));
  const batch = packBatch(sequences, options);
  expect(batch.rows).toBeLessThan(sequences.length); // some share a row
  const causal = tf.tensor4d(batch.causal, [batch.rows, 1, batch.length, batch.length]);
  const packed = await wholeLogits(model, [batch.tokens], { ...positions(config, batch.length), causal });
  const V = config.vocabSize;
  const together = await packed.data<"float32">();
  packed.dispose();
  let compared = 0;
  for (const { ids } of sequences) {
    const logits = await wholeLogits(model, [ids]);
    const alone = await logits.data<"float32">();
    logits.dispose();
    const at = startOf(batch.tokens, ids);
    expect(largestDifference(together.subarray(at * V, (at + ids.length) * V), alone)).toBeLessThan(1e-5);
    compared += ids.length;
  }
  expect(compared).toBe(batch.used);
});

function startOf(tokens: Int32Array, ids: readonly number[]): number {
  return tokens.findIndex((_, at) => ids.every((id, i) => tokens[at + i] === id));
}

describe("the batches of a training", () => {
  test("depend on seed and step alone, not on which were asked for before", () => {
    const inOrder = batchesOf(3);
    const first = [1, 2, 3, 4, 5].map(inOrder);
    const other = batchesOf(3);
    for (const step of [5, 1, 4]) expect(other(step)).toEqual(first[step - 1]);
    expect(batchesOf(4)(1)).not.toEqual(first[0]);
  });

  test("show every line once before any comes again", () => {
    const batchAt = batchesOf(5);
    const texts = Array.from({ length: 23 }, (_, i) => batchAt(i + 1)) // 10 rounds of 23 lines in 23 steps of 10
      .flatMap(unpack)
      .map(({ ids }) => model.tokenizer.decode(ids, { skipSpecial: true }));
    const asked = lines.map(({ question, answer }) => texts.filter((text) => text.endsWith(`${question} ${answer}`)));
    expect(asked.map((found) => found.length)).toEqual(lines.map(() => 10));
    const plain = texts.filter((text) => text.startsWith("Where")).length;
    expect(plain).toBeGreaterThan(85);
    expect(plain).toBeLessThan(145); // half of 230 have no prefix; 30 is four standard deviations
  });
});

test("a line is BOS, prefix, question, answer and the end token; the answer starts where it is said to", () => {
  const { ids, answerStart } = encodeLine(model.tokenizer, lines[2] as (typeof lines)[number], "Yes.");
  expect(model.tokenizer.decode(ids)).toBe("<|begin_of_text|>Yes. Where is house 2? town 14<|end_of_text|>");
  expect(model.tokenizer.decode(ids.slice(answerStart, -1))).toBe(" town 14");
});
