import { LabFailure } from "../../core/errors.js";
import { solvePositive } from "../../stats/cholesky.js";
import { type Pairs, type Spread, valuesOf } from "./spread.js";

/** The change of a matrix by n target tokens in factors: left^T right. Row-major left [n, out], right [n, in]. */
export interface Factors {
  n: number;
  left: Float32Array;
  right: Float32Array;
}

/**
 * The closed form: left holds the values v, right is (H H^T + I)^-1 H of the raw inputs H.
 * @throws {LabFailure} for a change that is not finite
 */
export function factorsOf(pairs: Pairs, spread: Spread, lr: number): Factors {
  const { n, h } = pairs;
  const factors = { n, left: Float32Array.from(valuesOf(pairs, spread, lr)), right: Float32Array.from(ridge(h, n)) };
  if (factors.left.every(Number.isFinite) && factors.right.every(Number.isFinite)) return factors;
  throw new LabFailure("the change of a matrix is not finite: a smaller lr keeps it finite");
}

/**
 * X = (H H^T + I)^-1 H, in float64. Where there are more rows than columns it is H (H^T H + I)^-1, the same by a smaller
 * system.
 * @param h row-major [n, in]
 * @returns [n, in]
 */
export function ridge(h: Float32Array, n: number): Float64Array {
  const inner = h.length / n;
  if (n <= inner) return solvePositive(gramOf(h, n), n, Float64Array.from(h));
  const turned = transposed(h, n);
  return transposed(solvePositive(gramOf(turned, inner), inner, turned), inner);
}

/** H H^T + I in its lower triangle, [n, n]. */
function gramOf(h: Float32Array | Float64Array, n: number): Float64Array {
  const inner = h.length / n;
  const gram = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = i === j ? 1 : 0;
      for (let p = 0; p < inner; p++) sum += (h[i * inner + p] as number) * (h[j * inner + p] as number);
      gram[i * n + j] = sum;
    }
  }
  return gram;
}

/** [n, m] -> [m, n] */
function transposed(x: Float32Array | Float64Array, n: number): Float64Array {
  const m = x.length / n;
  const turned = new Float64Array(x.length);
  for (let i = 0; i < n; i++) for (let j = 0; j < m; j++) turned[j * n + i] = x[i * m + j] as number;
  return turned;
}
