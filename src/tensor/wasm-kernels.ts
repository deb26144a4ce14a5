import type { BackendWasm } from "@tensorflow/tfjs-backend-wasm";
import { RefusedInput } from "../core/errors.js";
import { tf } from "./tf.js";
import { gatherRows, type Kernel, shareNumbers, sliceBox, splitBoxes } from "./wasm-copies.js";
import { guardHeap, type HeapGuard, type WasmHeap } from "./wasm-heap.js";

/**
 * Mends the wasm backend: fast transposed products and copies, the gradient of gather, and a memory limit that refuses.
 * Doing it twice changes nothing.
 */
export function mendWasm(backend: BackendWasm): void {
  if (tf.getKernel("UnsortedSegmentSum", "wasm")) return;
  const heap = guardHeap(backend.wasm as unknown as WasmHeap); // an Emscripten module, whose types are not shipped
  register("UnsortedSegmentSum", unsortedSegmentSum);
  replace("BatchMatMul", (shipped) => matMulKernel(shipped, { backend, heap }));
  replace("GatherV2", gatherRows);
  replace("Slice", sliceBox);
  replace("SplitV", splitBoxes);
  replace("Identity", () => shareNumbers);
}

/**
 * The shipped product runs XNNPACK only for two single matrices, neither transposed, and a plain loop else, ten times slower.
 * Transposing first brings products of single matrices back to the fast path. Batched ones gain nothing (measured) and pass.
 *
 * XNNPACK keeps a packed copy of the right operand for as long as that tensor lives; the heap guard counts it.
 */
function matMulKernel(shipped: Kernel, own: { backend: BackendWasm; heap: HeapGuard }): Kernel {
  const { backend, heap } = own;
  const transposes = keptTransposes(own);
  return ({ inputs, attrs }) => {
    const { a, b } = inputs as { a: tf.TensorInfo; b: tf.TensorInfo };
    if (batchSize(a) !== 1 || batchSize(b) !== 1) return shipped({ inputs, backend, attrs });

    const left = attrs.transposeA ? transposes.make(a) : a;
    const right = attrs.transposeB ? transposes.take(b) : b;
    try {
      heap.countPackedCopy(backend.getMemoryOffset(right.dataId));
      return shipped({ inputs: { a: left, b: right }, backend, attrs: { transposeA: false, transposeB: false } });
    } finally {
      if (left !== a) backend.disposeData(left.dataId);
      if (right !== b) transposes.give(right);
    }
  };
}

/**
 * Transposes of matrices. The second time that a matrix is taken, as weights are, its transpose is kept: it need not be made
 * again, nor packed again. It goes when the matrix goes, or when memory is short.
 */
function keptTransposes({ backend, heap }: { backend: BackendWasm; heap: HeapGuard }) {
  const transpose = shippedKernel("Transpose");
  /** Shape of every matrix that was taken and is still there, by its address: a reshape lies at the same one. */
  const taken = new Map<number, string>();
  const kept = new Map<number, tf.TensorInfo>();
  let inHand = -1;

  const make = (x: tf.TensorInfo) => transpose({ inputs: { x }, backend, attrs: { perm: lastTwoSwapped(x) } });
  function drop(address: number): void {
    const matrix = kept.get(address);
    if (matrix === undefined || address === inHand) return;
    kept.delete(address);
    backend.disposeData(matrix.dataId);
  }
  heap.whenShort(() => [...kept.keys()].forEach(drop));

  return {
    make,
    take(x: tf.TensorInfo): tf.TensorInfo {
      const address = backend.getMemoryOffset(x.dataId);
      const shape = x.shape.join();
      const before = taken.get(address);
      const matrix = (before === shape ? kept.get(address) : undefined) ?? make(x);
      inHand = address;
      if (before === shape) kept.set(address, matrix);
      if (before === undefined) {
        taken.set(address, shape);
        heap.beforeFree(address, () => {
          drop(address);
          taken.delete(address);
        });
      }
      return matrix;
    },
    /** Gives back what was taken last. */
    give(matrix: tf.TensorInfo): void {
      if (kept.get(inHand) !== matrix) backend.disposeData(matrix.dataId);
      inHand = -1;
    },
  };
}

/** out[s] = sum of the rows x[i] with segmentIds[i] = s; rows whose id is outside 0 ... numSegments - 1 are left out. */
const unsortedSegmentSum: Kernel = ({ inputs, backend, attrs }) => {
  const { x, segmentIds } = inputs as { x: tf.TensorInfo; segmentIds: tf.TensorInfo };
  const segments = attrs.numSegments as number;
  if (x.dtype !== "float32" || segmentIds.shape.length !== 1) {
    throw new RefusedInput("unsortedSegmentSum on wasm takes float32 rows and one id for each", {
      where: "unsortedSegmentSum",
      found: `${x.dtype} [${x.shape}] with ids [${segmentIds.shape}]`,
      expected: "float32 [N, ...] with ids [N]",
    });
  }
  const rowShape = x.shape.slice(1);
  const width = tf.util.sizeFromShape(rowShape);
  const output = backend.makeOutput([segments, ...rowShape], "float32");
  // Views come last: an allocation may have moved the heap.
  const sums = backend.typedArrayFromHeap(output).fill(0);
  const rows = backend.typedArrayFromHeap(x);
  const ids = backend.typedArrayFromHeap(segmentIds);
  ids.forEach((id: number, row: number) => {
    if (id < 0 || id >= segments) return;
    for (let j = 0; j < width; j++) {
      sums[id * width + j] = (sums[id * width + j] as number) + (rows[row * width + j] as number);
    }
  });
  return output;
};

function shippedKernel(name: string): Kernel {
  const config = tf.getKernel(name, "wasm");
  if (!config) throw new Error(`the wasm backend has no kernel ${name}`);
  return config.kernelFunc as unknown as Kernel;
}

function replace(name: string, make: (shipped: Kernel) => Kernel): void {
  const kernel = make(shippedKernel(name));
  tf.unregisterKernel(name, "wasm");
  register(name, kernel);
}

function register(kernelName: string, kernel: Kernel): void {
  tf.registerKernel({ kernelName, backendName: "wasm", kernelFunc: kernel as unknown as tf.KernelFunc });
}

/** Number of matrices in [..., rows, columns]. */
function batchSize({ shape }: tf.TensorInfo): number {
  return tf.util.sizeFromShape(shape.slice(0, -2));
}

function lastTwoSwapped({ shape }: tf.TensorInfo): number[] {
  const rank = shape.length;
  return [...Array(rank - 2).keys(), rank - 1, rank - 2];
}
