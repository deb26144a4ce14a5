import { type BackendName, type BackendReport, selectBackend } from "../tensor/backend.js";
import { hasLargeProducts, type LlamaConfig } from "./config.js";

/**
 * The backend that is asked for, set up for products of a model's size.
 * @param options `allThreads`: also for a small model, whose edits take one: training multiplies more rows
 */
export function backendFor(
  config: Pick<LlamaConfig, "hiddenSize">,
  options: { backend?: BackendName | undefined; fastMath?: boolean | undefined; allThreads?: boolean },
): Promise<BackendReport> {
  const { backend, fastMath = false, allThreads = false } = options;
  const largeProducts = hasLargeProducts(config);
  return selectBackend(backend, { fastMath, largeProducts, oneThread: !largeProducts && !allThreads });
}
