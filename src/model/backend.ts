import { type BackendName, type BackendReport, selectBackend } from "../tensor/backend.js";
import type { LlamaConfig } from "./config.js";

/** From this hidden size on oneDNN's kernels gain more time than they take to set up (measured). */
const LARGE_PRODUCTS = 1024;

/** The backend that is asked for, set up for products of a model's size. */
export function backendFor(
  { hiddenSize }: Pick<LlamaConfig, "hiddenSize">,
  { backend, fastMath = false }: { backend?: BackendName | undefined; fastMath?: boolean | undefined },
): Promise<BackendReport> {
  return selectBackend(backend, { fastMath, largeProducts: hiddenSize >= LARGE_PRODUCTS });
}
