import { siteName } from "../../model/patch.js";
import { nullSpaceOf } from "../../stats/null-space.js";
import type { AssetNeed } from "../contract.js";
import type { Covariance } from "../covariance.js";
import { covarianceOf, type StatsOptions } from "../locate/options.js";
import { valueSite } from "./spread.js";

export type NullSpaceOptions = {
  /** Eigenvalues of the covariance below it span the null space. */
  nullspace_threshold: number;
};

/** The null space of a layer's keys as side data. Its value is a `NullSpace`. */
export function nullSpaceNeed(layer: number, options: NullSpaceOptions & StatsOptions): AssetNeed {
  const covariance = covarianceOf(valueSite(layer), options);
  return {
    name: `null space ${siteName(valueSite(layer))}`,
    async open(owner, control) {
      const { sha256, value } = await covariance.open(owner, control);
      return { sha256, value: await nullSpaceOf(value as Covariance, options.nullspace_threshold, control) };
    },
  };
}
