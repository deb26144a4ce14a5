import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { dirname, sep } from "node:path";
import util from "node:util";
import type { BackendWasm } from "@tensorflow/tfjs-backend-wasm";
import { nearest, RefusedInput } from "../core/errors.js";
import { mayHaveCard, openWebgpu } from "./dawn.js";
import { BACKENDS, type BackendName } from "./names.js";
import {
  mathText,
  type NativeMath,
  type NativeMathOptions,
  nativeMath,
  PLAIN_MATH,
  requireFastMath,
  setNativeMath,
} from "./native-math.js";
import { tf } from "./tf.js";
import { mendWasm } from "./wasm-kernels.js";

export { BACKENDS, type BackendName } from "./names.js";

/** The backend at work, as it is shown to the user and recorded with results. */
export interface BackendReport extends NativeMath {
  name: BackendName;
  /** Of libtensorflow for `tensorflow`, of TensorFlow.js for the others. */
  version: string;
  device: "cpu" | "gpu";
  /** The graphics card, where the backend tells it. */
  card: string | null;
  threads: number;
  /** One line: what was chosen, what it stepped down from and why. */
  detail: string;
}

type Started = Omit<BackendReport, "name" | "detail">;

const backends = {
  tensorflow: { title: "native TensorFlow", start: startTensorflow, remedy: "npm run native" },
  webgpu: { title: "TensorFlow.js on WebGPU", start: startWebgpu, remedy: "npx wise-lab doctor" },
  wasm: { title: "TensorFlow.js on WebAssembly", start: startWasm, remedy: "npm install" },
  cpu: { title: "TensorFlow.js in plain JavaScript", start: startCpu, remedy: "npm install" },
} satisfies Record<
  BackendName,
  { title: string; start: (options: NativeMathOptions) => Promise<Started>; remedy: string }
>;

/** The order in which they are tried where none is asked for; `card`: taken only where it computes on a graphics card. */
const ORDER: readonly { name: BackendName; card?: true }[] = [
  { name: "tensorflow", card: true },
  { name: "webgpu", card: true },
  { name: "tensorflow" },
  { name: "wasm" },
  { name: "cpu" },
];

/**
 * Chooses what computes: the one asked for, else the one named by WISE_LAB_BACKEND, else the first of tensorflow and webgpu on a
 * graphics card, then tensorflow, wasm, cpu that starts. Asking again is free, and asking for another switches. Fast math asks
 * for tensorflow.
 *
 * @throws {RefusedInput} when the one asked for is unknown or does not start here; it names the command that brings it.
 *   When fast math is asked of another backend, or after TensorFlow was loaded without it.
 */
export async function selectBackend(requested?: BackendName, options: NativeMathOptions = {}): Promise<BackendReport> {
  tf.enableProdMode(); // no advice on stdout to install tfjs-node; nothing but such lines depends on it
  const wish = requested ?? (process.env.WISE_LAB_BACKEND || undefined);
  if (wish !== undefined) return startRequested(wish, { where: requested ? "--backend" : "WISE_LAB_BACKEND", options });
  if (options.fastMath) return startRequested("tensorflow", { where: "--fast-math", options });

  const steppedDown = new Set<string>();
  for (const { name, card } of ORDER) {
    if (name === "webgpu" && !mayHaveCard()) continue;
    try {
      const report = await start(name, { steppedDown, options });
      if (!card || report.device === "gpu") return report;
    } catch (error) {
      steppedDown.add(`${name}: ${firstLine(error)}, try ${backends[name].remedy}`);
    }
  }
  throw new RefusedInput("no TensorFlow.js backend starts on this machine", {
    where: "node_modules",
    found: [...steppedDown].join("; "),
    expected: BACKENDS.join(", "),
    hint: "npm install",
  });
}

