import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { installedKernel } from "../notebook/kernelspec.js";
import { type BackendName, selectBackend } from "../tensor/backend.js";
import { measureMatmul } from "../tensor/gflops.js";
import { readData, readModels } from "./files.js";
import { readBrowser, readGpus, readJupyter, readMachine } from "./machine.js";
import { findMissing } from "./missing.js";
import { readPackages } from "./packages.js";
import type { DoctorReport } from "./types.js";

const MATRIX = { cpu: 1024, gpu: 8192 }; // big enough to keep each busy, small enough for a second

/**
 * Looks at the machine, measures the backend, and says what is missing with the command that brings it.
 * @throws {RefusedInput} for a requested backend that does not start, or a damaged model in the data folder.
 */
export async function doctor(options: { backend?: BackendName } = {}): Promise<DoctorReport> {
  const root = fileURLToPath(new URL("../..", import.meta.url));
  const backend = await selectBackend(options.backend);
  const size = MATRIX[backend.device];
  const facts = {
    node: process.versions.node,
    machine: readMachine(),
    gpu: await readGpus(),
    backend: { ...backend, gflops: await measureMatmul(size), size },
    packages: readPackages(root),
    browser: await readBrowser(),
    jupyter: await readJupyter(),
    kernelInstalled: (await installedKernel()) !== null,
    models: await readModels(join(root, "data")),
    data: await readData(),
  };
  return { ...facts, missing: findMissing(facts) };
}
