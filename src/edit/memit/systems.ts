import { solvePositive } from "../../stats/cholesky.js";

/*
 * Closed forms of an update by systems of the size of a batch, n, not of the matrix, m: less work, and exacter in float64
 * than those of m (methods-locate.md "Small systems only"). Vectors are the columns of a matrix, as a list.
 */

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] as number) * (b[i] as number);
  return sum;
}

/** The lower triangle of A^T B, a row each, for A^T B that is symmetric. @param known its first rows */
export function innerProducts(
  a: readonly Float64Array[],
  b: readonly Float64Array[],
  known: readonly Float64Array[] = [],
): Float64Array[] {
  const row = (i: number) =>
    Float64Array.from({ length: i + 1 }, (_, j) => dot(a[i] as Float64Array, b[j] as Float64Array));
  return [...known, ...a.slice(known.length).map((_, i) => row(known.length + i))];
}

/**
 * The last rows of (weight I + A^T B)^-1 B^T, for A^T B that is at least 0. [count] of [m]
 * @param triangle that of A^T B, as `innerProducts` gives it
 * @throws {LabFailure} where the system is singular
 */
export function ridgeRows(
  triangle: readonly Float64Array[],
  b: readonly Float64Array[],
  { weight, count = b.length }: { weight: number; count?: number },
): Float64Array[] {
  const n = b.length;
  const system = new Float64Array(n * n);
  for (const [i, row] of triangle.entries()) {
    system.set(row, i * n);
    system[i * n + i] = (system[i * n + i] as number) + weight;
  }
  const wanted = new Float64Array(n * count); // the last columns of the identity
  for (let j = 0; j < count; j++) wanted[(n - count + j) * count + j] = 1;
  const shares = solvePositive(system, n, wanted);
  return Array.from({ length: count }, (_, j) => {
    const sum = new Float64Array(b[0]?.length ?? 0);
    for (const [i, vector] of b.entries()) {
      const share = shares[i * count + j] as number;
      for (let p = 0; p < sum.length; p++) sum[p] = (sum[p] as number) + share * (vector[p] as number);
    }
    return sum;
  });
}