async function startRequested(
  wish: string,
  { where, options }: { where: string; options: NativeMathOptions },
): Promise<BackendReport> {
  const name = BACKENDS.find((known) => known === wish);
  if (!name) {
    const meant = nearest(wish, BACKENDS);
    throw new RefusedInput(`unknown backend${meant ? `, did you mean ${meant}?` : ""}`, {
      where,
      found: wish,
      expected: `one of ${BACKENDS.join(", ")}`,
    });
  }
  if (options.fastMath) requireFastMath(name);
  try {
    return await start(name, { steppedDown: new Set(), options });
  } catch (error) {
    throw new RefusedInput(`the backend ${name} does not start here`, {
      where,
      found: firstLine(error),
      expected: `${backends[name].title}, ready to use`,
      hint: backends[name].remedy,
      cause: error,
    });
  }
}

async function start(
  name: BackendName,
  { steppedDown, options }: { steppedDown: ReadonlySet<string>; options: NativeMathOptions },
): Promise<BackendReport> {
  const started = await backends[name].start(options);
  const threads = `${started.threads} thread${started.threads === 1 ? "" : "s"}`;
  const { version, device, card } = started;
  const place = `${device.toUpperCase()}${card === null ? "" : ` (${card})`}`;
  const chosen = `${name}: ${backends[name].title} ${version}, ${place}, ${threads}${mathText(started)}`;
  return { name, ...started, detail: [chosen, ...steppedDown].join("; not ") };
}

/** The part of tfjs-node-gpu that is not in TensorFlow.js itself. */
interface NativeBackend {
  binding: { TF_Version: string };
  isUsingGpuDevice: boolean;
}

async function startTensorflow(options: NativeMathOptions): Promise<Started> {
  process.env.TF_CPP_MIN_LOG_LEVEL ??= "2"; // errors only; read when the library loads
  setNativeMath(options);
  restoreLegacyUtil();
  loadNativeBinding();
  await use("tensorflow");
  const { binding, isUsingGpuDevice } = tf.backend() as unknown as NativeBackend;
  const device = isUsingGpuDevice ? "gpu" : "cpu";
  const threads = Number(process.env.TF_NUM_INTRAOP_THREADS) || availableParallelism(); // as TensorFlow chooses them
  return { version: binding.TF_Version, device, card: null, threads, ...nativeMath() };
}

/** Loading registers the backend with the one TensorFlow.js. */
function loadNativeBinding(): void {
  try {
    createRequire(import.meta.url)("@tensorflow/tfjs-node-gpu");
  } catch (cause) {
    const absent = /can not be found|Cannot find module/.test(String(cause));
    throw absent ? new Error("the native binding is not built", { cause }) : cause;
  }
}

/** tfjs-node 4.22 calls two functions that Node 22 warns of and Node 23 took away. */
function restoreLegacyUtil(): void {
  Object.assign(util, {
    isArray: Array.isArray,
    isNullOrUndefined: (value: unknown) => value === null || value === undefined,
  });
}

async function startWebgpu(): Promise<Started> {
  const { name, software } = await openWebgpu();
  await use("webgpu");
  return { version: tf.version_core, device: software ? "cpu" : "gpu", card: name, threads: 1, ...PLAIN_MATH };
}

async function startWasm(): Promise<Started> {
  if (!tf.findBackend("wasm")) {
    // Loaded only now: it registers itself before cpu, and frames used before any choice would find it not yet started.
    const { setWasmPaths } = await import("@tensorflow/tfjs-backend-wasm");
    setWasmPaths(dirname(createRequire(import.meta.url).resolve("@tensorflow/tfjs-backend-wasm")) + sep);
  }
  await use("wasm");
  mendWasm(tf.backend() as BackendWasm);
  return { version: tf.version_core, device: "cpu", card: null, threads: 1, ...PLAIN_MATH };
}

async function startCpu(): Promise<Started> {
  await use("cpu");
  return { version: tf.version_core, device: "cpu", card: null, threads: 1, ...PLAIN_MATH };
}

async function use(name: BackendName): Promise<void> {
  if (!(await tf.setBackend(name))) throw new Error(`TensorFlow.js could not start ${name}`);
}

function firstLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split("\n", 1)[0] as string;
}
