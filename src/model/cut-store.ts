import { type Cut, runFrozen } from "./cut.js";
import type { LlamaModel } from "./model.js";

/** Cuts of one model at one layer, computed once per prompt and shared by editing and scoring. */
export interface CutStore {
  readonly layer: number;
  /** The cuts of the sequences, in order. Those that are missing run through the frozen part together. */
  get(sequences: readonly (readonly number[])[], signal?: AbortSignal): Promise<Cut[]>;
  /** Forgets everything. */
  clear(): void;
}

const DEFAULT_BYTES = 1024 ** 3; // a block of T=1000 on the lab model fits; larger models recompute

/**
 * Makes an empty store that holds at most `bytes` of cuts, least recently used dropped first.
 * What one call asks for is always returned, whatever its size.
 */
export function createCutStore(model: LlamaModel, layer: number, bytes = DEFAULT_BYTES): CutStore {
  const held = new Map<string, Cut>(); // in order of last use
  let size = 0;

  function remember(key: string, cut: Cut): void {
    if (held.has(key)) return; // another call was faster
    held.set(key, cut);
    size += cutBytes(cut);
    for (const [oldest, old] of held) {
      if (size <= bytes) break;
      held.delete(oldest);
      size -= cutBytes(old);
    }
  }

  return {
    layer,
    async get(sequences, signal) {
      const found = new Map<string, Cut>();
      const missing = new Map<string, readonly number[]>();
      for (const tokens of sequences) {
        const key = tokens.join(" ");
        const cut = held.get(key);
        if (cut === undefined) {
          missing.set(key, tokens);
          continue;
        }
        found.set(key, cut);
        held.delete(key); // to be put back as the most recently used
        held.set(key, cut);
      }
      const made = await runFrozen(model, [...missing.values()], { layer, signal });
      [...missing.keys()].forEach((key, i) => {
        const cut = made[i] as Cut;
        found.set(key, cut);
        remember(key, cut);
      });
      return sequences.map((tokens) => found.get(tokens.join(" ")) as Cut);
    },
    clear() {
      held.clear();
      size = 0;
    },
  };
}

function cutBytes(cut: Cut): number {
  return cut.residual.byteLength + cut.mlpIn.byteLength;
}
