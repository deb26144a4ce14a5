import { LabFailure } from "../core/errors.js";

/** The part of the Emscripten module that this file uses: addresses and sizes in bytes. */
export interface WasmHeap {
  _malloc(bytes: number): number;
  _free(address: number): void;
}

export interface HeapGuard {
  /** Counts, once, a hidden copy of the block at this address, which goes when the block goes. */
  countPackedCopy(address: number): void;
  /** Calls `action` just before the block at this address goes. One action a block: a later one takes its place. */
  beforeFree(address: number, action: () => void): void;
  /** Calls `release`, which gives up blocks that can be made again, before anything is refused. */
  whenShort(release: () => void): void;
  /** Bytes counted now. */
  inUse(): number;
}

/** The heap ends at 4 GiB; what kernels allocate for themselves is not seen from here and needs the rest. */
export const HEAP_BUDGET = 3.5 * 2 ** 30;

/**
 * Counts every block on a WebAssembly heap and refuses what goes beyond the budget. Unguarded, a failed allocation
 * is address 0, and the next tensor is written over whatever lies there.
 *
 * The module's `_malloc` and `_free` are replaced; from then on `_malloc` throws LabFailure with the bytes asked for,
 * those in use and the budget.
 */
export function guardHeap(heap: WasmHeap, budget: number = HEAP_BUDGET): HeapGuard {
  heap._free(heap._malloc(1)); // Emscripten's stubs put the real functions in their own place at the first call
  const malloc = heap._malloc.bind(heap);
  const free = heap._free.bind(heap);
  const blocks = new Map<number, number>();
  const packed = new Set<number>();
  const actions = new Map<number, () => void>();
  let inUse = 0;
  let release = () => {};

  function claim(bytes: number): void {
    if (inUse + bytes > budget) release();
    if (inUse + bytes > budget) throw new LabFailure(exhausted(bytes, "beyond the budget"));
    inUse += bytes;
  }

  function exhausted(bytes: number, reason: string): string {
    return (
      `wasm memory: ${bytes} bytes asked for, ${inUse} in use, budget ${budget} (${reason}). ` +
      "Use a smaller batch or model, or the native backend (npm run native)."
    );
  }

  heap._malloc = (bytes) => {
    claim(bytes);
    const address = malloc(bytes) >>> 0; // above 2 GiB it comes back negative
    if (address === 0 && bytes > 0) {
      inUse -= bytes;
      throw new LabFailure(exhausted(bytes, "the heap has no free block of that size"));
    }
    blocks.set(address, bytes);
    return address;
  };
  heap._free = (address) => {
    const action = actions.get(address >>> 0);
    actions.delete(address >>> 0);
    action?.();
    const bytes = blocks.get(address >>> 0) ?? 0; // 0: a kernel allocated it in C++
    inUse -= packed.delete(address >>> 0) ? 2 * bytes : bytes;
    blocks.delete(address >>> 0);
    free(address);
  };
  return {
    countPackedCopy(address) {
      const bytes = blocks.get(address >>> 0);
      if (bytes === undefined || packed.has(address >>> 0)) return;
      claim(bytes);
      packed.add(address >>> 0);
    },
    beforeFree: (address, action) => actions.set(address >>> 0, action),
    whenShort(action) {
      release = action;
    },
    inUse: () => inUse,
  };
}
