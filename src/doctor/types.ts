import type { BackendReport } from "../tensor/backend.js";
import type { DataFacts, ModelFacts } from "./files.js";
import type { BrowserFacts, GpuFacts, JupyterFacts, MachineFacts } from "./machine.js";
import type { PackageFacts } from "./packages.js";

/** Something that is not there, what for, and the command that brings it. */
export interface Missing {
  what: string;
  why: string;
  command: string;
}

/** Report on what this machine has, and what the project can do with it. */
export interface DoctorReport {
  node: string;
  machine: MachineFacts;
  gpu: GpuFacts;
  /** GFLOP/s are measured on the product of two float32 [size, size] matrices. */
  backend: BackendReport & { gflops: number; size: number };
  packages: PackageFacts[];
  browser: BrowserFacts | null;
  jupyter: JupyterFacts | null;
  /** True if Jupyter knows the kernel "TypeScript (wise-lab)". */
  kernelInstalled: boolean;
  models: ModelFacts[];
  data: DataFacts[];
  missing: Missing[];
}
