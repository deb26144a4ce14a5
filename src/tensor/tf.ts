import { createRequire } from "node:module";
import type * as tensorflow from "@tensorflow/tfjs";

/**
 * The one TensorFlow.js of the project. Everything imports it from here, never from the package,
 * and danfojs gets the same instance (scripts/tfjs-node-shim). A page takes it from tf-in-page.ts.
 *
 * Required, because Node reads a CommonJS package twice where it is imported: first all of it for the names that it exports,
 * which takes longer than loading it.
 */
export const tf: typeof tensorflow = createRequire(import.meta.url)("@tensorflow/tfjs");

/** Its types that the project uses, under the same name. */
export declare namespace tf {
  type DataId = tensorflow.DataId;
  type DataType = tensorflow.DataType;
  type GradSaveFunc = tensorflow.GradSaveFunc;
  type KernelBackend = tensorflow.KernelBackend;
  type KernelFunc = tensorflow.KernelFunc;
  type NamedTensorInfoMap = tensorflow.NamedTensorInfoMap;
  type Rank = tensorflow.Rank;
  namespace Rank {
    type R1 = tensorflow.Rank.R1;
    type R2 = tensorflow.Rank.R2;
  }
  type Scalar = tensorflow.Scalar;
  type Tensor<R extends Rank = Rank> = tensorflow.Tensor<R>;
  type Tensor1D = tensorflow.Tensor1D;
  type Tensor2D = tensorflow.Tensor2D;
  type Tensor3D = tensorflow.Tensor3D;
  type Tensor4D = tensorflow.Tensor4D;
  type TensorInfo = tensorflow.TensorInfo;
}
