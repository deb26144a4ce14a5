import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { createRng } from "../../src/core/rng.js";
import { type BackendName, selectBackend } from "../../src/tensor/backend.js";
import { tf } from "../../src/tensor/tf.js";
import { expectTidy } from "../support/tensor-matcher.js";

beforeAll(() => selectBackend("wasm"));

function normals(shape: number[], name: string): { shape: number[]; values: Float32Array } {
  const rng = createRng(11, [name, ...shape]);
  return { shape, values: Float32Array.from({ length: tf.util.sizeFromShape(shape) }, () => rng.normal()) };
}

/** Values of a computation on one backend; the same tensors are made there from plain arrays. */
async function on(backend: BackendName, compute: () => tf.Tensor): Promise<{ shape: number[]; values: number[] }> {
  await selectBackend(backend);
  return expectTidy(async () => {
    const result = tf.tidy(compute);
    const values = [...(await result.data())];
    result.dispose();
    return { shape: result.shape, values };
  });
}

async function expectSameAsCpu(compute: () => tf.Tensor, tolerance = 1e-5): Promise<void> {
  const expected = await on("cpu", compute);
  const found = await on("wasm", compute);
  expect(found.shape).toEqual(expected.shape);
  expect(largestDifference(found.values, expected.values)).toBeLessThan(tolerance);
}

function largestDifference(a: number[], b: number[]): number {
  return Math.max(0, ...a.map((x, i) => Math.abs(x - (b[i] as number))));
}

/** d loss / d x by central differences in float64 steps, for a loss that takes one flat array. */
async function finiteDifferences(loss: (x: Float32Array) => tf.Tensor, at: Float32Array): Promise<number[]> {
  const step = 1e-2; // the losses here are quadratic: central differences have no truncation error
  const slopes: number[] = [];
  for (let i = 0; i < at.length; i++) {
    const [above, below] = await Promise.all(
      [step, -step].map(async (change) => {
        const value = tf.tidy(() => loss(at.with(i, (at[i] as number) + change)));
        const [number] = await value.data();
        value.dispose();
        return number as number;
      }),
    );
    slopes.push(((above as number) - (below as number)) / (2 * step));
  }
  return slopes;
}

/** Sums of the rows of a [n, 2] matrix, as a product with its transpose. */
function pairSums(pairs: tf.Tensor): number[] {
  return tf.tidy(() => [...tf.matMul(tf.ones([1, 2]), pairs, false, true).dataSync()]);
}

const dimension = fc.integer({ min: 1, max: 9 });

