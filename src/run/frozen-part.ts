import { type CutCache, defaultCacheFolder, openCutCache } from "../model/cut-cache.js";
import type { CutStoreOptions } from "../model/cut-store.js";
import type { FrozenProgress } from "../model/frozen.js";
import type { LlamaModel } from "../model/model.js";
import type { CutPoint } from "../model/patch.js";
import type { BackendReport } from "../tensor/backend.js";
import { environmentOf } from "./environment.js";

/** Settings for the results of a model's frozen part: every store of its cuts is made with them. */
export type FrozenPart = Pick<CutStoreOptions, "bytes" | "cache" | "ahead" | "onProgress">;

/** The user's wishes for keeping these results. */
export interface FrozenPartOptions {
  /**
   * Folder that keeps them between processes; null for none. By default the user's cache folder for a streamed model, none
   * for a whole one, which computes them again in little time.
   */
  cache?: string | null | undefined;
  /** Bytes that folder may take; 20 GB by default. */
  cacheBytes?: number | undefined;
  /** Told where a pass stands: at full size it takes minutes. */
  onFrozen?: ((progress: FrozenProgress) => void) | undefined;
  onNotice?: ((line: string) => void) | undefined;
}

export const DEFAULT_CACHE_BYTES = 20e9;

/** Bytes of cuts in memory, above a cache on disk. */
export const CACHED_STORE_BYTES = 256 * 1024 ** 2;

/** Bytes of the streams of a pass. The checkpoint is read once for all of them, so that more of them means fewer readings. */
export const PASS_BYTES = 512 * 1024 ** 2;

/** The folder that keeps the frozen part, or null; see `FrozenPartOptions.cache`. */
export function cacheFolder(wish: string | null | undefined, residence: LlamaModel["residence"]): string | null {
  return wish === undefined ? (residence === "streamed" ? defaultCacheFolder() : null) : wish;
}

/** @throws {RefusedInput} when the cache folder cannot be written to */
export async function openFrozenPart(
  model: LlamaModel,
  { point, backend }: { point: CutPoint; backend: BackendReport },
  options: FrozenPartOptions,
): Promise<FrozenPart> {
  const { onFrozen: onProgress, cacheBytes: limitBytes = DEFAULT_CACHE_BYTES, onNotice } = options;
  const folder = cacheFolder(options.cache, model.residence);
  if (folder === null) return { onProgress };
  const { hiddenSize, intermediateSize } = model.config;
  const computedWith = `${model.precision}; ${(await environmentOf(backend)).backend}`;
  const cache: CutCache = await openCutCache(folder, {
    key: { modelSha256: model.sha256, point, computedWith },
    limitBytes,
    hiddenSize,
    intermediateSize,
    ...(onNotice && { onNotice }),
  });
  // What a pass leaves must fit into the cache beside what the run is using.
  const bytesPerToken = 4 * (hiddenSize + (point.at === "mlpIn" ? intermediateSize : 0));
  const ahead = Math.floor(Math.min(PASS_BYTES / (4 * hiddenSize), limitBytes / 2 / bytesPerToken));
  return { cache, ahead, bytes: CACHED_STORE_BYTES, onProgress };
}
