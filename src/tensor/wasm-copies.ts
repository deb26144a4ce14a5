import type { BackendWasm } from "@tensorflow/tfjs-backend-wasm";
import { tf } from "./tf.js";

/** A kernel of the wasm backend. */
export type Kernel = (call: {
  inputs: Record<string, tf.TensorInfo>;
  backend: BackendWasm;
  attrs: Record<string, unknown>;
}) => tf.TensorInfo;

/*
 * Kernels that only copy. The shipped gather goes element by element, the shipped slice reads the whole tensor out of the
 * heap first, and a clone is a copy: together a fifth of an edit (measured).
 */

/** Rows of a matrix of any rank; what is not along the first axis goes to the shipped kernel. */
export function gatherRows(shipped: Kernel): Kernel {
  return (call) => {
    const { inputs, backend, attrs } = call;
    const { x, indices } = inputs as { x: tf.TensorInfo; indices: tf.TensorInfo };
    const [rows = 0, ...rowShape] = x.shape;
    if (attrs.axis !== 0 || attrs.batchDims !== 0 || !isPlain(x)) return shipped(call);
    if (indices.dtype !== "int32" || !within(backend.typedArrayFromHeap(indices), rows)) return shipped(call);
    const width = tf.util.sizeFromShape(rowShape);
    const output = backend.makeOutput([...indices.shape, ...rowShape], x.dtype);
    const to = backend.typedArrayFromHeap(output);
    const from = backend.typedArrayFromHeap(x);
    let place = 0;
    for (const row of backend.typedArrayFromHeap(indices)) {
      to.set(from.subarray(row * width, (row + 1) * width), place);
      place += width;
    }
    return output;
  };
}

/** A box out of a tensor. */
export function sliceBox(shipped: Kernel): Kernel {
  return (call) => {
    const { inputs, backend, attrs } = call;
    const { x } = inputs as { x: tf.TensorInfo };
    if (!isPlain(x)) return shipped(call);
    const asked = [attrs.begin, attrs.size] as [number[], number[]];
    const [begin, size] = tf.slice_util.parseSliceParams(x as tf.Tensor, ...asked) as [number[], number[]];
    return copyBox(backend, x, { begin, size });
  };
}

/** Pieces of a tensor along one axis. */
export function splitBoxes(shipped: Kernel): Kernel {
  return (call) => {
    const { inputs, backend, attrs } = call;
    const { x } = inputs as { x: tf.TensorInfo };
    if (!isPlain(x)) return shipped(call);
    const axis = tf.util.parseAxisParam(attrs.axis as number, x.shape)[0] as number;
    const sizes = tf.backend_util.prepareSplitSize(x as tf.Tensor, attrs.numOrSizeSplits as number[] | number, axis);
    let start = 0;
    return sizes.map((length) => {
      const begin = x.shape.map((_, i) => (i === axis ? start : 0));
      start += length;
      return copyBox(backend, x, { begin, size: x.shape.map((full, i) => (i === axis ? length : full)) });
    }) as unknown as tf.TensorInfo; // a kernel may give several
  };
}

/** The same numbers under another name: nothing writes into a tensor that is there. */
export const shareNumbers: Kernel = ({ inputs, backend }) => {
  const { dataId, shape, dtype } = inputs.x as tf.TensorInfo;
  backend.incRef(dataId);
  return { dataId, shape, dtype };
};

function copyBox(
  backend: BackendWasm,
  x: tf.TensorInfo,
  { begin, size }: { begin: readonly number[]; size: readonly number[] },
): tf.TensorInfo {
  const output = backend.makeOutput([...size], x.dtype);
  // Views come last: an allocation may have moved the heap.
  const to = backend.typedArrayFromHeap(output);
  const from = backend.typedArrayFromHeap(x);
  const strides = [...tf.util.computeStrides(x.shape), 1];
  let inner = x.shape.length - 1; // the axes behind it are taken whole, so that runs reach over them
  while (inner > 0 && size[inner] === x.shape[inner]) inner--;
  const run = tf.util.sizeFromShape(size.slice(inner));
  let place = 0;
  const copy = (axis: number, offset: number): void => {
    const stride = strides[axis] as number;
    const first = offset + (begin[axis] as number) * stride;
    if (axis === inner) {
      to.set(from.subarray(first, first + run), place);
      place += run;
      return;
    }
    for (let i = 0; i < (size[axis] as number); i++) copy(axis + 1, first + i * stride);
  };
  if (to.length > 0) copy(0, 0);
  return output;
}

/** True for numbers that lie in the heap as they are. */
function isPlain({ dtype }: tf.TensorInfo): boolean {
  return dtype === "float32" || dtype === "int32" || dtype === "bool";
}

function within(indices: ArrayLike<number>, rows: number): boolean {
  for (let i = 0; i < indices.length; i++) {
    const row = indices[i] as number;
    if (row < 0 || row >= rows) return false;
  }
  return true;
}
