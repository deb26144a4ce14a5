import { beforeAll, expect, test } from "vitest";
import { selectBackend } from "../../../src/tensor/backend.js";
import { tf } from "../../../src/tensor/tf.js";
import { adamwStep, clipFactor, learningRateAt, type Moving } from "../../../src/workshop/train/adamw.js";
import { expectTidy } from "../../support/tensor-matcher.js";

beforeAll(async () => {
  await selectBackend();
});

const settings = { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0.5 };
const start = (values: number[][]): Moving => {
  const weight = tf.tensor2d(values);
  return { weight, first: tf.zerosLike(weight), second: tf.zerosLike(weight) };
};
const valuesOf = async (tensor: tf.Tensor) => Array.from(await tensor.data<"float32">());

test("two steps, computed by hand", async () => {
  // Step 1, g = 2: m = 0.2, v = 0.04; m^ = 2, v^ = 4; w = 1 (1 - 0.1 * 0.5) - 0.1 * 2 / 2 = 0.85.
  const one = adamwStep(start([[1, -3]]), tf.tensor2d([[2, 0]]), settings, { step: 1, learningRate: 0.1 });
  expect((await valuesOf(one.weight))[0]).toBeCloseTo(0.85, 6);
  expect((await valuesOf(one.weight))[1]).toBeCloseTo(-2.85, 6); // no gradient: decay alone
  // Step 2, g = -1: m = 0.08, v = 0.0496; m^ = 0.08 / 0.19, v^ = 0.0496 / 0.0199.
  const two = adamwStep(one, tf.tensor2d([[-1, 0]]), settings, { step: 2, learningRate: 0.2 });
  const [m, v] = [(await valuesOf(two.first))[0], (await valuesOf(two.second))[0]];
  expect(m).toBeCloseTo(0.08, 6);
  expect(v).toBeCloseTo(0.0496, 6);
  // sqrt(v^) = 1.578756, m^ = 0.421053; w = 0.85 (1 - 0.2 * 0.5) - 0.2 * 0.421053 / 1.578756 = 0.711660.
  expect((await valuesOf(two.weight))[0]).toBeCloseTo(0.71166, 5);
});

test("vectors, which are norms, are not decayed", async () => {
  const weight = tf.tensor1d([1, 1]);
  const moving = { weight, first: tf.zerosLike(weight), second: tf.zerosLike(weight) };
  const next = adamwStep(moving, tf.zerosLike(weight), settings, { step: 1, learningRate: 0.1 });
  expect(await valuesOf(next.weight)).toEqual([1, 1]);
});

test("a step leaves its three results and nothing else", async () => {
  const moving = start([[1, 2]]);
  const gradient = tf.tensor2d([[1, 1]]);
  await expectTidy(() => {
    tf.dispose({ ...adamwStep(moving, gradient, settings, { step: 1, learningRate: 0.1 }) });
  });
});

test("gradients are scaled down to the limit by one factor, never up", async () => {
  const gradients = [tf.tensor1d([3, 0]), tf.tensor2d([[0], [4]])]; // norm 5
  expect((await valuesOf(clipFactor(gradients, 1)))[0]).toBeCloseTo(0.2, 5);
  expect(await valuesOf(clipFactor(gradients, 10))).toEqual([1]);
});

test("the learning rate rises straight, then falls along half a cosine", () => {
  const schedule = { peakLearningRate: 2, warmupSteps: 4, steps: 103 };
  expect([1, 2, 4].map((step) => learningRateAt(step, schedule))).toEqual([0.5, 1, 2]);
  expect(learningRateAt(54, schedule)).toBeCloseTo(1, 10); // half-way between step 4 and the zero after step 103
  expect(learningRateAt(103, schedule)).toBeGreaterThan(0);
  expect(learningRateAt(104, schedule)).toBeCloseTo(0, 10);
});
