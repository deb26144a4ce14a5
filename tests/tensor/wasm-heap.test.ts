import type { BackendWasm } from "@tensorflow/tfjs-backend-wasm";
import { beforeAll, describe, expect, it } from "vitest";
import { LabFailure } from "../../src/core/errors.js";
import { selectBackend } from "../../src/tensor/backend.js";
import { tf } from "../../src/tensor/tf.js";
import { guardHeap, HEAP_BUDGET, type WasmHeap } from "../../src/tensor/wasm-heap.js";
import { expectTidy } from "../support/tensor-matcher.js";

beforeAll(() => selectBackend("wasm"));

/** A guard of its own on the real heap, taken off again afterwards. */
function withBudget(budget: number, work: (guard: ReturnType<typeof guardHeap>) => void): void {
  const heap = (tf.backend() as unknown as { wasm: WasmHeap }).wasm;
  const { _malloc, _free } = heap;
  try {
    work(guardHeap(heap, budget));
  } finally {
    Object.assign(heap, { _malloc, _free });
  }
}

describe("the wasm memory budget", () => {
  it("refuses one tensor beyond the budget at once, naming bytes asked, in use and budget", async () => {
    const bytes = 4 * 31_000 * 31_000;
    tf.fill([2], 1).dispose(); // the guard outlasts the first allocation
    await expectTidy(() => {
      expect(() => tf.fill([31_000, 31_000], 1)).toThrow(LabFailure);
      expect(() => tf.fill([31_000, 31_000], 1)).toThrow(
        new RegExp(`${bytes} bytes asked for, \\d+ in use, budget ${HEAP_BUDGET}`),
      );
    });
    const after = tf.fill([2], 7);
    expect([...(await after.data())]).toEqual([7, 7]);
    after.dispose();
  });

  it("counts what is alive: refuses the tensor too many, and has room again after a dispose", () => {
    withBudget(3000, (guard) => {
      const first = tf.fill([500], 1);
      expect(guard.inUse()).toBe(2000);
      expect(() => tf.fill([500], 2)).toThrow(/2000 bytes asked for, 2000 in use, budget 3000/);
      first.dispose();
      expect(guard.inUse()).toBe(0);
      tf.fill([500], 3).dispose();
      expect(guard.inUse()).toBe(0);
    });
  });

  it("counts the packed copy that a product keeps of its right operand, once, until that goes", () => {
    withBudget(100_000, (guard) => {
      const block = tf.fill([250], 1);
      const address = (tf.backend() as unknown as { getMemoryOffset(id: object): number }).getMemoryOffset(
        block.dataId,
      );
      guard.countPackedCopy(address);
      guard.countPackedCopy(address);
      expect(guard.inUse()).toBe(2000);
      block.dispose();
      expect(guard.inUse()).toBe(0);
    });
  });

  it("stands on a fresh module, whose functions replace themselves at their first call", () => {
    const fresh: WasmHeap = {
      _malloc: () => {
        fresh._malloc = () => 64;
        return 64;
      },
      _free: () => {
        fresh._free = () => undefined;
      },
    };
    const guard = guardHeap(fresh, 1000);
    fresh._malloc(900);
    expect(() => fresh._malloc(200)).toThrow(LabFailure);
    fresh._free(64);
    expect(guard.inUse()).toBe(0);
  });

  it("refuses when the heap itself has no room, instead of writing at address 0", () => {
    const full: WasmHeap = { _malloc: () => 0, _free: () => undefined };
    const guard = guardHeap(full);
    expect(() => full._malloc(64)).toThrow(/no free block/);
    expect(guard.inUse()).toBe(0);
  });

  it("reads addresses above 2 GiB, which Emscripten hands out as negative numbers", () => {
    const high: WasmHeap = { _malloc: () => -4096, _free: () => undefined };
    const guard = guardHeap(high);
    expect(high._malloc(64)).toBe(2 ** 32 - 4096);
    high._free(-4096);
    expect(guard.inUse()).toBe(0);
  });

  it("calls for what can be given up before it refuses, and tells of a block that goes", () => {
    withBudget(3000, (guard) => {
      const spare = tf.fill([250], 1);
      const gone: string[] = [];
      guard.beforeFree((tf.backend() as BackendWasm).getMemoryOffset(spare.dataId), () => gone.push("spare"));
      guard.whenShort(() => spare.dispose());
      const large = tf.fill([700], 1);
      expect(gone).toEqual(["spare"]);
      expect(guard.inUse()).toBe(2800);
      expect(() => tf.fill([100], 1)).toThrow(/400 bytes asked for, 2800 in use/);
      large.dispose();
      expect(guard.inUse()).toBe(0);
    });
  });
});