describe("BatchMatMul on wasm", () => {
  it.each([
    [[], []],
    [[1], [1]],
    [[3], [3]],
    [
      [2, 3],
      [2, 3],
    ],
    [[3], [1]],
    [[1], [3]],
  ])("agrees with cpu for every transposition, batch %j x %j", async (batchA, batchB) => {
    await fc.assert(
      fc.asyncProperty(dimension, dimension, dimension, fc.boolean(), fc.boolean(), async (m, k, n, tA, tB) => {
        const a = normals([...batchA, ...(tA ? [k, m] : [m, k])], "a");
        const b = normals([...batchB, ...(tB ? [n, k] : [k, n])], "b");
        await expectSameAsCpu(() => tf.matMul(tf.tensor(a.values, a.shape), tf.tensor(b.values, b.shape), tA, tB));
      }),
      { numRuns: 12 },
    );
  });

  it.each([
    [false, false],
    [true, false],
    [false, true],
    [true, true],
  ])("has the gradient that finite differences have, transposed %s, %s", async (tA, tB) => {
    const a = normals(tA ? [4, 3] : [3, 4], "left");
    const b = normals(tB ? [5, 4] : [4, 5], "right");
    const loss = (left: tf.Tensor, right: tf.Tensor) => tf.matMul(left, right, tA, tB).square().sum() as tf.Scalar;
    await selectBackend("wasm");
    const gradients = tf.tidy(() => tf.grads(loss)([tf.tensor(a.values, a.shape), tf.tensor(b.values, b.shape)]));
    const [toLeft, toRight] = await Promise.all(gradients.map(async (gradient) => [...(await gradient.data())]));
    tf.dispose(gradients);
    const left = await finiteDifferences((x) => loss(tf.tensor(x, a.shape), tf.tensor(b.values, b.shape)), a.values);
    const right = await finiteDifferences((x) => loss(tf.tensor(a.values, a.shape), tf.tensor(x, b.shape)), b.values);
    expect(largestDifference(toLeft as number[], left)).toBeLessThan(2e-2);
    expect(largestDifference(toRight as number[], right)).toBeLessThan(2e-2);
  });

  it("gives a matrix that is used again and again the same bits, and other matrices at its place their own", async () => {
    await selectBackend("wasm");
    await expectTidy(async () => {
      const x = normals([3, 5], "x");
      const product = (b: tf.Tensor) => {
        const made = tf.tidy(() => tf.matMul(tf.tensor(x.values, x.shape), b, false, true));
        const values = [...made.dataSync()];
        made.dispose();
        return values;
      };
      for (const name of ["first", "second", "third"]) {
        const w = normals([4, 5], name); // at the address that the one before has left
        const weight = tf.tensor(w.values, w.shape);
        const once = product(weight);
        for (let again = 0; again < 4; again++) expect(product(weight)).toEqual(once);
        const twice = tf.tidy(() => tf.concat([weight, weight]));
        expect(product(twice)).toEqual(
          Array.from({ length: 3 }, (_, i) => [
            ...once.slice(4 * i, 4 * i + 4),
            ...once.slice(4 * i, 4 * i + 4),
          ]).flat(),
        );
        tf.dispose([weight, twice]);
      }
      const square = normals([10, 2], "square");
      const tall = tf.tensor(square.values, [10, 2]);
      const wide = tall.reshape([4, 5]); // the same values at the same address
      const wanted = [product(wide), pairSums(tall)];
      for (let again = 0; again < 4; again++) expect([product(wide), pairSums(tall)]).toEqual(wanted);
      const sums = Array.from(
        { length: 10 },
        (_, i) => (square.values[2 * i] as number) + (square.values[2 * i + 1] as number),
      );
      expect(largestDifference(wanted[1] as number[], sums)).toBeLessThan(1e-6);
      tf.dispose([tall, wide]);
    });
  });

  it("stays on the fast path with a transposed operand: as shipped it takes ten times a plain product", async () => {
    await selectBackend("wasm");
    const a = tf.randomNormal([256, 256]);
    const times = [false, true].map((transposeB) => {
      tf.matMul(a, a, false, transposeB).dispose();
      return Math.min(
        ...Array.from({ length: 8 }, () => {
          const started = performance.now();
          tf.matMul(a, a, false, transposeB).dispose(); // wasm computes at once
          return performance.now() - started;
        }),
      );
    });
    a.dispose();
    expect(times[1] as number).toBeLessThan(4 * (times[0] as number));
  });
});

describe("UnsortedSegmentSum on wasm", () => {
  it("agrees with cpu, leaves out ids outside the range, and fills empty segments with 0", async () => {
    const x = normals([5, 2, 3], "rows");
    await expectSameAsCpu(() =>
      tf.unsortedSegmentSum(tf.tensor(x.values, x.shape), tf.tensor1d([3, 0, 3, 7, 0], "int32"), 5),
    );
  });

  it("gives gather the gradient that finite differences have, repeated rows added up", async () => {
    const table = normals([4, 3], "table");
    const loss = (x: tf.Tensor) =>
      tf
        .gather(x, tf.tensor1d([2, 0, 2, 2], "int32"))
        .square()
        .sum() as tf.Scalar;
    await selectBackend("wasm");
    const gradient = tf.tidy(() => tf.grad(loss)(tf.tensor(table.values, table.shape)));
    const found = [...(await gradient.data())];
    gradient.dispose();
    const expected = await finiteDifferences((x) => loss(tf.tensor(x, table.shape)), table.values);
    expect(largestDifference(found, expected)).toBeLessThan(5e-3);
    await expectSameAsCpu(() => tf.grad(loss)(tf.tensor(table.values, table.shape)));
  });

  it("refuses what it cannot add up", () => {
    expect(() => tf.unsortedSegmentSum(tf.tensor1d([1, 2], "int32"), tf.tensor1d([0, 1], "int32"), 2)).toThrow(
      /float32/,
    );
  });
});

