import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createRng } from "../../src/core/rng.js";
import type { LlamaConfig } from "../../src/model/config.js";
import { batchCuts, logitsAt } from "../../src/model/cut.js";
import { loadModel } from "../../src/model/folder.js";
import { runFrozen } from "../../src/model/frozen.js";
import { embed, forward, type LlamaWeights, positions } from "../../src/model/llama.js";
import type { LlamaModel } from "../../src/model/model.js";
import { tf } from "../../src/tensor/tf.js";
import { goldenRecords, largestDifference, loadTiny } from "../edit/support.js";
import { atInput, atValue } from "../support/points.js";
import { expectTidy } from "../support/tensor-matcher.js";
import { tensorsOf, weightsOf, wholeLogits } from "../support/whole-model.js";

const models = {} as Record<"tiny-llama3" | "tiny-llama3-tied", LlamaModel>;
beforeAll(async () => {
  for (const name of ["tiny-llama3", "tiny-llama3-tied"] as const) models[name] = await loadTiny(name);
});
afterAll(() => {
  for (const model of Object.values(models)) model.dispose();
});

/** Texts of unlike lengths, from one token to several dozen. */
const texts = Object.values(goldenRecords.tokens).filter((ids) => ids.length > 0);
const longest = Math.max(...texts.map((ids) => ids.length));

/** Logits of the whole model for sequences of one length, [B T, V] flat. */
async function forwardLogits(model: LlamaModel, sequences: readonly (readonly number[])[]): Promise<Float32Array> {
  const logits = await wholeLogits(model, sequences);
  const values = await logits.data<"float32">();
  logits.dispose();
  return values;
}

describe.each(["tiny-llama3", "tiny-llama3-tied"] as const)("%s", (name) => {
  test.each([0, 1, 2, 3].flatMap((layer) => [atInput(layer), atValue(layer)]))(
    "cut at $layer, $at, the pass gives the logits of the uncut one",
    async (point) => {
      const model = models[name];
      const cuts = await runFrozen(model, texts, { point });
      const batch = batchCuts(model, cuts);
      const spots = texts.flatMap((ids, row) => ids.map((_, position) => ({ row, position })));
      const logits = tf.tidy(() => logitsAt(model, batch, { spots }));
      const ours = await logits.data<"float32">();
      batch.dispose();
      logits.dispose();
      let offset = 0;
      for (const ids of texts) {
        const whole = await forwardLogits(model, [ids]);
        expect(largestDifference(ours.subarray(offset, offset + whole.length), whole)).toBeLessThan(1e-5);
        offset += whole.length;
      }
      expect(offset).toBe(ours.length);
    },
  );

  test("what stands behind a sequence, or beside it in the batch, changes none of its logits", async () => {
    const model = models[name];
    const V = model.config.vocabSize;
    const rng = createRng(7);
    const padded = texts.map((ids) => [...ids, ...Array.from({ length: longest - ids.length }, () => rng.integer(V))]);
    const together = await forwardLogits(model, padded);
    for (const [row, ids] of texts.entries()) {
      const alone = await forwardLogits(model, [ids]);
      const inBatch = together.subarray(row * longest * V, (row * longest + ids.length) * V);
      expect(largestDifference(inBatch, alone)).toBeLessThan(1e-5);
    }
  });
});

