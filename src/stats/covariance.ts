import { RefusedInput, takeTurn } from "../core/errors.js";
import { sha256File } from "../core/files.js";
import { type BadPivot, factorise, solveFactored } from "./cholesky.js";
import type { NpyArray } from "./npy.js";
import { type NpzFile, openNpz } from "./npz.js";

/**
 * C = E[k k^T] of the keys of one value matrix, k [m] its input at one token, as EasyEdit stores it: the sum over tokens
 * and their number (easyeditor/util/runningstats.py, `SecondMoment`).
 */
export interface Covariance {
  readonly path: string;
  /** Of the file. */
  readonly sha256: string;
  /** m */
  readonly size: number;
  /** Tokens it is the mean over, and texts they stand in. */
  readonly count: number;
  readonly sampleSize: number;
  /** The mean of |k|^2. */
  readonly trace: number;
  /** C, row-major [m, m], made anew at every call. */
  mean(): Float64Array;
  /**
   * Makes the factor that `solve` uses, m^3 / 6 multiplications (a second at m = 2048, minutes at 14336), with turns for
   * other work in between. `solve` makes it itself where nobody did.
   * @throws {RefusedInput} when C is not positive definite
   * @throws {Interrupted} when the signal is aborted
   */
  factorise(options?: { signal?: AbortSignal | undefined; onProgress?: (share: number) => void }): Promise<void>;
  /**
   * C^-1 B, in float64.
   * @param b one vector [m], or several as the columns of B, row-major [m, n]
   * @throws {RefusedInput} when C is not positive definite
   */
  solve(b: Float64Array): Float64Array;
}

/** Names of the arrays in EasyEdit's files. */
const ARRAYS = {
  constructor: "mom2.constructor",
  count: "mom2.count",
  sum: "mom2.mom2",
  samples: "sample_size",
} as const;

/** The class whose state such a file is, and how EasyEdit writes it. */
const STATISTIC = "SecondMoment";
const CONSTRUCTOR = `easyeditor.util.runningstats.${STATISTIC}()`;

/** Share of the Cauchy-Schwarz bound by which the two halves of a sum may differ: float32 rounds. */
const SYMMETRY = 1e-3;

/** Rows and columns of a tile: both it and its mirror image stay in the cache. */
const TILE = 64;

type Sum = Float32Array | Float64Array;

/**
 * Opens a covariance: EasyEdit's own file, or one that was collected here.
 * @param options `size`: the intermediate size of the model, m
 * @throws {RefusedInput} naming file and array, for another size, no tokens, NaN, or what is no covariance
 */
export async function openCovariance(path: string, { size: m }: { size: number }): Promise<Covariance> {
  const { sum, count, sampleSize } = await readSum(path, m);
  const trace = requireCovariance(sum, m, path) / count;
  const sha256 = await sha256File(path);
  let factor: Float64Array | null = null;

  function* factorSteps(): Generator<number> {
    if (factor !== null) return;
    requireEnough(path, count, m);
    const matrix = meanOf(sum, m, count);
    const bad = yield* factorise(matrix, m);
    if (bad !== null) throw notPositive(path, bad, { count, m });
    factor = matrix;
  }

  return {
    ...{ path, sha256, size: m, count, sampleSize, trace },
    mean: () => meanOf(sum, m, count),
    async factorise({ signal, onProgress } = {}) {
      for (const rows of factorSteps()) {
        onProgress?.(1 - (1 - rows / m) ** 3); // what is left is a cube of the rows left
        await takeTurn(signal, "the factorisation of a covariance");
      }
    },
    solve(b) {
      if (b.length === 0 || b.length % m !== 0)
        throw new RangeError(`${b.length} numbers for rows of a [${m}, n] matrix`);
      for (const _ of factorSteps());
      return solveFactored(factor as unknown as Float64Array, m, b);
    },
  };
}

/** The arrays of a covariance's file, as EasyEdit has them. sum [size, size] */
export function covarianceArrays(content: {
  sum: Float32Array;
  size: number;
  count: number;
  sampleSize: number;
}): Record<string, NpyArray> {
  const { sum, size, count, sampleSize } = content;
  const one = (value: number): NpyArray => ({ type: "i8", shape: [], data: BigInt64Array.of(BigInt(value)) });
  return {
    [ARRAYS.constructor]: { type: "U", shape: [], data: [CONSTRUCTOR] },
    [ARRAYS.count]: one(count),
    [ARRAYS.sum]: { type: "f4", shape: [size, size], data: sum },
    [ARRAYS.samples]: one(sampleSize),
  };
}

