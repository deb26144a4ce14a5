import { type BackendWasm, setWasmPaths } from "@tensorflow/tfjs-backend-wasm";
import { WebGPUBackend } from "@tensorflow/tfjs-backend-webgpu";
import { tf } from "./tf.js";
import { mendWasm } from "./wasm-kernels.js";
import { type Gpu, registerWebgpu } from "./webgpu.js";

/* Backends in a browser: WebGPU where a real card is, else WebAssembly. */

/** Wish for a backend; "auto" takes webgpu on a graphics card alone, a program that plays one only by name. */
export type PageBackendName = "auto" | "webgpu" | "wasm";

/** The backend at work in a page. */
export interface PageBackend {
  name: "webgpu" | "wasm";
  /** The graphics card, where there is one. */
  card: string | null;
}

/**
 * Starts a backend. Nothing is fetched: WebAssembly comes as bytes.
 * @param wasm tfjs-backend-wasm-simd.wasm
 * @throws {Error} when the one asked for cannot be had
 */
export async function startInPage(wish: PageBackendName, wasm: Uint8Array): Promise<PageBackend> {
  tf.enableProdMode();
  if (wish !== "wasm") {
    const card = await startWebgpu(wish === "webgpu");
    if (card !== null) return { name: "webgpu", card };
  }
  await startWasm(wasm);
  return { name: "wasm", card: null };
}

/** @returns the card; null where there is none to be taken */
async function startWebgpu(named: boolean): Promise<string | null> {
  const { gpu } = (globalThis as unknown as { navigator: { gpu?: Gpu } }).navigator;
  if (!named) {
    const adapter = await gpu?.requestAdapter({ powerPreference: "high-performance" }).catch(() => null);
    if (!adapter || adapter.info.isFallbackAdapter || adapter.isFallbackAdapter) return null;
  }
  if (gpu === undefined) throw new Error("this browser has no WebGPU");
  if (tf.findBackendFactory("webgpu") != null) tf.removeBackend("webgpu"); // the shipped one, without the mends
  const { adapter } = await registerWebgpu(gpu, WebGPUBackend);
  await use("webgpu");
  return adapter.name || "a graphics card without a name";
}

async function startWasm(wasm: Uint8Array): Promise<void> {
  tf.env().set("WASM_HAS_MULTITHREAD_SUPPORT", false); // one file serves all, and threads need headers that no file has
  if (!(await tf.env().getAsync("WASM_HAS_SIMD_SUPPORT"))) {
    throw new Error("this browser's WebAssembly has no SIMD; any browser since 2023 has it");
  }
  const { platform } = tf.env();
  const fetch = async () => new Response(wasm as Uint8Array<ArrayBuffer>);
  tf.env().platform = Object.create(platform, { fetch: { value: fetch } });
  setWasmPaths("", true); // by the platform's fetch
  await use("wasm");
  tf.env().platform = platform;
  mendWasm(tf.backend() as BackendWasm);
}

async function use(name: PageBackend["name"]): Promise<void> {
  if (!(await tf.setBackend(name))) throw new Error(`TensorFlow.js could not start ${name}`);
}
