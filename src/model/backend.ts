import { type BackendName, type BackendReport, selectBackend } from "../tensor/backend.js";
import { hasLargeProducts, type LlamaConfig } from "./config.js";

/** The backend that is asked for, set up for products of a model's size. */
export function backendFor(
  config: Pick<LlamaConfig, "hiddenSize">,
  { backend, fastMath = false }: { backend?: BackendName | undefined; fastMath?: boolean | undefined },
): Promise<BackendReport> {
  return selectBackend(backend, { fastMath, largeProducts: hasLargeProducts(config) });
}
