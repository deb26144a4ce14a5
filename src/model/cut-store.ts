import { type Cut, runFrozen } from "./cut.js";
import type { LlamaModel } from "./model.js";

/** Cuts of one model at one layer, computed once per prompt and shared by editing and scoring. */
export interface CutStore {
  readonly layer: number;
  /** The cuts of the sequences, in order. Those that are missing run through the frozen part together. */
  get(sequences: readonly (readonly number[])[], signal?: AbortSignal): Promise<Cut[]>;
}

export interface CutStoreOptions {
  /** Bytes of cuts to hold; least recently used dropped first. What one call asks for is always returned. */
  bytes?: number;
  /**
   * Groups of sequences that always run through the frozen part as one: whenever one of a group is missing, all of it is
   * computed. Batching decides the last bits of a float, so the cuts of a group are the same bits whoever asks first,
   * whatever was dropped, and in whichever process. A sequence that stands in several groups belongs to the first.
   */
  together?: Iterable<readonly (readonly number[])[]>;
}

type Tokens = readonly number[];
type Group = ReadonlyMap<string, Tokens>;

const DEFAULT_BYTES = 1024 ** 3; // a block of T=1000 on the lab model fits; larger models recompute

/** Makes an empty store. */
export function createCutStore(model: LlamaModel, layer: number, options: CutStoreOptions = {}): CutStore {
  const { bytes = DEFAULT_BYTES, together = [] } = options;
  const groups = groupsByKey(together);
  const held = new Map<string, Cut>(); // in order of last use
  let size = 0;

  function remember(key: string, cut: Cut): void {
    if (held.has(key)) return; // another call was faster, or the rest of its group stayed
    held.set(key, cut);
    size += cutBytes(cut);
    for (const [oldest, old] of held) {
      if (size <= bytes) break;
      held.delete(oldest);
      size -= cutBytes(old);
    }
  }

  /** The groups of the missing sequences; those that stand in none make one of their own. */
  function groupsOf(missing: Group): Set<Group> {
    const alone = new Map<string, Tokens>();
    const found = new Set<Group>();
    for (const [key, tokens] of missing) {
      const group = groups.get(key);
      if (group === undefined) alone.set(key, tokens);
      else found.add(group);
    }
    return alone.size === 0 ? found : found.add(alone);
  }

  return {
    layer,
    async get(sequences, signal) {
      const found = new Map<string, Cut>();
      const missing = new Map<string, Tokens>();
      for (const tokens of sequences) {
        const key = keyOf(tokens);
        const cut = held.get(key);
        if (cut === undefined) {
          missing.set(key, tokens);
          continue;
        }
        found.set(key, cut);
        held.delete(key); // to be put back as the most recently used
        held.set(key, cut);
      }
      for (const group of groupsOf(missing)) {
        const made = await runFrozen(model, [...group.values()], { layer, signal });
        [...group.keys()].forEach((key, i) => {
          const cut = made[i] as Cut;
          if (missing.has(key)) found.set(key, cut);
          remember(key, cut);
        });
      }
      return sequences.map((tokens) => found.get(keyOf(tokens)) as Cut);
    },
  };
}

function groupsByKey(together: Iterable<readonly Tokens[]>): Map<string, Group> {
  const groups = new Map<string, Group>();
  for (const sequences of together) {
    const group = new Map<string, Tokens>();
    for (const tokens of sequences) {
      const key = keyOf(tokens);
      if (!groups.has(key)) group.set(key, tokens);
    }
    for (const key of group.keys()) groups.set(key, group);
  }
  return groups;
}

function keyOf(tokens: Tokens): string {
  return tokens.join(" ");
}

function cutBytes(cut: Cut): number {
  return cut.residual.byteLength + cut.mlpIn.byteLength;
}
