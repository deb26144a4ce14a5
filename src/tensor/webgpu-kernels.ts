import { tf } from "./tf.js";
import type { WebgpuBackend } from "./webgpu.js";

/** Inner size from which the shipped product may add up its parts with atomics (BatchMatMul_impl.js). */
const SPLIT_INNER = 2000;
/** Of `WEBGPU_MATMUL_PROGRAM_TYPE`: chosen by shape, and the packed program for every shape. */
const [BY_SHAPE, PACKED] = [-1, 3];

/** Mends the webgpu backend, once. @param mostInputs tensors that one program may read */
export function mendWebgpu(mostInputs: number): void {
  replace("BatchMatMul", withoutSplitK);
  replace("AddN", (shipped) => addInParts(shipped, mostInputs));
}

/**
 * Keeps products off the shipped split-K program. It is wrong for x W^T (off by 74 for [8, 2048] x [256, 2048]^T), and its
 * sums have no fixed order.
 */
function withoutSplitK(shipped: tf.KernelFunc): tf.KernelFunc {
  return (call) => {
    const { a } = call.inputs as { a: tf.TensorInfo };
    const inner = a.shape.at(call.attrs?.transposeA ? -2 : -1) as number;
    if (inner < SPLIT_INNER) return shipped(call);
    tf.env().set("WEBGPU_MATMUL_PROGRAM_TYPE", PACKED);
    try {
      return shipped(call);
    } finally {
      tf.env().set("WEBGPU_MATMUL_PROGRAM_TYPE", BY_SHAPE);
    }
  };
}

/** Adds up any number of tensors, in their order: the shipped program reads all of them at once, whatever the card allows. */
function addInParts(shipped: tf.KernelFunc, mostInputs: number): tf.KernelFunc {
  return (call) => {
    const backend = call.backend as WebgpuBackend;
    const add = (part: tf.TensorInfo[]) => shipped({ ...call, inputs: part as unknown as tf.NamedTensorInfoMap });
    const [first, ...rest] = call.inputs as unknown as tf.TensorInfo[];
    let sum = first as tf.TensorInfo;
    do {
      const before = sum;
      sum = add([before, ...rest.splice(0, mostInputs - 1)]) as tf.TensorInfo;
      if (before !== first) backend.disposeData(before.dataId);
    } while (rest.length > 0);
    return sum;
  };
}

function replace(kernelName: string, mend: (shipped: tf.KernelFunc) => tf.KernelFunc): void {
  const shipped = tf.getKernel(kernelName, "webgpu");
  if (!shipped) throw new Error(`the webgpu backend has no kernel ${kernelName}`);
  tf.unregisterKernel(kernelName, "webgpu");
  tf.registerKernel({ ...shipped, kernelFunc: mend(shipped.kernelFunc) });
}

/** A program of one thread for each number of its output. */
export interface Wgsl {
  /** Names the program, and its code: the same name is compiled once. */
  name: string;
  /** By their names in the code, flat arrays. */
  inputs: Readonly<Record<string, tf.Tensor>>;
  shape: number[];
  /**
   * Value of the number at `i`, as WGSL expression. A compiler may join a product and a sum, and round once: `rounded(x)` keeps
   * them apart. `bounded(x, bound)` clips.
   */
  value: string;
  /** Functions that it calls, in WGSL. */
  functions?: string;
  /** Numbers that the code reads as `uniforms.NAME`. */
  uniforms?: Record<string, number>;
}

const FUNCTIONS = `
  // Through bits that depend on a number which the compiler does not know to be 0.
  fn rounded(x : f32) -> f32 { return bitcast<f32>(bitcast<u32>(x) | bitcast<u32>(uniforms.zero)); }
  // A NaN stays one.
  fn bounded(x : f32, bound : f32) -> f32 { if (isnan(x)) { return x; } return clamp(x, -bound, bound); }
`;

/** Runs one on the card. -> float32 of its shape */
export function runWgsl({ name, inputs, shape, value, functions = "", uniforms = {} }: Wgsl): tf.Tensor {
  const backend = tf.backend() as unknown as WebgpuBackend;
  const numbers = { ...uniforms, zero: 0 };
  const program = {
    shaderKey: `wise-lab ${name}`,
    variableNames: Object.keys(inputs),
    variableComponents: Object.keys(inputs).map(() => 1),
    uniforms: Object.keys(numbers)
      .map((key) => `${key} : f32, `)
      .join(""),
    outputShape: shape,
    workgroupSize: [64, 1, 1],
    dispatchLayout: { x: shape.map((_, i) => i) },
    dispatch: [Math.ceil(tf.util.sizeFromShape(shape) / 64), 1, 1],
    size: true,
    getUserCode: () =>
      `${FUNCTIONS} ${functions} fn main(i : i32) { if (i < uniforms.size) { result[i] = ${value}; } }`,
  };
  const data = Object.values(numbers).map((number) => ({ type: "float32" as const, data: [number] }));
  const made = backend.runWebGPUProgram(program, Object.values(inputs), "float32", data);
  return tf.engine().makeTensorFromTensorInfo(made);
}

/** True where programs of ours run: elsewhere the operations of TensorFlow.js do the same. */
export function runsWgsl(): boolean {
  return tf.getBackend() === "webgpu";
}
