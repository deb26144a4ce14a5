import { RefusedInput } from "./errors.js";
import { startSha256 } from "./hash.js";

/**
 * A seeded generator of random numbers, handed in as a value and forked by name.
 * The same seed and names give the same stream on every machine; no stream depends on how much of another was used.
 */
export interface Rng {
  /** A float in [0, 1) with 32 random bits. */
  uniform(): number;
  /** An integer in [0, bound). */
  integer(bound: number): number;
  /** Fills an array with such integers, the same that as many calls of `integer` give. */
  integers(bound: number, into: Uint32Array): void;
  /** A standard normal value (Box-Muller). */
  normal(): number;
  /** An independent generator for one purpose, e.g. `rng.fork("mask", shard)`. */
  fork(...names: (string | number)[]): Rng;
}

/** Numbers that are made at once: within one loop the state needs no memory, and bootstraps take millions. */
const AHEAD = 128;

/** Makes a generator (xoshiro128**, Blackman and Vigna 2018) keyed by the SHA-256 of the seed and the fork names. */
export function createRng(seed: number, path: readonly (string | number)[] = []): Rng {
  const hash = startSha256();
  hash.update(new TextEncoder().encode(JSON.stringify([seed, ...path])));
  const { buffer, byteOffset } = hash.digest();
  const key = new DataView(buffer, byteOffset);
  const state = Int32Array.from([0, 4, 8, 12], (offset) => key.getInt32(offset, true));
  state[3] = (state[3] as number) | 1; // never the all-zero state
  const ahead = new Uint32Array(AHEAD);
  let used = AHEAD;

  function refill(): void {
    advance(state, ahead);
    used = 0;
  }

  const uniform = () => {
    if (used === AHEAD) refill();
    return (ahead[used++] as number) / 2 ** 32;
  };
  return {
    uniform,
    integer: (bound) => Math.floor(uniform() * bound),
    integers: (bound, into) => {
      for (let i = 0; i < into.length; i++) {
        if (used === AHEAD) refill();
        into[i] = ((ahead[used++] as number) / 2 ** 32) * bound;
      }
    },
    normal: () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()),
    fork: (...names) => createRng(seed, [...path, ...names]),
  };
}

/** Moves a state on, and writes the 32 random bits of every step. */
function advance(state: Int32Array, bits: Uint32Array): void {
  let [a, b, c, d] = state as unknown as [number, number, number, number];
  for (let i = 0; i < bits.length; i++) {
    bits[i] = Math.imul(rotate(Math.imul(b, 5), 7), 9);
    const shifted = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= shifted;
    d = rotate(d, 11);
  }
  state.set([a, b, c, d]);
}

/** @throws {RefusedInput} for a seed that a user gave and that is no whole number from 0 on. */
export function requireSeed(seed: unknown): asserts seed is number {
  if (Number.isSafeInteger(seed) && (seed as number) >= 0) return;
  throw new RefusedInput("a seed cannot be used", {
    where: "seed",
    found: typeof seed === "number" ? String(seed) : seed,
    expected: "a whole number from 0 on",
  });
}

function rotate(x: number, k: number): number {
  return (x << k) | (x >>> (32 - k));
}
