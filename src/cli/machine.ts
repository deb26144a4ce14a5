import { type MachineOptions, machineOf } from "../run/settle.js";

/** Options of every command that loads a model, as the command line gives them: how it computes, and in how much room. */
export interface MachineArguments extends Omit<MachineOptions, "cache" | "cacheBytes" | "gpuBytes"> {
  /** false for --no-cache. */
  cache?: string | false;
  /** Gigabytes. */
  cacheSize?: number;
  gpuMemory?: number;
}

/** The same as a lab takes them. */
export function machineOptions({ cache, cacheSize, gpuMemory, ...options }: MachineArguments): MachineOptions {
  const bytes = (gigabytes: number | undefined) => (gigabytes === undefined ? undefined : gigabytes * 1e9);
  const room = { cacheBytes: bytes(cacheSize), gpuBytes: bytes(gpuMemory) };
  return machineOf({ ...options, ...room, cache: cache === false ? null : cache });
}
