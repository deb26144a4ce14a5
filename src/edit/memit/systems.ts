import { solvePositive } from "../../stats/cholesky.js";

/*
 * Closed forms of an update by systems of the size of a batch, n, not of the matrix, m: less work, and exacter in float64
 * than those of m (methods-locate.md "Small systems only").
 */

/** Inner products of vectors, row-major [n, n]. */
function gramOf(left: readonly Float64Array[], right: readonly Float64Array[]): Float64Array {
  const n = right.length;
  return Float64Array.from({ length: left.length * n }, (_, at) => dot(left[Math.floor(at / n)], right[at % n]));
}

function dot(a: Float64Array | undefined, b: Float64Array | undefined): number {
  if (a === undefined || b === undefined) return Number.NaN;
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] as number) * (b[i] as number);
  return sum;
}

/** (weight I + A^T B)^-1 B^T, for a symmetric A^T B that is at least 0. Vectors are columns, in and out as a list, [n] of [m] */
export function ridgeRows(a: readonly Float64Array[], b: readonly Float64Array[], weight: number): Float64Array[] {
  const [n, m] = [b.length, b[0]?.length ?? 0];
  const system = gramOf(a, b);
  const rows = new Float64Array(n * m);
  b.forEach((vector, i) => {
    system[i * n + i] = (system[i * n + i] as number) + weight;
    rows.set(vector, i * m);
  });
  const solved = solvePositive(system, n, rows);
  return b.map((_, i) => solved.slice(i * m, (i + 1) * m));
}
