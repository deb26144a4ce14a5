import { LabFailure } from "../core/errors.js";
import { tf } from "./tf.js";
import { mendWebgpu } from "./webgpu-kernels.js";

/** The part of a GPUDevice (https://www.w3.org/TR/webgpu) that this project and the guards below use. */
interface Device {
  limits: Limits;
  lost: Promise<{ reason: string; message: string }>;
  addEventListener(event: "uncapturederror", listener: (event: DeviceError) => void): void;
}

interface DeviceError {
  error: { message: string };
  preventDefault(): void;
}

type Limits = Record<(typeof RAISED_LIMITS)[number], number>;

interface Adapter {
  info: { vendor: string; architecture: string; description: string; isFallbackAdapter?: boolean };
  /** Older browsers have it here. */
  isFallbackAdapter?: boolean;
  limits: Limits;
  requestDevice(wish: { requiredLimits: Limits }): Promise<Device>;
}

/** `navigator.gpu`, or what plays it. */
export interface Gpu {
  requestAdapter(wish: { powerPreference: "high-performance" }): Promise<Adapter | null>;
}

/** The part of TensorFlow.js' WebGPU backend that the guards below replace. */
export interface WebgpuBackend extends tf.KernelBackend {
  /** Bytes that one binding, and so one tensor, may take; ours. */
  bindingLimit: number;
  /** Programs that were run since it was opened; ours. */
  dispatches: number;
  bufferManager: BufferPool;
  /** Buffers that go back to the pool at the next submit. */
  uniformPendingDisposal: GpuBuffer[];
  makeUniforms(uniforms: readonly Uniform[]): { buffer: GpuBuffer };
  tensorMap: { get(dataId: tf.DataId): TensorData };
  /** Buffer of a tensor, made where there is none, and filled where the tensor's values are in memory. */
  uploadToGPU(dataId: tf.DataId): void;
  runWebGPUProgram(program: object, inputs: tf.TensorInfo[], dtype: tf.DataType, uniforms?: Uniform[]): tf.TensorInfo;
}

interface TensorData {
  dtype: tf.DataType;
  values: ArrayLike<number> | null;
  resource: GpuBuffer | null | undefined;
  /** True for a buffer that does not go when the tensor goes. */
  external?: boolean;
}

interface Uniform {
  type: "float32" | "int32" | "uint32";
  data: number[];
}

interface GpuBuffer {
  size: number;
  usage: number;
  destroy(): void;
}

interface BufferPool {
  freeBuffers: Map<string, GpuBuffer[]>;
  numFreeBuffers: number;
  numBytesUsed: number;
  numBytesAllocated: number;
  acquireBuffer(size: number, usage: number, ...rest: boolean[]): GpuBuffer;
  releaseBuffer(buffer: GpuBuffer, reuse?: boolean): void;
}

/** Limits that a device gets only when it is asked for them; those of the adapter are taken. */
const RAISED_LIMITS = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeWorkgroupStorageSize",
  "maxComputeWorkgroupsPerDimension",
  "maxComputeWorkgroupSizeX",
  "maxComputeInvocationsPerWorkgroup",
] as const;

/** A graphics card as WebGPU shows it, or a program that plays one. */
export interface WebgpuAdapter {
  /** Its vendor, architecture and description. */
  name: string;
  /** True for a program of the processor that plays a card. */
  software: boolean;
}

/** The class of TensorFlow.js' WebGPU backend. */
export type WebgpuBackendClass = new (device: Device, info: Adapter["info"]) => WebgpuBackend;

/**
 * Registers the backend `webgpu` with TensorFlow.js, mended.
 * @param surround calls its argument where `navigator.gpu` is, without which the class cannot be built
 * @throws {Error} when there is no adapter
 */
export async function registerWebgpu(
  gpu: Gpu,
  Backend: WebgpuBackendClass,
  surround = (build: () => WebgpuBackend) => build(),
): Promise<{ adapter: WebgpuAdapter; backend: WebgpuBackend }> {
  const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  if (adapter === null) throw new Error("WebGPU finds no graphics card (on Linux, it needs a Vulkan driver)");
  const requiredLimits = Object.fromEntries(RAISED_LIMITS.map((name) => [name, adapter.limits[name]])) as Limits;
  const device = await adapter.requestDevice({ requiredLimits });
  const { vendor, architecture, description, isFallbackAdapter = false } = adapter.info;
  const backend = surround(() => new Backend(device, adapter.info));
  const { maxStorageBufferBindingSize, maxBufferSize } = device.limits;
  backend.bindingLimit = Math.min(maxStorageBufferBindingSize, maxBufferSize);
  guardSizes(backend, maxBufferSize);
  guardPool(backend.bufferManager);
  guardErrors(backend, device);
  keepUniforms(backend);
  keepScalars(backend);
  countDispatches(backend);
  mendWebgpu(device.limits.maxStorageBuffersPerShaderStage - 1);
  tf.registerBackend("webgpu", () => backend);
  const name = [vendor, architecture, description].filter(Boolean).join(" ");
  return { adapter: { name, software: isFallbackAdapter }, backend };
}

const STORAGE = 0x80; // GPUBufferUsage.STORAGE

/** Bytes that one tensor may take on the current backend; infinite where it sets no limit. */
export function tensorLimit(): number {
  return (tf.backend() as Partial<WebgpuBackend>).bindingLimit ?? Number.POSITIVE_INFINITY;
}

/**
 * Unguarded, a tensor beyond the limits reads as zeros, and takes dispatches of others with it.
 * @param backend its `bindingLimit` is read at every request
 * @param maxBufferSize bytes of a buffer that no program sees
 */
