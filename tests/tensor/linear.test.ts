import { beforeAll, describe, expect, test } from "vitest";
import { selectBackend } from "../../src/tensor/backend.js";
import { COPIED_ENTRIES, keepTransposed, timesTransposed } from "../../src/tensor/linear.js";
import { tf } from "../../src/tensor/tf.js";
import { largestDifference } from "../edit/support.js";
import { expectTidy } from "../support/tensor-matcher.js";

let backend: string;
beforeAll(async () => {
  backend = (await selectBackend()).name;
});

type Product = (x: tf.Tensor2D, w: tf.Tensor2D) => tf.Tensor2D;

/** A product, and the gradient of the sum of its squares in x. */
function both(product: Product, x: tf.Tensor2D, w: tf.Tensor2D): [Float32Array, Float32Array] {
  return tf.tidy(() => {
    const gradient = tf.grad((rows) => tf.sum(tf.square(product(rows as tf.Tensor2D, w))))(x);
    return [product(x, w).dataSync<"float32">(), gradient.dataSync<"float32">()] as [Float32Array, Float32Array];
  });
}

describe.each([1, 2, 13, 96, 97, 300])("x W^T of %i rows", (n) => {
  test.each([false, true])("is the plain product, with its gradient; a copy kept: %s", async (kept) => {
    await expectTidy(async () => {
      const x = tf.randomNormal<tf.Rank.R2>([n, 24], 0, 1, "float32", n);
      const w = tf.randomNormal<tf.Rank.R2>([40, 24], 0, 1, "float32", 7);
      const copy = kept ? keepTransposed(w) : null;
      const [values, gradient] = both(timesTransposed, x, w);
      const [plain, slope] = both((rows, matrix) => tf.matMul(rows, matrix, false, true), x, w);
      expect(largestDifference(values, plain)).toBeLessThan(1e-5);
      expect(largestDifference(gradient, slope)).toBeLessThan(1e-5);
      tf.dispose([x, w, ...(copy === null ? [] : [copy])]);
    });
  });
});

test("is differentiable in a matrix of which no copy is kept", () => {
  const slope = (product: Product) =>
    tf.tidy(() => {
      const [x, w] = [tf.range(0, 15).reshape([5, 3]) as tf.Tensor2D, tf.range(0, 6).reshape([2, 3])];
      return tf
        .grad((matrix) => tf.sum(tf.square(product(x, matrix as tf.Tensor2D))))(w)
        .dataSync();
    });
  const plain = slope((x, w) => tf.matMul(x, w, false, true));
  expect(largestDifference(slope(timesTransposed), plain)).toBeLessThan(1e-5);
});

test("copies are kept of small matrices, and by native TensorFlow alone", () => {
  const [small, large] = [tf.zeros<tf.Rank.R2>([4, 3]), tf.zeros<tf.Rank.R2>([COPIED_ENTRIES / 2 + 1, 2])];
  const copy = keepTransposed(small);
  expect(copy?.shape).toEqual(backend === "tensorflow" ? [3, 4] : undefined);
  expect(keepTransposed(large)).toBeNull();
  tf.dispose([small, large, ...(copy === null ? [] : [copy])]);
});
