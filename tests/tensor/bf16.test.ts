import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { RefusedInput } from "../../src/core/errors.js";
import { narrowToBf16, widenBf16 } from "../../src/core/float-bits.js";
import { createRng } from "../../src/core/rng.js";
import { selectBackend } from "../../src/tensor/backend.js";
import { type Bf16Matrix, isBf16Matrix, linearBf16, packBf16 } from "../../src/tensor/bf16.js";
import { timesTransposed } from "../../src/tensor/linear.js";
import { tf } from "../../src/tensor/tf.js";
import { requires, startableBackends } from "../support/requires.js";
import { expectTidy } from "../support/tensor-matcher.js";

const startable = startableBackends();

describe.each(startable)("bf16 on %s", (backend) => {
  let before = 0;
  beforeEach(async () => {
    await selectBackend(backend);
    before = tf.memory().numTensors;
  });
  afterEach(() => expect(tf.memory().numTensors).toBe(before));

  it("unpacks all 65536 values exactly", async () => {
    const all = Uint16Array.from({ length: 65536 }, (_, i) => i);
    const packed = packBf16(all.slice(), [256, 256]);
    expect(packed).toMatchObject({ shape: [256, 256], bytes: 131072 });
    const unpacked = await valuesOf(() => packed.unpack());
    packed.dispose();
    expect(unpacked).toMatchObject({ shape: [256, 256], dtype: "float32" });
    expect(bitsOf(unpacked.values)).toEqual(bitsOf(widened(all)));
  });

  it("takes odd numbers of rows and columns, and a part of a larger array", async () => {
    const whole = normals(29, "odd");
    const part = whole.subarray(3, 18);
    const packed = packBf16(part, [5, 3]);
    expect((await valuesOf(() => packed.unpack())).values).toEqual(widened(part));
    packed.dispose();
  });

  it("multiplies like float32 of the same values: products and gradients are the same bits", async () => {
    const bits = normals(35 * 51, "w");
    const x = tf.tensor2d(widened(normals(17 * 51, "x")), [17, 51]);
    const w = tf.tensor2d(widened(bits), [35, 51]);
    const packed = packBf16(bits, [35, 51]);
    const product = await valuesOf(() => linearBf16(x, packed));
    expect(product.shape).toEqual([17, 35]);
    expect(product.values).toEqual((await valuesOf(() => timesTransposed(x, w))).values);

    const gradient = await valuesOf(() =>
      tf.grad((rows) => tf.sum(tf.square(linearBf16(rows as tf.Tensor2D, packed))))(x),
    );
    const expected = await valuesOf(() => tf.matMul(tf.mul(timesTransposed(x, w), 2), w));
    expect(gradient.values).toEqual(expected.values);
    packed.dispose();
    tf.dispose([x, w]);
  });

  it("has nothing unpacked in memory between forward and gradient", async () => {
    const packed = packBf16(normals(64 * 64, "w"), [64, 64]);
    const x = tf.zeros([1, 64]) as tf.Tensor2D;
    const bytesBetween: number[] = [];
    await valuesOf(() =>
      tf.grad((rows) => {
        const bytes = tf.memory().numBytes;
        let y = rows as tf.Tensor2D;
        for (let layer = 0; layer < 4; layer++) {
          y = linearBf16(y, packed);
          bytesBetween.push(tf.memory().numBytes - bytes);
        }
        return tf.sum(y);
      })(x),
    );
    expect(Math.max(...bytesBetween)).toBeLessThan(packed.bytes);
    packed.dispose();
    x.dispose();
  });

  it("is told apart from a float32 matrix, outlives a tidy, and is gone once disposed", () => {
    let packed: Bf16Matrix | undefined;
    tf.tidy(() => {
      packed = packBf16(normals(6, "w"), [2, 3]);
      expect(isBf16Matrix(packed)).toBe(true);
      expect(isBf16Matrix(tf.zeros([2, 3]) as tf.Tensor2D)).toBe(false);
    });
    packed?.unpack().dispose();
    packed?.dispose();
    packed?.dispose();
    expect(() => packed?.unpack()).toThrow("disposed");
  });

  it("refuses bits that are not of the shape", () => {
    expect(() => packBf16(normals(6, "w"), [2, 4])).toThrow(RefusedInput);
  });
});

describe.runIf(requires("native"))("bf16 on tensorflow", () => {
  it("gives TensorFlow's memory back", async () => {
    await selectBackend("tensorflow");
    const { binding } = tf.backend() as unknown as { binding: { getNumOfTensors(): number } };
    const before = binding.getNumOfTensors();
    const packed = packBf16(normals(6, "w"), [2, 3]);
    expect(binding.getNumOfTensors()).toBe(before + 1);
    packed.unpack().dispose();
    packed.dispose();
    expect(binding.getNumOfTensors()).toBe(before);
  });
});

function normals(count: number, name: string): Uint16Array {
  const rng = createRng(5, [name]);
  return narrowToBf16(Float32Array.from({ length: count }, () => rng.normal()));
}

function widened(bits: Uint16Array): Float32Array {
  const values = new Float32Array(bits.length);
  widenBf16(bits, values);
  return values;
}

function bitsOf(values: Float32Array): Uint32Array {
  return new Uint32Array(values.buffer, values.byteOffset, values.length);
}

async function valuesOf(compute: () => tf.Tensor) {
  return expectTidy(async () => {
    const result = tf.tidy(compute);
    const values = ((await result.data()) as Float32Array).slice();
    result.dispose();
    return { shape: result.shape, dtype: result.dtype, values };
  });
}
