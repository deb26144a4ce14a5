import { spawnSync } from "node:child_process";
import { beforeAll, describe, expect, it } from "vitest";
import { createRng } from "../../src/core/rng.js";
import { openLab } from "../../src/run/lab.js";
import { selectBackend } from "../../src/tensor/backend.js";
import { tf } from "../../src/tensor/tf.js";
import { guardPool, guardSizes, keepUniforms, type WebgpuBackend } from "../../src/tensor/webgpu.js";
import { requires } from "../support/requires.js";
import { repository } from "../support/shared.js";
import { expectTidy } from "../support/tensor-matcher.js";

const STORAGE = 0x80;

/** A pool as the shipped one keeps its books, of buffers that only note that they were destroyed. */
function bookPool() {
  const pool = {
    freeBuffers: new Map<string, FakeBuffer[]>(),
    numFreeBuffers: 0,
    numBytesUsed: 0,
    numBytesAllocated: 0,
    acquireBuffer(size: number, usage: number) {
      const key = `${size}_${usage}`;
      if (!pool.freeBuffers.has(key)) pool.freeBuffers.set(key, []);
      const free = pool.freeBuffers.get(key)?.pop();
      if (free) pool.numFreeBuffers -= 1;
      else pool.numBytesAllocated += size;
      pool.numBytesUsed += size;
      return free ?? { size, usage, destroyed: false, destroy: destroyThis };
    },
    releaseBuffer(buffer: FakeBuffer) {
      pool.freeBuffers.get(`${buffer.size}_${buffer.usage}`)?.push(buffer);
      pool.numFreeBuffers += 1;
      pool.numBytesUsed -= buffer.size;
    },
  };
  return pool;
}

interface FakeBuffer {
  size: number;
  usage: number;
  destroyed: boolean;
  destroy(): void;
}

function destroyThis(this: FakeBuffer): void {
  this.destroyed = true;
}

describe("guards of webgpu", () => {
  it("refuse a tensor beyond what one binding takes, with both numbers and the way out", () => {
    const pool = bookPool();
    const backend = { bufferManager: pool, bindingLimit: 1024 };
    guardSizes(backend, 4096);
    expect(pool.acquireBuffer(1024, STORAGE).size).toBe(1024);
    expect(() => pool.acquireBuffer(1028, STORAGE)).toThrow(/1028 bytes.* at most 1024 .*--backend/);
    expect(pool.acquireBuffer(4096, 0).size).toBe(4096); // to read from, bound to no program
    expect(() => pool.acquireBuffer(5000, 0)).toThrow(/at most 4096/);
    expect(pool.numBytesUsed).toBe(1024 + 4096);
    backend.bindingLimit = 512; // lowered
    expect(() => pool.acquireBuffer(1024, STORAGE)).toThrow(/1024 bytes.* at most 512 /);
  });

  it("let the free buffers of sizes that are not used any more go", () => {
    const pool = bookPool();
    guardPool(pool);
    const megabytes = (n: number) => n * 2 ** 20;
    const kept = pool.acquireBuffer(megabytes(4), STORAGE);
    for (let n = 8; n <= 80; n += 8) pool.releaseBuffer(pool.acquireBuffer(megabytes(n), STORAGE) as FakeBuffer);
    expect(pool.numBytesAllocated - pool.numBytesUsed).toBeLessThanOrEqual(2 ** 28);
    const free = [...pool.freeBuffers]
      .filter(([, buffers]) => buffers.length > 0)
      .map(([key]) => Number.parseInt(key, 10));
    expect(free).toEqual([64, 72, 80].map(megabytes)); // the last ones
    expect(pool.numFreeBuffers).toBe(3);
    expect((kept as FakeBuffer).destroyed).toBe(false);
  });

  it("give the same uniforms the same buffer, others another, and give them back when there are too many", () => {
    const backend = {
      uniformPendingDisposal: [] as FakeBuffer[],
      makeUniforms(_: readonly { type: "int32"; data: number[] }[]) {
        const buffer = { size: 4, usage: 0, destroyed: false, destroy: destroyThis };
        backend.uniformPendingDisposal.push(buffer);
        return { buffer };
      },
    };
    keepUniforms(backend as unknown as WebgpuBackend);
    const of = (...data: number[]) => backend.makeUniforms([{ type: "int32", data }]);
    expect(of(1, 2)).toBe(of(1, 2));
    expect(of(1, 2)).not.toBe(of(12));
    expect(backend.uniformPendingDisposal).toEqual([]);
    for (let i = 0; i <= 2 ** 14; i++) of(0, i);
    expect(backend.uniformPendingDisposal).toHaveLength(2 ** 14);
  });
});

