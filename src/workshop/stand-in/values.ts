import { narrowToBf16, narrowToF16 } from "../../core/float-bits.js";
import type { Rng } from "../../core/rng.js";

/** Sixteen bits of two bytes each, as they stand in the file. */
export type StoredDtype = "BF16" | "F16";

/** Values made at a time: memory stays at a few megabytes whatever the tensor's size. */
const CHUNK_VALUES = 1 << 20;

const QUANTILES = 1 << 16;
/** Width of the steps in which the normal density is summed, in standard deviations; halving it changes no bf16 value. */
const STEP = 1e-4;

/** Table from 16 random bits to a weight: a stored value for each of 2^16 numbers. */
export interface NormalTable {
  readonly values: Uint16Array;
  /** The stored 1. */
  readonly one: number;
}

/**
 * The 2^16 equally likely values of a normal distribution of mean 0, as they are stored. One look-up then makes a weight,
 * which Box-Muller takes three functions for. 2^16 values are as many as the stored dtypes can tell apart; what is
 * lost is the tail beyond 4.3 standard deviations.
 */
export function normalTable(deviation: number, dtype: StoredDtype): NormalTable {
  const upper = upperQuantiles().map((quantile) => quantile * deviation);
  const narrow = dtype === "BF16" ? narrowToBf16 : narrowToF16;
  return {
    values: narrow(Float32Array.of(...upper.map((value) => -value), ...upper)),
    one: narrow(Float32Array.of(1))[0] as number,
  };
}

/** The standard normal quantiles of 1/2 + (i + 1/2) / 2^16, found by walking along the density and summing it. */
function upperQuantiles(): number[] {
  const density = (z: number) => Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI);
  let z = 0;
  let mass = 0;
  return Array.from({ length: QUANTILES / 2 }, (_, i) => {
    const target = (i + 0.5) / QUANTILES;
    for (;;) {
      const next = mass + density(z + STEP / 2) * STEP;
      if (next > target) return z + (target - mass) / density(z);
      mass = next;
      z += STEP;
    }
  });
}

/** The bytes of one tensor: norms are 1, everything else is normal. */
export function* tensorBytes(shape: readonly number[], table: NormalTable, rng: Rng): Generator<Uint8Array> {
  const count = shape.reduce((product, extent) => product * extent, 1);
  for (let start = 0; start < count; start += CHUNK_VALUES) {
    const chunk = new Uint16Array(Math.min(CHUNK_VALUES, count - start));
    if (shape.length === 1) chunk.fill(table.one);
    else fillNormal(chunk, table.values, rng);
    yield new Uint8Array(chunk.buffer);
  }
}

/** Each 32 random bits make two values. */
function fillNormal(chunk: Uint16Array, values: Uint16Array, rng: Rng): void {
  for (let i = 0; i < chunk.length; i += 2) {
    const bits = rng.integer(2 ** 32);
    chunk[i] = values[bits & 0xffff] as number;
    chunk[i + 1] = values[bits >>> 16] as number; // behind the end of an odd chunk, an assignment without effect
  }
}
