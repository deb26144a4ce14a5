import type { NullSpace } from "../../stats/null-space.js";
import { defineMethod, type EditMethod, type EditSession, type EditSetting } from "../contract.js";
import { locateFixed } from "../locate/options.js";
import { type EditState, stateTensor } from "../state.js";
import {
  type AlphaeditOptions,
  alphaeditOptions,
  alphaeditPresets,
  alphaeditVariants,
  alphaeditWithoutEffect,
} from "./alphaedit-options.js";
import { spreadBytes, startSpreading } from "./batches.js";
import { SEARCH_ROWS, spreadPlan } from "./memit.js";
import { nullSpaceNeed } from "./null-space.js";
import { spreadCheck } from "./options.js";
import { type LayerStep, risingLayers, type SolveLayer } from "./spread.js";
import { innerProducts, ridgeRows } from "./systems.js";

/** AlphaEdit: MEMIT within the null space of what the matrices are asked otherwise, and off the keys of earlier edits. */
export const alphaedit = defineMethod<AlphaeditOptions>({
  name: "alphaedit",
  title: "AlphaEdit",
  algName: "AlphaEdit",
  about:
    "as MEMIT, with changes only along directions that other keys hardly have, and away from those of earlier edits",
  source: "Fang et al. 2025, arXiv 2410.02355",
  options: alphaeditOptions,
  variants: alphaeditVariants,
  fixed: locateFixed,
  withoutEffect: alphaeditWithoutEffect,
  presets: alphaeditPresets,
  stepLimit: "v_num_grad_steps",
  targetTerm: "nll",
  terms: { nll: "target", kl: "divergence", wd: "weight decay" },
  check: spreadCheck as NonNullable<EditMethod<AlphaeditOptions>["check"]>,
  plan: (options, config) => {
    const { needs, ...plan } = spreadPlan(options);
    return {
      ...plan,
      needs: { ...needs, assets: risingLayers(options).map((layer) => nullSpaceNeed(layer, options)) },
      together: options.batch_size === 1 ? 1 : "block",
      // The smaller side of a basis in float32, of every layer; a key in float64 and its products with those before it.
      bytes: (edits) => {
        const m = config.intermediateSize;
        const beside = (2 * m * m + 8 * edits * (m + edits / 2)) * options.layers.length;
        return spreadBytes(options, config, { edits, beside, rows: SEARCH_ROWS });
      },
    };
  },
  start: startAlphaedit,
});

/** Edits with AlphaEdit, from the untouched model or from a state. */
export function startAlphaedit(options: AlphaeditOptions, setting: EditSetting, saved?: EditState): EditSession {
  const solver = alphaeditSolver(options, setting, saved);
  return startSpreading({ options, ...solver }, { setting, batchSize: options.batch_size, saved });
}

/** P K of a layer's earlier edits, with the lower triangle of their inner products. */
interface Earlier {
  projected: readonly Float64Array[];
  products: readonly Float64Array[];
}

/**
 * R K^T P (K K^T P + Kp Kp^T P + L2 I)^-1, with Kp the keys of the edits before it (Fang et al. 2025, eq. 14): R times the
 * last rows of (L2 I + Q^T Q)^-1 Q^T, with Q = P [Kp, K].
 */
export function alphaeditSolver(
  options: AlphaeditOptions,
  { assets, model: { config } }: Pick<EditSetting, "assets" | "model">,
  saved?: EditState,
): { solve: SolveLayer; stood(steps: readonly LayerStep[]): void; stored(): EditState["tensors"] } {
  const layers = risingLayers(options);
  const nameOf = (layer: number) => `layers.${layer}.keys`;
  const spaceOf = (layer: number) => assets.get(nullSpaceNeed(layer, options).name)?.value as NullSpace;
  const earlier = new Map<number, Earlier>();
  for (const layer of layers) {
    const projected = saved === undefined ? [] : loadedKeys(saved, nameOf(layer), config.intermediateSize);
    earlier.set(layer, { projected, products: innerProducts(projected, projected) });
  }

  /** With further keys. A state keeps them as float32, so they are that from the beginning. */
  function withKeys(layer: number, keys: readonly Float64Array[]): Earlier {
    const before = earlier.get(layer) as Earlier;
    const added = keys.map((key) => Float64Array.from(Float32Array.from(spaceOf(layer).project(key))));
    const projected = [...before.projected, ...added];
    return { projected, products: innerProducts(projected, projected, before.products) };
  }

  return {
    solve(layer, keys) {
      const { projected, products } = withKeys(layer, keys);
      return ridgeRows(products, projected, { weight: options.L2, count: keys.length });
    },
    stood(steps) {
      for (const { layer, keys } of steps) earlier.set(layer, withKeys(layer, keys));
    },
    stored() {
      const stored = layers.flatMap((layer): [string, EditState["tensors"][string]][] => {
        const { projected } = earlier.get(layer) as Earlier;
        if (projected.length === 0) return [];
        const data = Float32Array.from(projected.flatMap((key) => [...key]));
        return [[nameOf(layer), { shape: [projected.length, config.intermediateSize], data }]];
      });
      return Object.fromEntries(stored);
    },
  };
}

function loadedKeys(saved: EditState, name: string, m: number): Float64Array[] {
  if (saved.edits === 0) return [];
  const data = stateTensor(saved, name, [saved.edits, m]);
  return Array.from({ length: saved.edits }, (_, i) => Float64Array.from(data.subarray(i * m, (i + 1) * m)));
}
