import { RefusedInput } from "../core/errors.js";
import type { Covariance } from "./covariance.js";
import { type SpectrumOptions, spectrumOf } from "./spectrum.js";

/** Directions that keys hardly have: changes of a matrix along them leave what it answers (Fang et al. 2025, sec. 3.2). */
export interface NullSpace {
  /** m */
  readonly size: number;
  /** P k, the part of a vector that lies in it, [m]. */
  project(k: Float64Array): Float64Array;
}

/**
 * The span of the eigenvectors of C whose eigenvalue is below a threshold.
 * @throws {RefusedInput} for a threshold that leaves none
 */
export async function nullSpaceOf(
  covariance: Covariance,
  threshold: number,
  options?: SpectrumOptions,
): Promise<NullSpace> {
  const { values, vectors } = await spectrumOf(covariance, options);
  const m = values.length;
  const above = values.findIndex((value) => value >= threshold);
  const dimensions = above === -1 ? m : above;
  if (dimensions === 0) {
    throw new RefusedInput("a null space has no dimensions", {
      where: covariance.path,
      found: `no eigenvalue below ${threshold}`,
      expected: `a threshold above the least eigenvalue, ${values[0]?.toPrecision(3)}; their median is ${values[m >> 1]?.toPrecision(3)}`,
    });
  }
  const isSmall = dimensions <= m / 2;
  const basis = await vectors(isSmall ? [0, dimensions] : [dimensions, m]);
  return {
    size: m,
    project(k) {
      const within = spanned(basis, k);
      return isSmall ? within : k.map((x, i) => x - (within[i] as number));
    },
  };
}

/** The part of k in the span of orthonormal rows, [n, m]. */
function spanned(rows: Float32Array, k: Float64Array): Float64Array {
  const m = k.length;
  const part = new Float64Array(m);
  for (let at = 0; at < rows.length; at += m) {
    let along = 0;
    for (let i = 0; i < m; i++) along += (rows[at + i] as number) * (k[i] as number);
    for (let i = 0; i < m; i++) part[i] = (part[i] as number) + along * (rows[at + i] as number);
  }
  return part;
}