test("the pass is differentiable in every kind of weight", async () => {
  const model = models["tiny-llama3"];
  const { config } = model;
  const rng = createRng(11);
  const tokens = [0, 45, 45, 901, 7, 300, 12, 45];
  const pick = tf.tensor2d(
    Float32Array.from({ length: tokens.length * config.vocabSize }, () => rng.normal() / 30),
    [tokens.length, config.vocabSize],
  );
  const at = positions(config, tokens.length);
  const ids = tf.tensor1d(tokens, "int32");
  const embedding = await model.embed(Array.from({ length: config.vocabSize }, (_, id) => id));
  const { layers, ...others } = { ...weightsOf(model), embedding };
  // A layer in the middle, so that its gradient passes through everything above it.
  const parts = { ...layers[1], ...others, head: others.head[0] } as unknown as Record<string, tf.Tensor>;
  const withParts = (changed: Record<string, tf.Tensor>): LlamaWeights => {
    const { embedding, finalNorm, head, ...layer } = changed;
    const changedLayers = layers.map((own, i) => (i === 1 ? { ...own, ...layer } : own));
    return { embedding, finalNorm, head: [head], layers: changedLayers } as unknown as LlamaWeights;
  };
  const wholePass = (weights: LlamaWeights) => forward(embed(ids, weights.embedding), weights, config, at);
  const loss = (changed: Record<string, tf.Tensor>): tf.Scalar => tf.sum(tf.mul(wholePass(withParts(changed)), pick));

  for (const [name, weight] of Object.entries(parts)) {
    const direction = tf.tensor(
      Float32Array.from({ length: weight.size }, () => rng.normal()),
      weight.shape,
    );
    // A step of 1% of the weight's size: large against rounding, small against curvature.
    const h = 0.01 * Math.sqrt((await tf.mean(tf.square(weight)).data())[0] as number);
    const along = (step: number) =>
      tf.tidy(() => loss({ ...parts, [name]: tf.add(weight, tf.mul(direction, step)) })).data();
    const [[above], [below]] = await Promise.all([along(h), along(-h)]);
    const slope = ((above as number) - (below as number)) / (2 * h);
    // The model's own tensors are constants: products keep transposed copies of them.
    const gradient = tf.grad((x) => loss({ ...parts, [name]: x }))(weight.clone());
    const predicted = (await tf.sum(tf.mul(gradient, direction)).data())[0] as number;
    const size = (await tf.norm(gradient).data())[0] as number;
    // The slope along a random direction is a normal value of deviation |gradient|.
    expect(Math.abs(predicted - slope), `${name}: slope ${slope}, gradient says ${predicted}`).toBeLessThan(
      0.02 * size,
    );
    expect(size, name).toBeGreaterThan(0);
  }
});

describe("positions", () => {
  const config = (ropeScaling: LlamaConfig["ropeScaling"]) =>
    ({ ...models["tiny-llama3"].config, headDim: 128, ropeTheta: 500_000, ropeScaling }) satisfies LlamaConfig;

  /** Rotary frequencies, read off the sine at a position where every angle is still within a quarter turn. */
  async function frequencies(scaling: LlamaConfig["ropeScaling"]): Promise<number[]> {
    const at = positions(config(scaling), 2);
    const sines = (await at.sin.data<"float32">()).subarray(128, 192); // position 1, one half
    tf.dispose([at.cos, at.sin, at.causal]);
    return Array.from(sines, (sine) => Math.asin(sine));
  }

  test("llama3 scaling as in LLaMA 3.1: short waves stay, long ones are stretched, between them a ramp", async () => {
    const plain = await frequencies(null);
    const scaled = await frequencies({
      type: "llama3",
      factor: 8,
      lowFreqFactor: 1,
      highFreqFactor: 4,
      originalMaxPositions: 8192,
    });
    for (const [j, frequency] of plain.entries()) {
      if (j === 0) continue; // one radian per position: beyond the quarter turn that asin can tell
      const ratio = (scaled[j] as number) / frequency;
      const turns = (8192 * frequency) / (2 * Math.PI); // full turns within the original context
      const expected = turns > 4 ? 1 : turns < 1 ? 1 / 8 : 1 / 8 + ((turns - 1) / 3) * (7 / 8);
      expect(ratio, `pair ${j}`).toBeCloseTo(expected, 4);
    }
    const between = scaled.filter((f, j) => f < (plain[j] as number) * 0.999 && f > (plain[j] as number) * 0.126);
    expect(between.length).toBeGreaterThan(2);
  });
});

test("a model leaves nothing behind when it goes, and its passes nothing while it stays", async () => {
  const model = models["tiny-llama3"];
  await expectTidy(() => forwardLogits(model, [texts[0] as number[]]));
  await expectTidy(async () => {
    const another = await loadModel(model.folder);
    expect(tensorsOf(another)).toHaveLength(2 + 9 * 4);
    another.dispose();
  });
});
