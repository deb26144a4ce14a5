import { expect } from "vitest";
import { tf } from "../../src/tensor/tf.js";

/**
 * Runs the work and proves that it leaves no tensor behind. What `work` returns must hold no tensor:
 * dispose of results inside it.
 */
export async function expectTidy<T>(work: () => T | Promise<T>): Promise<T> {
  const before = tf.memory().numTensors;
  const result = await work();
  expect(tf.memory().numTensors, "tensors alive after the work, compared with before").toBe(before);
  return result;
}
