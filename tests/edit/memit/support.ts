import { createRng } from "../../../src/core/rng.js";

/** Vectors of evenly distributed numbers from -1 to 1, [n] of [m]. */
export function sample(n: number, m: number, seed: number): Float64Array[] {
  const rng = createRng(seed);
  return Array.from({ length: n }, () => Float64Array.from({ length: m }, () => 2 * rng.uniform() - 1));
}

export function dot(a: Float64Array, b: Float64Array): number {
  return a.reduce((sum, x, i) => sum + x * (b[i] as number), 0);
}
