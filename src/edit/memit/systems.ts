import { RefusedInput } from "../../core/errors.js";
import { factorise, solveFactored } from "../../stats/cholesky.js";

/** Inner products of vectors, row-major [n, n]. */
export function gramOf(left: readonly Float64Array[], right: readonly Float64Array[]): Float64Array {
  return Float64Array.from({ length: left.length * right.length }, (_, at) =>
    dot(left[Math.floor(at / right.length)] as Float64Array, right[at % right.length] as Float64Array),
  );
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] as number) * (b[i] as number);
  return sum;
}

/**
 * (S + I weight)^-1 V for a symmetric S of the size of the batch, not of the matrix.
 * @param system row-major [n, n]; it is lost
 * @param vectors rows of V, [n] of [m]
 * @throws {RefusedInput} when the system is singular
 */
export function solveSmall(
  system: Float64Array,
  vectors: readonly Float64Array[],
  { weight, where }: { weight: number; where: string },
): Float64Array[] {
  const n = vectors.length;
  const m = vectors[0]?.length ?? 0;
  for (let i = 0; i < n; i++) system[i * n + i] = (system[i * n + i] as number) + weight;
  const steps = factorise(system, n);
  let step = steps.next();
  while (!step.done) step = steps.next();
  if (step.value !== null) {
    throw new RefusedInput("the update of a matrix has no solution", {
      where,
      found: `a singular system of ${n} edits, at edit ${step.value.index}`,
      expected: "keys that differ, or a weight of what the matrix answered before",
    });
  }
  const columns = new Float64Array(n * m);
  vectors.forEach((vector, i) => void columns.set(vector, i * m));
  const solved = solveFactored(system, n, columns);
  return vectors.map((_, i) => solved.slice(i * m, (i + 1) * m));
}
