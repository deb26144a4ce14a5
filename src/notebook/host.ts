import type { Renderer } from "../figures/export.js";
import type { MimeBundle } from "./wire.js";

export interface DisplayOptions {
  /** Names the output, so that a later call with `update` replaces it. */
  displayId?: string;
  update?: boolean;
  metadata?: Record<string, unknown>;
}

/** Services of a running kernel to the code in its cells. */
export interface KernelHost {
  display(bundle: MimeBundle, options: DisplayOptions): void;
  /** Aborted when the running cell is interrupted. */
  signal(): AbortSignal;
  /** Renderer of this notebook's figures, once the first one has been drawn; it ends with the kernel. */
  renderer?: Promise<Renderer>;
}

/**
 * The kernel and the library it serves are in one process but may be two copies of the package
 * (a notebook may import an installed one), so they meet on the global object, not in a module.
 */
const HOST = Symbol.for("wise-lab.kernel-host");

export function setKernelHost(host: KernelHost | null): void {
  (globalThis as { [HOST]?: KernelHost | null })[HOST] = host;
}

/** The kernel this code runs in, or null outside a notebook. */
export function kernelHost(): KernelHost | null {
  return (globalThis as { [HOST]?: KernelHost })[HOST] ?? null;
}
