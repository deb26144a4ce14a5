import type { Cut, Sequences } from "./cut.js";
import type { CutCache } from "./cut-cache.js";
import { type FrozenProgress, frozenBatches, frozenPass } from "./frozen.js";
import type { LlamaModel } from "./model.js";
import type { CutPoint } from "./patch.js";

/** Cuts of one model at one point, computed once per prompt and shared by editing and scoring. */
export interface CutStore {
  readonly point: CutPoint;
  /** The cuts of the sequences, in order. Those that are missing run through the frozen part together. */
  get(sequences: Sequences, signal?: AbortSignal): Promise<Cut[]>;
}

export interface CutStoreOptions {
  /** Bytes of cuts to hold; least recently used dropped first. What one call asks for is always returned. */
  bytes?: number | undefined;
  /**
   * Groups of sequences that run through the frozen part in batches of their own: whenever one of a batch is missing, all
   * of it is computed. Batching decides the last bits of a float, so the cuts of a group are the same bits whoever asks
   * first, whatever was dropped, and in whichever process. A sequence that stands in several groups belongs to the first.
   */
  together?: Iterable<Sequences> | undefined;
  /**
   * Cache that keeps cuts between processes. With one, a pass also computes the rest of its groups and what later ones
   * will ask for.
   */
  cache?: CutCache | null | undefined;
  /** Tokens that a pass takes along beyond what is asked for, so that one reading of the layers serves many. */
  ahead?: number | undefined;
  onProgress?: ((progress: FrozenProgress) => void) | undefined;
}

type Tokens = readonly number[];

/** Sequences that are computed together, in batches. */
interface Group {
  batches: Sequences[];
  /** Its place among the groups; null for one that was made for a single call. */
  place: number | null;
}

/** Bytes of cuts that a store holds by default: a block of T=1000 on the lab model fits; larger models recompute. */
export const STORE_BYTES = 1024 ** 3;

/** Makes an empty store. */
export function createCutStore(model: LlamaModel, point: CutPoint, options: CutStoreOptions = {}): CutStore {
  const { together = [], cache = null, ahead = 0, onProgress } = options;
  const groups = groupsOf(together);
  const groupByKey = new Map(groups.flatMap((group) => group.batches.flat().map((tokens) => [keyOf(tokens), group])));
  const memory = createMemory(options.bytes ?? STORE_BYTES);

  /** The groups of the missing sequences; those that stand in none make one of their own. */
  function groupsWith(missing: ReadonlyMap<string, Tokens>): Set<Group> {
    const alone: Tokens[] = [];
    const found = new Set<Group>();
    for (const [key, tokens] of missing) {
      const group = groupByKey.get(key);
      if (group === undefined) alone.push(tokens);
      else found.add(group);
    }
    return alone.length === 0 ? found : found.add({ batches: frozenBatches(alone), place: null });
  }

  /** Batches of the needed groups and of those that follow, up to a number of tokens, that the cache does not hold. */
  async function alongWith(absent: readonly Sequences[], needed: ReadonlySet<Group>): Promise<Sequences[]> {
    const places = [...needed].map(({ place }) => place).filter((place) => place !== null);
    const taken: Sequences[] = [];
    if (cache === null || places.length === 0) return taken;
    const candidates = [...needed, ...groups.slice(Math.max(...places) + 1)].flatMap(({ batches }) => batches);
    let tokens = 0;
    for (const batch of candidates.filter((one) => !absent.includes(one))) {
      tokens += batch.flat().length;
      if (tokens > ahead) break;
      if (!(await cache.has(batch))) taken.push(batch);
    }
    return taken;
  }

  /** Hands on the cuts that the cache holds. @returns the batches that have to be computed */
  async function fromCache(
    needed: ReadonlySet<Group>,
    isMissing: (tokens: Tokens) => boolean,
    take: (cuts: readonly Cut[]) => void,
  ): Promise<Sequences[]> {
    const absent: Sequences[] = [];
    for (const batch of [...needed].flatMap(({ batches }) => batches)) {
      const wanted = [...batch.keys()].filter((i) => isMissing(batch[i] as Tokens));
      if (wanted.length === 0) continue;
      const cuts = (await cache?.read(batch, wanted)) ?? null;
      if (cuts === null) absent.push(batch);
      else take(cuts);
    }
    return absent;
  }

  return {
    point,
    async get(sequences, signal) {
      const found = new Map<string, Cut>();
      const missing = new Map<string, Tokens>();
      for (const tokens of sequences) {
        const key = keyOf(tokens);
        const cut = memory.get(key);
        if (cut === undefined) missing.set(key, tokens);
        else found.set(key, cut);
      }
      const take = (cuts: readonly Cut[]) => {
        for (const cut of cuts) {
          const key = keyOf(cut.tokens);
          if (missing.has(key)) found.set(key, cut);
          memory.put(key, cut);
        }
      };
      const needed = groupsWith(missing);
      const absent = await fromCache(needed, (tokens) => missing.has(keyOf(tokens)), take);
      if (absent.length > 0) {
        const batches = [...absent, ...(await alongWith(absent, needed))];
        await frozenPass(model, batches, {
          point,
          keeper: cache ?? undefined,
          signal,
          onProgress,
          async take(batch, cuts) {
            await cache?.write(batch, cuts);
            if (absent.includes(batch)) take(cuts);
          },
        });
      }
      return sequences.map((tokens) => found.get(keyOf(tokens)) as Cut);
    },
  };
}

/** Cuts in memory, least recently used dropped first. */
function createMemory(bytes: number) {
  const held = new Map<string, Cut>(); // in order of last use
  let size = 0;
  return {
    get(key: string): Cut | undefined {
      const cut = held.get(key);
      if (cut === undefined) return undefined;
      held.delete(key); // to be put back as the most recently used
      held.set(key, cut);
      return cut;
    },
    put(key: string, cut: Cut): void {
      if (held.has(key)) return; // another call was faster, or the rest of its group stayed
      held.set(key, cut);
      size += cutBytes(cut);
      for (const [oldest, old] of held) {
        if (size <= bytes) break;
        held.delete(oldest);
        size -= cutBytes(old);
      }
    },
  };
}

/** The groups in batches, each sequence where it stands first. */
function groupsOf(together: Iterable<Sequences>): Group[] {
  const known = new Set<string>();
  const groups: Group[] = [];
  for (const sequences of together) {
    const own = new Map<string, Tokens>();
    for (const tokens of sequences) {
      const key = keyOf(tokens);
      if (!known.has(key)) own.set(key, tokens);
    }
    for (const key of own.keys()) known.add(key);
    if (own.size > 0) groups.push({ batches: frozenBatches([...own.values()]), place: groups.length });
  }
  return groups;
}

function keyOf(tokens: Tokens): string {
  return tokens.join(" ");
}

function cutBytes(cut: Cut): number {
  return cut.stream.byteLength + (cut.mlpIn?.byteLength ?? 0);
}
