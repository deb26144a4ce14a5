import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { RefusedInput } from "../core/errors.js";
import { defaultCacheFolder } from "../model/cut-cache.js";

/** Parts of a covariance's name, which tell it from the others in a folder of statistics. */
export interface CovarianceName {
  /** Last part of the model folder's path. */
  model: string;
  /** Name of the texts. */
  dataset: string;
  /** 0-based layer whose value matrix it belongs to. */
  layer: number;
  /** Of the stored sum, as released files call it. */
  dtype: string;
  /** Number of texts. */
  samples: number;
}

/** The dtype of what is collected here. */
export const DTYPE = "float32";

/** Path of a covariance within EasyEdit's folder of statistics (easyeditor/models/rome/layer_stats.py). */
export function covarianceFile({ model, dataset, layer, dtype, samples }: CovarianceName): string {
  for (const name of [model, dataset]) requireName(name);
  return join(model, `${dataset}_stats`, `model.layers.${layer}.mlp.down_proj_${dtype}_mom2_${samples}.npz`);
}

/** The file beside a covariance that says where it comes from. */
export function sideFile(path: string): string {
  return path.replace(/\.npz$/, ".json");
}

function requireName(name: string): void {
  if (/^[^/\\]+$/.test(name) && name !== "." && name !== "..") return;
  throw new RefusedInput("a name cannot be that of a folder", {
    where: "statistics",
    found: name,
    expected: "a name without slashes",
  });
}

/** The user's own folder of statistics, beside the one for cuts: everything that looks for statistics looks there. */
export function defaultStatsFolder(): string {
  return join(dirname(defaultCacheFolder()), "stats");
}

/** Folders that are looked through for statistics, in order: `named` from the current folder on, the project's, the user's. */
export function statsFolders(named: string): string[] {
  const project = fileURLToPath(new URL("../../data/stats", import.meta.url));
  return [...new Set([resolve(named), project, defaultStatsFolder()])];
}
