import { exists, sha256File } from "../../core/files.js";
import { siteName } from "../../model/patch.js";
import { nullSpaceOf } from "../../stats/null-space.js";
import { openProjection } from "../../stats/projection.js";
import type { AssetNeed } from "../contract.js";
import type { Covariance } from "../covariance.js";
import { covarianceOf, type StatsOptions } from "../locate/options.js";
import { type SpreadOptions, valueSite } from "./spread.js";

export type NullSpaceOptions = {
  /** Eigenvalues of the covariance below it span the null space. */
  nullspace_threshold: number;
  /** File of ready projections, one for each of `layers` in their order. */
  P_loc: string | null;
};

/** The null space of a layer's keys as side data: ready, or of the covariance. Its value is a `NullSpace`. */
export function nullSpaceNeed(
  layer: number,
  options: NullSpaceOptions & StatsOptions & Pick<SpreadOptions, "layers">,
): AssetNeed {
  const { P_loc: file, layers, nullspace_threshold: threshold } = options;
  const covariance = covarianceOf(valueSite(layer), options);
  return {
    name: `null space ${siteName(valueSite(layer))}`,
    async open(owner, control) {
      if (file !== null && (await exists(file))) {
        const place = { index: layers.indexOf(layer), count: layers.length, layer };
        return { sha256: await sha256File(file), value: await openProjection(file, owner, place) };
      }
      if (file !== null)
        control?.onNotice?.(`P_loc ${file} is not there: made of the statistics, as the released code does`);
      const { sha256, value } = await covariance.open(owner, control);
      return { sha256, value: await nullSpaceOf(value as Covariance, threshold, control) };
    },
  };
}
