import { beforeAll, describe, expect, test } from "vitest";
import { createRng } from "../../../src/core/rng.js";
import { selectBackend } from "../../../src/tensor/backend.js";
import { tf } from "../../../src/tensor/tf.js";
import { packBatch } from "../../../src/workshop/train/batches.js";
import { initialWeights, type NamedTensors } from "../../../src/workshop/train/init.js";
import { lossAndGradients, startState, train } from "../../../src/workshop/train/trainer.js";
import { errorOf } from "../../edit/support.js";
import { expectTidy } from "../../support/tensor-matcher.js";
import { toyConfig, toyRecipe } from "./support.js";

beforeAll(async () => {
  await selectBackend();
});

const rng = createRng(5);
const sequences = [9, 5, 12, 7].map((length) => ({
  ids: Array.from({ length }, () => rng.integer(toyConfig.vocabSize)),
  answerStart: length - 3,
}));
const batch = packBatch(sequences, { rowLength: 16, questionWeight: 0.3 });

/** Weights away from their small start, where every gradient is large enough to measure. */
function someWeights(): NamedTensors {
  const fresh = initialWeights(toyConfig, createRng(1));
  const scaled = Object.entries(fresh).map(([name, weight]) => {
    const noise = Float32Array.from({ length: weight.size }, () => rng.normal() * 0.3);
    return [name, tf.tidy(() => tf.add(weight, tf.tensor(noise, weight.shape)))] as const;
  });
  tf.dispose(fresh);
  return Object.fromEntries(scaled);
}

/** The weighted mean loss, in float64 from the losses at each position. */
async function lossOf(weights: NamedTensors): Promise<number> {
  const { losses, gradients } = lossAndGradients(weights, toyConfig, batch);
  const values = await losses.data<"float32">();
  tf.dispose([losses, gradients]);
  const total = batch.weights.reduce((sum, weight) => sum + weight, 0);
  return values.reduce((sum, loss, i) => sum + loss * (batch.weights[i] as number), 0) / total;
}

test("the gradient of every weight agrees with finite differences of the loss", async () => {
  const weights = someWeights();
  const { losses, gradients } = lossAndGradients(weights, toyConfig, batch);
  losses.dispose();
  expect(Object.keys(gradients)).toEqual(Object.keys(weights));
  for (const [name, weight] of Object.entries(weights)) {
    const gradient = gradients[name] as tf.Tensor;
    const size = (await tf.norm(gradient).data())[0] as number;
    expect(size, name).toBeGreaterThan(1e-4);
    // Along the gradient itself the slope is its norm; along another direction it is the product with it.
    const other = tf.tensor(
      Float32Array.from({ length: weight.size }, () => rng.normal()),
      weight.shape,
    );
    for (const direction of [gradient, other]) {
      const unit = tf.div(direction, tf.norm(direction));
      const h = 0.01;
      const along = (step: number) => lossOf({ ...weights, [name]: tf.add(weight, tf.mul(unit, step)) });
      const slope = ((await along(h)) - (await along(-h))) / (2 * h);
      const predicted = (await tf.sum(tf.mul(gradient, unit)).data())[0] as number;
      expect(Math.abs(slope - predicted), `${name}: slope ${slope}, gradient says ${predicted}`).toBeLessThan(
        0.005 * size + 1e-5,
      );
    }
  }
});

test("the loss is what the probabilities of the next tokens say, weighted", async () => {
  const fresh = initialWeights(toyConfig, createRng(1));
  const nothing = Object.fromEntries(Object.entries(fresh).map(([name, weight]) => [name, tf.zerosLike(weight)]));
  // All weights 0: all tokens are equally likely.
  expect(await lossOf(nothing)).toBeCloseTo(Math.log(toyConfig.vocabSize), 5);
});

describe("a training", () => {
  const plan = { config: toyConfig, recipe: { ...toyRecipe, steps: 8 }, batchAt: () => batch };
  const start = () => startState(initialWeights(toyConfig, createRng(2)));

  test("reports every step, and lowers the loss", async () => {
    const steps: number[] = [];
    const losses: number[] = [];
    const final = await train(start(), plan, {
      onStep: async ({ step, loss, tokens }, state) => {
        expect(state.step).toBe(step);
        expect(tokens).toBe(33);
        steps.push(step);
        losses.push(loss);
      },
    });
    expect(final.step).toBe(8);
    expect(steps).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    expect(losses[0]).toBeCloseTo(Math.log(toyConfig.vocabSize), 0);
    expect(losses[7] as number).toBeLessThan((losses[0] as number) - 0.5);
  });

  test("leaves no tensor behind, whether it ends, fails or is stopped", async () => {
    await expectTidy(async () => {
      const { moving } = await train(start(), plan, {});
      tf.dispose(Object.values(moving).map((own) => ({ ...own })));
    });
    const stop = new AbortController();
    const stopAfter3 = async ({ step }: { step: number }) => {
      if (step === 3) stop.abort();
    };
    const failures = [
      () => train(start(), plan, { signal: stop.signal, onStep: stopAfter3 }),
      () => train(start(), plan, { onStep: () => Promise.reject(new Error("disk full")) }),
      () => train(start(), { ...plan, recipe: { ...plan.recipe, peakLearningRate: Number.NaN } }, {}),
    ];
    const messages: string[] = [];
    for (const run of failures) await expectTidy(async () => messages.push((await errorOf(run())).message));
    expect(messages[0]).toBe("stopped during training, after step 3 of 8");
    expect(messages[1]).toBe("disk full");
    expect(messages[2]).toMatch(/^the loss of step 2 is NaN/);
  });
});