async function readSum(path: string, m: number): Promise<{ sum: Sum; count: number; sampleSize: number }> {
  const file = await openNpz(path);
  try {
    if (file.names.includes(ARRAYS.constructor)) await requireStatistic(file);
    const count = await wholeNumber(file, ARRAYS.count);
    const sampleSize = await wholeNumber(file, ARRAYS.samples);
    const { shape } = await file.header(ARRAYS.sum); // before its values, which may be a gigabyte
    if (shape.length !== 2 || shape[0] !== shape[1]) throw noCovariance(file, shapeText(shape), "a square matrix");
    if (shape[0] !== m) {
      throw new RefusedInput("a covariance is of another model", {
        where: `${path}: ${ARRAYS.sum}`,
        found: shapeText(shape),
        expected: `${shapeText([m, m])}, the model's intermediate size`,
      });
    }
    return { sum: (await file.read(ARRAYS.sum, "f4", "f8")).data, count, sampleSize };
  } finally {
    await file.close();
  }
}

async function requireStatistic(file: NpzFile): Promise<void> {
  const found = (await file.read(ARRAYS.constructor, "U")).data.join();
  if (found.includes(STATISTIC)) return;
  throw noCovariance(file, found, `the state of a ${STATISTIC}`, ARRAYS.constructor);
}

async function wholeNumber(file: NpzFile, name: string): Promise<number> {
  const { data, shape } = await file.read(name, "i8", "i4");
  const value = Number(data[0]);
  if (data.length === 1 && Number.isSafeInteger(value) && value > 0) return value;
  throw noCovariance(file, data.length === 1 ? value : shapeText(shape), "one whole number above 0", name);
}

/** @returns the trace of the sum */
function requireCovariance(sum: Sum, m: number, path: string): number {
  const refuse = (row: number, column: number, expected: string): never => {
    const value = sum[row * m + column];
    throw noCovariance({ path }, `${value} in row ${row}, column ${column}`, expected);
  };
  let trace = 0;
  const roots = new Float64Array(m);
  for (let i = 0; i < m; i++) {
    const value = sum[i * m + i] as number;
    if (!(value >= 0 && value < Number.POSITIVE_INFINITY)) refuse(i, i, "sums of squares on the diagonal");
    roots[i] = Math.sqrt(value);
    trace += value;
  }
  for (const [top, left] of tiles(m)) {
    for (let i = top; i < Math.min(m, top + TILE); i++) {
      for (let j = left; j < Math.min(i, left + TILE); j++) {
        const one = sum[i * m + j] as number;
        const other = sum[j * m + i] as number;
        const most = (roots[i] as number) * (roots[j] as number);
        if (!(Math.abs(one) <= most * (1 + SYMMETRY))) refuse(i, j, `at most ${most}, by its diagonal`);
        if (!(Math.abs(one - other) <= most * SYMMETRY)) refuse(j, i, `${one}, as on the other side of the diagonal`);
      }
    }
  }
  if (trace === 0) throw noCovariance({ path }, "zeros alone", "a sum of k k^T");
  return trace;
}

/** C, with both halves of a sum that rounding made different at their mean. */
function meanOf(sum: Sum, m: number, count: number): Float64Array {
  const mean = new Float64Array(m * m);
  for (const [top, left] of tiles(m)) {
    for (let i = top; i < Math.min(m, top + TILE); i++) {
      for (let j = left; j <= Math.min(i, left + TILE - 1); j++) {
        const value = ((sum[i * m + j] as number) + (sum[j * m + i] as number)) / 2 / count;
        mean[i * m + j] = value;
        mean[j * m + i] = value;
      }
    }
  }
  return mean;
}

/** First row and column of every tile on or below the diagonal. */
function* tiles(m: number): Generator<[top: number, left: number]> {
  for (let top = 0; top < m; top += TILE) for (let left = 0; left <= top; left += TILE) yield [top, left];
}

const MORE_TEXTS = "collect it from more texts: several times as many tokens as its size";

function requireEnough(path: string, count: number, m: number): void {
  if (count >= m) return;
  throw new RefusedInput("a covariance has no inverse", {
    where: path,
    found: `the mean over ${count} tokens`,
    expected: `at least ${m} tokens, as many as it has rows`,
    hint: MORE_TEXTS,
  });
}

function notPositive(
  path: string,
  { index, left, of }: BadPivot,
  { count, m }: { count: number; m: number },
): RefusedInput {
  return new RefusedInput("a covariance is not positive definite", {
    where: path,
    found: `${left.toExponential(1)} left of ${of.toExponential(1)} at pivot ${index + 1} of ${m}, over ${count} tokens`,
    expected: "keys of which none follows from the others: every pivot well above 0",
    hint: MORE_TEXTS,
  });
}

function noCovariance(
  { path }: Pick<NpzFile, "path">,
  found: unknown,
  expected: string,
  name: string = ARRAYS.sum,
): RefusedInput {
  return new RefusedInput("a file holds no covariance", { where: `${path}: ${name}`, found, expected });
}

function shapeText(shape: readonly number[]): string {
  return `[${shape.join(", ")}]`;
}
