import type { BackendReport } from "./backend.js";

/** In the order they are tried. Apart from the backends themselves, so that naming one does not load TensorFlow.js. */
export const BACKENDS = ["tensorflow", "webgpu", "wasm", "cpu"] as const;
export type BackendName = (typeof BACKENDS)[number];

/** Text of what computes, for a protocol: numbers of another version or card may differ in their last bits. */
export function backendText({ name, version, device, card }: BackendReport): string {
  return `${name} ${version} ${device}${card === null ? "" : ` (${card})`}`;
}
