import { type BackendName, type BackendReport, selectBackend } from "../tensor/backend.js";
import type { LlamaConfig } from "./config.js";

/** From this hidden size on oneDNN's kernels gain more time than they take to set up (measured). */
const LARGE_PRODUCTS = 1024;

/** True for a model whose products keep several threads busy. */
export function hasLargeProducts({ hiddenSize }: Pick<LlamaConfig, "hiddenSize">): boolean {
  return hiddenSize >= LARGE_PRODUCTS;
}

/** The backend that is asked for, set up for products of a model's size. */
export function backendFor(
  config: Pick<LlamaConfig, "hiddenSize">,
  { backend, fastMath = false }: { backend?: BackendName | undefined; fastMath?: boolean | undefined },
): Promise<BackendReport> {
  return selectBackend(backend, { fastMath, largeProducts: hasLargeProducts(config) });
}
