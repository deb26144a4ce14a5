import type { BackendWasm } from "@tensorflow/tfjs-backend-wasm";
import { RefusedInput } from "../core/errors.js";
import { tf } from "./tf.js";
import { guardHeap, type HeapGuard, type WasmHeap } from "./wasm-heap.js";

type Kernel = (call: { inputs: Inputs; backend: BackendWasm; attrs: Record<string, unknown> }) => tf.TensorInfo;
type Inputs = Record<string, tf.TensorInfo>;

/**
 * Mends the wasm backend: fast transposed products, the gradient of gather, and a memory limit that refuses.
 * Doing it twice changes nothing.
 */
export function mendWasm(backend: BackendWasm): void {
  if (tf.getKernel("UnsortedSegmentSum", "wasm")) return;
  const heap = guardHeap(backend.wasm as unknown as WasmHeap); // an Emscripten module, whose types are not shipped
  register("UnsortedSegmentSum", unsortedSegmentSum);
  replace("BatchMatMul", (shipped) => matMulKernel(shipped, shippedKernel("Transpose"), heap));
}

/**
 * The shipped product runs XNNPACK only for two single matrices, neither transposed, and a plain loop else, ten times slower.
 * Transposing first brings products of single matrices back to the fast path. Batched ones gain nothing (measured) and pass.
 *
 * XNNPACK keeps a packed copy of the right operand for as long as that tensor lives; the heap guard counts it.
 */
function matMulKernel(shipped: Kernel, transpose: Kernel, heap: HeapGuard): Kernel {
  return ({ inputs, backend, attrs }) => {
    const { a, b } = inputs as { a: tf.TensorInfo; b: tf.TensorInfo };
    if (batchSize(a) !== 1 || batchSize(b) !== 1) return shipped({ inputs, backend, attrs });

    const transposed = (x: tf.TensorInfo) => transpose({ inputs: { x }, backend, attrs: { perm: lastTwoSwapped(x) } });
    const left = attrs.transposeA ? transposed(a) : a;
    const right = attrs.transposeB ? transposed(b) : b;
    try {
      heap.countPackedCopy(backend.getMemoryOffset(right.dataId));
      return shipped({ inputs: { a: left, b: right }, backend, attrs: { transposeA: false, transposeB: false } });
    } finally {
      if (left !== a) backend.disposeData(left.dataId);
      if (right !== b) backend.disposeData(right.dataId);
    }
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
