import { RefusedInput } from "../core/errors.js";
import { widenBf16 } from "../core/float-bits.js";
import { timesTransposed } from "./linear.js";
import { tf } from "./tf.js";
import { runWgsl } from "./webgpu-kernels.js";

/** A frozen matrix held as bf16, half the bytes of float32: unpacked when used, on the backend that it was packed on. */
export interface Bf16Matrix {
  readonly shape: [number, number];
  /** Bytes held; TensorFlow.js does not count them. */
  readonly bytes: number;
  /** The same numbers as float32, exactly. The caller, or its tidy, disposes them. */
  unpack(): tf.Tensor2D;
  dispose(): void;
}

/** bf16 bits kept somewhere. */
interface Store {
  widen(): tf.Tensor2D;
  free(): void;
}

/**
 * Takes a matrix as bf16 bits, row by row. They may be kept as they are, and must not be changed afterwards.
 * @throws {RefusedInput} when they are not as many as the shape says
 */
export function packBf16(bits: Uint16Array, shape: [number, number]): Bf16Matrix {
  const [rows, columns] = shape;
  if (bits.length !== rows * columns) {
    throw new RefusedInput("a packed matrix is not of its shape", {
      where: "packBf16",
      found: `${bits.length} numbers`,
      expected: `${rows} x ${columns}`,
    });
  }
  let store: Store | null = (stores[tf.getBackend()] ?? storeInJs)(bits, shape);
  return {
    shape,
    bytes: bits.byteLength,
    unpack() {
      if (store === null) throw new Error("a bf16 matrix was used after it was disposed");
      return store.widen();
    },
    dispose() {
      store?.free();
      store = null;
    },
  };
}

export function isBf16Matrix(w: tf.Tensor2D | Bf16Matrix): w is Bf16Matrix {
  return "unpack" in w;
}

/**
 * y = x W^T with W packed; differentiable in x only. x [N, in], w [out, in] -> [N, out].
 * W is unpacked for the product, and again for the gradient: in between, nothing of it is in memory as float32.
 */
export function linearBf16(x: tf.Tensor2D, w: Bf16Matrix): tf.Tensor2D {
  const product = tf.customGrad((rows) => ({
    value: timesTransposed(rows as tf.Tensor2D, w.unpack()),
    gradFunc: (dy: tf.Tensor) => tf.matMul(dy as tf.Tensor2D, w.unpack()),
  }));
  return product(x) as tf.Tensor2D;
}

const stores: Record<string, typeof storeInJs> = { tensorflow: storeNative, webgpu: storeOnCard };

/** Pairs of them as one int32 of a tensor, widened by one dispatch. */
function storeOnCard(bits: Uint16Array, shape: [number, number]): Store {
  const pairs = new Int32Array(Math.ceil(bits.length / 2));
  new Uint16Array(pairs.buffer).set(bits);
  const packed = tf.keep(tf.tensor1d(pairs, "int32"));
  const value = "bitcast<f32>(select(pairs[i / 2] << 16u, pairs[i / 2] & bitcast<i32>(0xffff0000u), i % 2 == 1))";
  return {
    widen: () => runWgsl({ name: "widen bf16", inputs: { pairs: packed }, shape, value }) as tf.Tensor2D,
    free: () => packed.dispose(),
  };
}

/** Outside the heap of the backend, which on wasm is small. */
function storeInJs(bits: Uint16Array, shape: [number, number]): Store {
  return {
    widen() {
      const values = new Float32Array(bits.length);
      widenBf16(bits, values);
      return tf.tensor2d(values, shape);
    },
    free() {},
  };
}

/** The part of tfjs-node-gpu's backend that passes tensors to operations of TensorFlow, by numbers. */
interface NativeBackend {
  binding: {
    TF_ATTR_TYPE: number;
    TF_FLOAT: number;
    TF_UINT8: number;
    createTensor(shape: number[], type: number, values: Uint8Array): number;
    executeOp(name: string, attributes: object[], inputs: number[], outputs: 1): [NativeTensor];
    deleteTensor(id: number): void;
  };
  createOutputTensor(tensor: NativeTensor): tf.Tensor;
}

interface NativeTensor {
  id: number;
  shape: number[];
  dtype: number;
}

const TF_BFLOAT16 = 14; // in TensorFlow's C API; the binding does not name it

/**
 * TensorFlow has bf16 tensors, TensorFlow.js has none: this one is known to the binding alone, which gives it to Cast.
 * Shifting packed int32 pairs into place with LeftShift, BitwiseAnd and Bitcast takes 4 to 17 times as long (measured).
 */
function storeNative(bits: Uint16Array, shape: [number, number]): Store {
  const backend = tf.backend() as unknown as NativeBackend;
  const { binding } = backend;
  const type = (name: string, value: number) => ({ name, type: binding.TF_ATTR_TYPE, value });

  const bytes = new Uint8Array(bits.buffer, bits.byteOffset, bits.byteLength);
  const raw = binding.createTensor([...shape, 2], binding.TF_UINT8, bytes);
  const asBf16 = [type("T", binding.TF_UINT8), type("type", TF_BFLOAT16)];
  const [{ id }] = binding.executeOp("Bitcast", asBf16, [raw], 1); // the same bytes, not a copy
  binding.deleteTensor(raw);

  const asFloat32 = [type("SrcT", TF_BFLOAT16), type("DstT", binding.TF_FLOAT)];
  return {
    widen: () => backend.createOutputTensor(binding.executeOp("Cast", asFloat32, [id], 1)[0]) as tf.Tensor2D,
    free: () => binding.deleteTensor(id),
  };
}