export function guardSizes(
  backend: Pick<WebgpuBackend, "bufferManager" | "bindingLimit">,
  maxBufferSize: number,
): void {
  const { bufferManager: pool } = backend;
  const acquire = pool.acquireBuffer.bind(pool);
  pool.acquireBuffer = (size, usage, ...rest) => {
    const limit = usage & STORAGE ? backend.bindingLimit : maxBufferSize;
    if (size > limit) {
      throw new LabFailure(
        `webgpu: a tensor of ${size} bytes was asked for, and this card takes at most ${limit} at once. ` +
          "Use a smaller batch or model, or another backend (--backend tensorflow).",
      );
    }
    return acquire(size, usage, ...rest);
  };
}

/** Free buffers that are kept whatever is in use, in bytes. */
const POOLED_BYTES = 2 ** 28;
/** And as a share of what is in use. */
const POOLED_SHARE = 1 / 4;

/** Most bytes of free buffers that are kept beside those in use. */
export function pooledBytes(used: number): number {
  return Math.max(POOLED_BYTES, POOLED_SHARE * used);
}

/** Lets free buffers go, the sizes not used for longest first: the shipped pool keeps every size that was ever used, for good. */
export function guardPool(pool: BufferPool): void {
  const release = pool.releaseBuffer.bind(pool);
  pool.releaseBuffer = (buffer, reuse) => {
    release(buffer, reuse);
    const { freeBuffers } = pool;
    const key = `${buffer.size}_${buffer.usage}`;
    const alike = freeBuffers.get(key);
    if (alike === undefined) return;
    freeBuffers.delete(key);
    freeBuffers.set(key, alike); // last: a map keeps the order
    for (const buffers of freeBuffers.values()) {
      while (buffers.length > 0) {
        if (freeBytes(pool) <= pooledBytes(pool.numBytesUsed)) return;
        const spare = buffers.shift() as GpuBuffer;
        pool.numFreeBuffers -= 1;
        pool.numBytesAllocated -= spare.size;
        spare.destroy();
      }
    }
  };
}

function freeBytes({ numBytesAllocated, numBytesUsed }: BufferPool): number {
  return numBytesAllocated - numBytesUsed;
}

/** Uniforms that are kept. */
const KEPT_UNIFORMS = 2 ** 14;

/**
 * Keeps the uniforms of a program, which are shapes and a few numbers, and come again with every step. The shipped backend copies
 * them to the card for each dispatch, which took more than the dispatch itself (measured).
 */
export function keepUniforms(backend: Pick<WebgpuBackend, "makeUniforms" | "uniformPendingDisposal">): void {
  const make = backend.makeUniforms.bind(backend);
  const kept = new Map<string, { buffer: GpuBuffer }>();
  backend.makeUniforms = (uniforms) => {
    const key = uniforms.map(({ type, data }) => `${type} ${data}`).join();
    const before = kept.get(key);
    if (before !== undefined) return before;
    if (kept.size === KEPT_UNIFORMS) {
      backend.uniformPendingDisposal.push(...[...kept.values()].map(({ buffer }) => buffer));
      kept.clear();
    }
    const made = make(uniforms);
    backend.uniformPendingDisposal.pop(); // the one just made
    kept.set(key, made);
    return made;
  };
}

/** Scalars that are kept. */
const KEPT_SCALARS = 1024;

/** Keeps the buffers of scalars, such as factors and margins: each upload takes a buffer of its own and ends the pass of dispatches. */
function keepScalars(backend: Pick<WebgpuBackend, "tensorMap" | "uploadToGPU">): void {
  const upload = backend.uploadToGPU.bind(backend);
  const kept = new Map<string, GpuBuffer>();
  backend.uploadToGPU = (dataId) => {
    const data = backend.tensorMap.get(dataId);
    if (data.resource != null || data.values?.length !== 1) return upload(dataId);
    const [value] = data.values as [number];
    const key = `${data.dtype} ${Object.is(value, -0) ? "-0" : value}`;
    const before = kept.get(key);
    if (before === undefined) {
      upload(dataId);
      if (kept.size === KEPT_SCALARS) return;
      kept.set(key, data.resource as unknown as GpuBuffer);
    } else {
      data.resource = before;
      data.values = null;
    }
    data.external = true;
  };
}

/** Programs that the current backend has run so far; null where it does not count them. */
export function dispatchesSoFar(): number | null {
  return (tf.backend() as Partial<WebgpuBackend>).dispatches ?? null;
}

/** A step of a small model takes as long as its dispatches: they are what fusing programs saves. */
function countDispatches(backend: WebgpuBackend): void {
  const run = backend.runWebGPUProgram.bind(backend);
  backend.dispatches = 0;
  backend.runWebGPUProgram = (...call) => {
    backend.dispatches += 1;
    return run(...call);
  };
}

/** Unguarded, an error of the device leaves numbers as they were; here reading throws. What was computed since is void. */
function guardErrors(backend: WebgpuBackend, device: Device): void {
  let failure: string | null = null;
  device.addEventListener("uncapturederror", (event) => {
    event.preventDefault(); // it would be printed
    failure ??= event.error.message;
  });
  device.lost.then(({ reason, message }) => {
    failure ??= `the card was lost (${reason}): ${message}`;
  });
  const read = backend.read.bind(backend);
  const check = (cause?: unknown) => {
    if (failure !== null) throw new LabFailure(`webgpu: ${failure}`, { cause });
  };
  backend.read = async (dataId) => {
    try {
      const values = await read(dataId);
      check();
      return values;
    } catch (error) {
      check(error);
      throw error;
    }
  };
}
