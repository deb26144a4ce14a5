import type { LabOptions } from "../run/lab.js";
import type { WeightOptions } from "../run/settle.js";

/** Options of every command that loads a model, as the command line gives them: how it computes, and in how much room. */
export interface MachineArguments
  extends Pick<LabOptions, "backend" | "fastMath" | "weights" | "precision" | "verify"> {
  /** false for --no-cache. */
  cache?: string | false;
  /** Gigabytes. */
  cacheSize?: number;
  gpuMemory?: number;
}

/** The same as a lab takes them. */
export function machineOptions(
  options: MachineArguments,
): Pick<LabOptions, "backend" | "fastMath" | "verify"> & Omit<WeightOptions, "onNotice"> {
  const { backend, fastMath, weights, precision, verify, cache, cacheSize, gpuMemory } = options;
  return {
    backend,
    fastMath,
    weights,
    precision,
    verify,
    cache: cache === false ? null : cache,
    cacheBytes: cacheSize === undefined ? undefined : cacheSize * 1e9,
    gpuBytes: gpuMemory === undefined ? undefined : gpuMemory * 1e9,
  };
}