describe.runIf(requires("webgpu"))("webgpu", () => {
  beforeAll(() => selectBackend("webgpu"), 60_000);

  const normals = (size: number, name: string) => {
    const rng = createRng(5, [name, size]);
    return Float32Array.from({ length: size }, () => rng.normal());
  };

  // Inner sizes beyond those of the golden vectors: there, the shipped backend adds up in parts, and x W^T is wrong.
  const shapes = [
    [8, 2048, 256],
    [1, 2048, 256],
    [32, 2048, 64],
    [3, 2001, 33],
    [16, 5632, 24],
    [130, 3000, 20],
    [20, 1376, 256],
    [300, 256, 8],
  ] as const;
  const transposes = [
    [false, false],
    [false, true],
    [true, false],
  ] as const;
  it.each(shapes)("multiplies [%i, %i] and [.., %i] as float64 does, transposed or not", async (n, k, m) => {
    for (const [transposeA, transposeB] of transposes) {
      const [a, b] = [normals(n * k, "a"), normals(k * m, "b")];
      const at = {
        a: (i: number, x: number) => a[transposeA ? x * n + i : i * k + x] as number,
        b: (x: number, j: number) => b[transposeB ? j * k + x : x * m + j] as number,
      };
      const found = await expectTidy(async () => {
        const product = tf.tidy(() =>
          tf.matMul(
            tf.tensor2d(a, transposeA ? [k, n] : [n, k]),
            tf.tensor2d(b, transposeB ? [m, k] : [k, m]),
            transposeA,
            transposeB,
          ),
        );
        const values = await product.data();
        product.dispose();
        return values;
      });
      let worst = 0;
      for (let i = 0; i < n; i++) {
        for (let j = 0; j < m; j++) {
          let sum = 0;
          for (let x = 0; x < k; x++) sum += at.a(i, x) * at.b(x, j);
          worst = Math.max(worst, Math.abs(sum - (found[i * m + j] as number)));
        }
      }
      expect(worst / Math.sqrt(k)).toBeLessThan(1e-5);
    }
  });

  it("adds up more tensors than a program may read, in their order", async () => {
    const parts = Array.from({ length: 40 }, (_, i) => tf.tensor1d(normals(7, `part ${i}`)));
    const sum = tf.addN(parts);
    const inOrder = tf.tidy(() =>
      parts.slice(1).reduce((before, part) => tf.add(before, part), parts[0] as tf.Tensor1D),
    );
    expect([...(await sum.data())]).toEqual([...(await inOrder.data())]);
    tf.dispose([...parts, sum, inOrder]);
  });

  it("keeps scalars apart by value and sign, also when they were disposed", async () => {
    const ones = tf.randomNormal([3, 3]).sign().abs();
    const times = async (factor: number) => {
      const product = tf.tidy(() => tf.div(ones, tf.div(ones, tf.mul(ones, factor))));
      const [value] = await product.data();
      product.dispose();
      return value;
    };
    for (const factor of [2, 3, 2, -2, 3, 0.5, 2]) expect(await times(factor)).toBe(factor);
    const zeros = await Promise.all(
      [0, -0].map(async (zero) => {
        const quotient = tf.tidy(() => tf.div(1, tf.mul(ones, zero)));
        const [value] = await quotient.data();
        quotient.dispose();
        return value;
      }),
    );
    expect(zeros).toEqual([Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]);
    ones.dispose();
  });

  it("holds no more memory after many shapes than a few of them take", async () => {
    const { bufferManager } = tf.backend() as unknown as WebgpuBackend;
    for (let n = 1; n <= 50; n++) {
      const made = tf.tidy(() => tf.add(tf.randomNormal([2000 + n, 1000]), 1));
      await tf.tidy(() => made.slice([0, 0], [1, 1])).data();
      made.dispose();
    }
    expect(bufferManager.numBytesAllocated - bufferManager.numBytesUsed).toBeLessThan(2 ** 28 + 2 ** 25);
  });

  it("edits as wasm does: losses, route and scores of the project's model", async () => {
    const edited = async (backend: "webgpu" | "wasm") => {
      const lab = await openLab({ backend, hparams: { set: ["n_iter=3"] } });
      try {
        const { edits, scores } = await lab.run({ T: 1, limit: 1 });
        return { losses: edits[0]?.steps.map(({ loss }) => loss) ?? [], scores };
      } finally {
        lab.close();
      }
    };
    const [found, expected] = [await edited("webgpu"), await edited("wasm")];
    expect(found.losses).toHaveLength(3);
    const apart = found.losses.map((loss, i) => Math.abs(loss - (expected.losses[i] as number)));
    expect(Math.max(...apart)).toBeLessThan(1e-3);
    expect(found.scores[0]?.rewrite.score).toBe(expected.scores[0]?.rewrite.score);
    expect(found.scores[0]?.rewrite.route).toBe(expected.scores[0]?.rewrite.route);
    await selectBackend("webgpu");
  }, 120_000);

  /** A process of its own: what it printed on stdout, and its status. */
  function inChild(script: string): { stdout: string; status: number | null } {
    const start = `
      import { selectBackend } from "./dist/tensor/backend.js";
      import { tf } from "./dist/tensor/tf.js";
      await selectBackend("webgpu");`;
    const args = ["--expose-gc", "--input-type=module", "-e", start + script];
    const { stdout, status } = spawnSync(process.execPath, args, { cwd: repository, encoding: "utf8" });
    return { stdout, status };
  }

  it("throws an error of the device when numbers are read", () => {
    const { stdout, status } = inChild(`
      tf.backend().device.createBuffer({ size: 16, usage: 0 });
      const sum = tf.add(tf.randomNormal([64, 64]), 1);
      await sum.data().then(() => console.log("read"), (error) => console.log(error.name, error.message));`);
    expect(stdout).toMatch(/^LabFailure webgpu: .*usage/i);
    expect(status).toBe(0);
  });

  it("lives through the collection of garbage, and ends by itself", () => {
    const { stdout, status } = inChild(`
      for (let i = 0; i < 20; i++) {
        globalThis.gc();
        await tf.tidy(() => tf.add(tf.randomNormal([40, 40]), 1)).data();
      }
      console.log("done");`);
    expect({ stdout, status }).toEqual({ stdout: "done\n", status: 0 });
  });
});
