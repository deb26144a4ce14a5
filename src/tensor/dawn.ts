import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { type Gpu, registerWebgpu, type WebgpuAdapter, type WebgpuBackend } from "./webgpu.js";

/* WebGPU in Node: Dawn, as npm's package webgpu brings it. */

interface Opened {
  gpu: Gpu;
  adapter: WebgpuAdapter;
  backend: WebgpuBackend;
  /** Bytes that the device takes in one binding. */
  bindingLimit: number;
}

/** Kept for good: once what `create` returned is collected, the process dies. */
let opened: Promise<Opened> | null = null;

/**
 * Registers the backend `webgpu` with TensorFlow.js: Dawn in Node.
 * @throws {Error} when the package is absent or there is no adapter; asking again then tries again
 */
export async function openWebgpu(): Promise<WebgpuAdapter> {
  opened ??= open();
  try {
    const { adapter, backend, bindingLimit } = await opened;
    backend.bindingLimit = Math.min(bindingLimit, loweredLimit());
    return adapter;
  } catch (error) {
    opened = null;
    throw error;
  }
}

/** Variable of the environment for tests of small cards: bytes that one binding may take. It only lowers the device's limit. */
const LOWERED_LIMIT = "WISE_LAB_WEBGPU_BINDING";

function loweredLimit(): number {
  const text = process.env[LOWERED_LIMIT];
  if (!text) return Number.POSITIVE_INFINITY;
  if (/^[1-9]\d*$/.test(text)) return Number(text);
  throw new Error(`${LOWERED_LIMIT} is ${text}, not a number of bytes`);
}

/**
 * True where a card may be. Linux shows one as a device file; without one, the Vulkan loader is not even asked, which would take
 * time and print warnings.
 */
export function mayHaveCard(): boolean {
  return process.platform !== "linux" || ["/dev/dri", "/dev/nvidiactl", "/dev/dxg"].some((file) => existsSync(file));
}

async function open(): Promise<Opened> {
  const { create, globals } = await loadDawn();
  Object.assign(globalThis, globals);
  const gpu = create([]);
  // Loaded before `navigator.gpu` is there: otherwise it would register a backend of its own.
  const { WebGPUBackend } = createRequire(import.meta.url)("@tensorflow/tfjs-backend-webgpu");
  const made = await registerWebgpu(gpu, WebGPUBackend, (build) => withNavigator(gpu, build));
  return { gpu, ...made, bindingLimit: made.backend.bindingLimit };
}

async function loadDawn(): Promise<{ create(options: string[]): Gpu; globals: object }> {
  const name = "webgpu"; // not a literal in the import: types are checked also where the package is absent
  try {
    return await import(name);
  } catch (cause) {
    const absent = (cause as NodeJS.ErrnoException).code === "ERR_MODULE_NOT_FOUND";
    throw absent ? new Error("the package webgpu is not installed", { cause }) : cause;
  }
}

/** The backend is built only where `navigator.gpu` is; left there, Node would not exit. */
function withNavigator<T>(gpu: Gpu, build: () => T): T {
  const before = Object.getOwnPropertyDescriptor(globalThis, "navigator");
  Object.defineProperty(globalThis, "navigator", { value: { gpu }, configurable: true });
  try {
    return build();
  } finally {
    if (before) Object.defineProperty(globalThis, "navigator", before);
    else Reflect.deleteProperty(globalThis, "navigator");
  }
}