describe("copies on wasm", () => {
  const box = fc.array(fc.tuple(fc.integer({ min: 1, max: 4 }), fc.nat(3), fc.nat(3)), { minLength: 1, maxLength: 6 });
  const dtypes = ["float32", "int32", "bool"] as const;
  const tensorOf = (shape: number[], dtype: (typeof dtypes)[number]) => {
    const { values } = normals(shape, "copied");
    return tf.tensor(
      Array.from(values, (x) => (dtype === "bool" ? Number(x > 0) : Math.round(9 * x))),
      shape,
      dtype,
    );
  };

  it.each(dtypes)("slices any box of any rank as cpu does: %s", async (dtype) => {
    await fc.assert(
      fc.asyncProperty(box, async (axes) => {
        const shape = axes.map(([full]) => full);
        const begin = axes.map(([full, start]) => start % full);
        const size = axes.map(([full, start, length]) => 1 + (length % (full - (start % full))));
        await expectSameAsCpu(() => tf.slice(tensorOf(shape, dtype), begin, size), Number.MIN_VALUE);
      }),
      { numRuns: 30 },
    );
  });

  it("slices what is empty, and to the end", async () => {
    await expectSameAsCpu(() => tf.slice(tf.zeros([3, 0, 2]), [1, 0, 0], [2, 0, 2]));
    await expectSameAsCpu(() => tf.slice(tensorOf([3, 4], "float32"), [1, 1], [0, 2]));
    await expectSameAsCpu(() => tf.slice(tensorOf([3, 4], "float32"), [1, 2], [-1, -1]));
  });

  it("splits along every axis, in equal and other pieces, with the gradient of cpu", async () => {
    for (const axis of [0, 1, 2, -1]) {
      await expectSameAsCpu(() => tf.concat(tf.split(tensorOf([4, 2, 6], "float32"), 2, axis).reverse(), axis));
    }
    await expectSameAsCpu(() => tf.split(tensorOf([4, 5], "int32"), [1, -1, 2], 1)[1] as tf.Tensor);
    const loss = (x: tf.Tensor) => tf.square(tf.split(x, [1, 3], 1)[1] as tf.Tensor).sum() as tf.Scalar;
    await expectSameAsCpu(() => tf.grad(loss)(tensorOf([3, 4], "float32")));
  });

  it.each(dtypes)("gathers rows as cpu does: %s", async (dtype) => {
    for (const shape of [[5], [5, 3], [5, 1, 4], [5, 0]]) {
      await expectSameAsCpu(() => tf.gather(tensorOf(shape, dtype), tf.tensor1d([4, 0, 0, 2], "int32")));
      await expectSameAsCpu(() => tf.gather(tensorOf(shape, dtype), tf.tensor2d([[4, 0, 1]], [1, 3], "int32")));
    }
  });

  it("gathers along other axes, and refuses a row that is not there, as shipped", async () => {
    await expectSameAsCpu(() => tf.gather(tensorOf([2, 5], "float32"), tf.tensor1d([4, 0], "int32"), 1));
    await selectBackend("wasm");
    for (const row of [5, -1]) {
      expect(() => tf.tidy(() => tf.gather(tensorOf([5, 2], "float32"), tf.tensor1d([row], "int32")))).toThrow(/5|-1/);
    }
  });

  it("clones without a copy, and a clone outlives what it was made of", async () => {
    await selectBackend("wasm");
    await expectTidy(async () => {
      const x = tensorOf([2, 3], "float32");
      const values = [...x.dataSync()];
      const clone = x.clone();
      x.dispose();
      tf.randomNormal([2, 3]).dispose(); // would take the place of what was freed
      expect([...clone.dataSync()]).toEqual(values);
      const again = clone.clone();
      clone.dispose();
      expect(tf.tidy(() => [...again.add(0).dataSync()])).toEqual(values);
      again.dispose();
    });
  });
});
