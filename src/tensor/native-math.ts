import { RefusedInput } from "../core/errors.js";
import type { BackendName } from "./names.js";
import { tf } from "./tf.js";

/*
 * Settings with which native TensorFlow makes products. They are variables of the environment, which its library reads
 * when it loads. They are also read back from there, so that what a user sets himself is seen and recorded like what is
 * asked for here.
 */

/** Settings to ask of native TensorFlow before its library loads; later they cannot be changed. */
export interface NativeMathOptions {
  /**
   * Lets oneDNN make float32 products of numbers rounded to bf16, which is faster on processors that can (AMX, AVX-512
   * BF16), gives other numbers there, and changes nothing elsewhere. Only on `tensorflow`.
   */
  fastMath?: boolean;
  /**
   * Takes oneDNN's kernels, with which large products are several times faster; else they are off. Either way
   * TF_ENABLE_ONEDNN_OPTS goes first, and the processor, by which TensorFlow would choose, decides nothing: the same run
   * takes the same kernels everywhere. They keep all memory that they once took, and TensorFlow says that they are on.
   */
  largeProducts?: boolean;
  /**
   * Computes with one thread, unless TF_NUM_INTRAOP_THREADS says otherwise: small kernels take longer when they are shared out, and
   * another number of threads rounds otherwise.
   */
  oneThread?: boolean;
}

/** Settings with which native TensorFlow makes products. */
export interface NativeMath {
  fastMath: boolean;
  /** oneDNN's kernels; "default" where TensorFlow's library does not compute, or chose by the processor. */
  oneDnn: "on" | "off" | "default";
}

/** Settings to report where TensorFlow's library does not compute. */
export const PLAIN_MATH: NativeMath = { fastMath: false, oneDnn: "default" };

/** To be called before the library loads; does nothing once it is. */
export function setNativeMath({ fastMath, largeProducts, oneThread }: NativeMathOptions): void {
  if (nativeIsLoaded()) return;
  if (oneThread) process.env.TF_NUM_INTRAOP_THREADS ??= "1";
  if (fastMath && !nativeMath().fastMath) process.env.ONEDNN_DEFAULT_FPMATH_MODE = "BF16";
  if (fastMath) process.env.TF_ENABLE_ONEDNN_OPTS = "1";
  else process.env.TF_ENABLE_ONEDNN_OPTS ??= largeProducts ? "1" : "0";
}

/** As the environment has it. */
export function nativeMath(): NativeMath {
  // Every mode but "strict" allows less than float32; any case is read, and DNNL_ is the older name.
  const mode = process.env.ONEDNN_DEFAULT_FPMATH_MODE ?? process.env.DNNL_DEFAULT_FPMATH_MODE ?? "";
  const kernels = process.env.TF_ENABLE_ONEDNN_OPTS ?? "";
  return {
    fastMath: /^(bf16|f16|tf32|any)$/i.test(mode),
    oneDnn: /^(1|true)$/i.test(kernels) ? "on" : /^(0|false)$/i.test(kernels) ? "off" : "default",
  };
}

/** Text of what is in use beside plain float32 kernels, to follow the threads: ", oneDNN on, fast math", or "". */
export function mathText({ oneDnn, fastMath }: NativeMath): string {
  return (oneDnn === "on" ? ", oneDNN on" : "") + (fastMath ? ", fast math" : "");
}

/** @throws {RefusedInput} when a backend was asked for that has no fast math, or TensorFlow was loaded without it */
export function requireFastMath(backend: BackendName): void {
  if (backend !== "tensorflow") {
    throw new RefusedInput("only native TensorFlow has fast math", {
      where: "--fast-math",
      found: `the backend ${backend}`,
      expected: "the backend tensorflow",
      hint: "--backend tensorflow",
    });
  }
  if (nativeIsLoaded() && !nativeMath().fastMath) {
    throw new RefusedInput("TensorFlow was loaded without fast math", {
      where: "--fast-math",
      found: "TensorFlow in this process, computing in float32",
      expected: "fast math from the start: it is read when the library loads",
      hint: "start again, or restart the notebook's kernel, and ask for fast math first",
    });
  }
}

function nativeIsLoaded(): boolean {
  return tf.findBackend("tensorflow") != null;
}
