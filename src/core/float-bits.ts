/*
 * Conversions between float32 and the two 16-bit formats of checkpoints.
 * BF16 is the upper half of a float32; F16 has 5 exponent and 10 mantissa bits.
 */

const BF16_EXPONENT = 0x7f80;
const F32_EXPONENT = 0x7f800000;
const F32_MAGNITUDE = 0x7fffffff;
const F16_EXPONENT = 0x7c00;
/** Moves an F16 exponent (bias 15), shifted into place, to that of float32 (bias 127). Exact, for subnormals too. */
const F16_TO_F32 = 2 ** 112;

/** Writes `source` (BF16 bits) into `target` as float32, exactly. */
export function widenBf16(source: Uint16Array, target: Float32Array): void {
  const bits = bitsOf(target);
  for (let i = 0; i < source.length; i++) bits[i] = (source[i] as number) << 16;
}

/** Writes `source` (F16 bits) into `target` as float32, exactly. */
export function widenF16(source: Uint16Array, target: Float32Array): void {
  const bits = bitsOf(target);
  for (let i = 0; i < source.length; i++) {
    const half = source[i] as number;
    const sign = (half & 0x8000) << 16;
    const magnitude = (half & 0x7fff) << 13;
    if ((half & F16_EXPONENT) === F16_EXPONENT) {
      bits[i] = sign | F32_EXPONENT | magnitude;
    } else {
      bits[i] = magnitude;
      target[i] = (target[i] as number) * F16_TO_F32;
      bits[i] = (bits[i] as number) | sign;
    }
  }
}

/** Float32 values as BF16 bits, rounded to the nearest, ties to even. */
export function narrowToBf16(source: Float32Array): Uint16Array {
  const bits = bitsOf(source);
  const target = new Uint16Array(source.length);
  for (let i = 0; i < target.length; i++) {
    const word = bits[i] as number;
    const nan = (word & F32_MAGNITUDE) > F32_EXPONENT; // rounding could carry a NaN into another number
    target[i] = nan ? (word >>> 16) | 0x40 : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
  }
  return target;
}

/** Float32 values as F16 bits, rounded to the nearest, ties to even; from 65520 on they become infinite. */
export function narrowToF16(source: Float32Array): Uint16Array {
  const bits = bitsOf(source);
  const target = new Uint16Array(source.length);
  for (let i = 0; i < target.length; i++) target[i] = f16Of(bits[i] as number);
  return target;
}

function f16Of(word: number): number {
  const sign = (word >>> 16) & 0x8000;
  const magnitude = word & F32_MAGNITUDE;
  if (magnitude > F32_EXPONENT) return sign | F16_EXPONENT | 0x200; // NaN
  const exponent = (magnitude >>> 23) - 112;
  if (exponent >= 31) return sign | F16_EXPONENT;
  if (exponent < -10) return sign;
  // A normal F16 drops 13 mantissa bits; a subnormal one shows its leading bit and drops more.
  const mantissa = exponent > 0 ? magnitude - (112 << 23) : (magnitude & 0x7fffff) | 0x800000;
  const dropped = exponent > 0 ? 13 : 14 - exponent;
  const kept = mantissa >>> dropped;
  const rest = mantissa & ((1 << dropped) - 1);
  const half = 1 << (dropped - 1);
  const roundsUp = rest > half || (rest === half && (kept & 1) === 1);
  return sign | (kept + (roundsUp ? 1 : 0)); // a carry out of the mantissa raises the exponent, as it should
}

/** Index of the first NaN or infinity, or -1. */
export function firstNotFinite(values: Float32Array): number {
  const bits = bitsOf(values);
  for (let i = 0; i < bits.length; i++) if (((bits[i] as number) & F32_EXPONENT) === F32_EXPONENT) return i;
  return -1;
}

/** Index of the first NaN or infinity among bf16 bits, or -1. */
export function firstNotFiniteBf16(bits: Uint16Array): number {
  for (let i = 0; i < bits.length; i++) if (((bits[i] as number) & BF16_EXPONENT) === BF16_EXPONENT) return i;
  return -1;
}

function bitsOf(values: Float32Array): Int32Array {
  return new Int32Array(values.buffer, values.byteOffset, values.length);
}
