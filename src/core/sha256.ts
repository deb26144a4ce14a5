/** SHA-256 (FIPS 180-4) of bytes that come in parts. */
export interface Sha256 {
  update(bytes: Uint8Array): void;
  /** The 32 bytes of the hash; nothing can be added afterwards. */
  digest(): Uint8Array;
}

const BLOCK = 64;
/** Bytes at the end of the last block that hold the length. */
const LENGTH = 8;

const PRIMES = firstPrimes(64);
/** The first 32 bits behind the point of square and cube roots of primes. */
const START = Int32Array.from(PRIMES.slice(0, 8), (prime) => fraction(Math.sqrt(prime)));
const ROUNDS = Int32Array.from(PRIMES, (prime) => fraction(Math.cbrt(prime)));

/** Plain JavaScript, for where Node's own is not. */
export function createSha256(): Sha256 {
  const state = Int32Array.from(START);
  const words = new Int32Array(BLOCK);
  const open = new Uint8Array(BLOCK); // the block that is not yet full
  const openView = new DataView(open.buffer);
  let filled = 0;
  let total = 0;

  function update(bytes: Uint8Array): void {
    total += bytes.length;
    let at = 0;
    if (filled > 0) {
      at = Math.min(BLOCK - filled, bytes.length);
      open.set(bytes.subarray(0, at), filled);
      filled += at;
      if (filled < BLOCK) return;
      mix(state, words, openView, 0);
    }
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (; at + BLOCK <= bytes.length; at += BLOCK) mix(state, words, view, at);
    open.set(bytes.subarray(at));
    filled = bytes.length - at;
  }

  return {
    update,
    digest() {
      const bits = BigInt(total) * 8n;
      const blocks = filled + 1 + LENGTH <= BLOCK ? 1 : 2;
      const end = new Uint8Array(blocks * BLOCK - filled);
      end[0] = 0x80;
      new DataView(end.buffer).setBigUint64(end.length - LENGTH, bits);
      update(end);
      const hash = new DataView(new ArrayBuffer(32));
      for (const [i, word] of state.entries()) hash.setInt32(4 * i, word);
      return new Uint8Array(hash.buffer);
    },
  };
}

/** One block of 64 bytes, mixed into the state. */
function mix(state: Int32Array, words: Int32Array, bytes: DataView, offset: number): void {
  for (let i = 0; i < 16; i++) words[i] = bytes.getInt32(offset + 4 * i);
  for (let i = 16; i < BLOCK; i++) {
    const x = words[i - 15] as number;
    const y = words[i - 2] as number;
    const spreadX = turn(x, 7) ^ turn(x, 18) ^ (x >>> 3);
    const spreadY = turn(y, 17) ^ turn(y, 19) ^ (y >>> 10);
    words[i] = ((words[i - 16] as number) + spreadX + (words[i - 7] as number) + spreadY) | 0;
  }
  let [a, b, c, d, e, f, g, h] = state as unknown as [number, number, number, number, number, number, number, number];
  for (let i = 0; i < BLOCK; i++) {
    const chosen = (e & f) ^ (~e & g);
    const majority = (a & b) ^ (a & c) ^ (b & c);
    const spreadE = turn(e, 6) ^ turn(e, 11) ^ turn(e, 25);
    const spreadA = turn(a, 2) ^ turn(a, 13) ^ turn(a, 22);
    const sum = (h + spreadE + chosen + (ROUNDS[i] as number) + (words[i] as number)) | 0;
    h = g;
    g = f;
    f = e;
    e = (d + sum) | 0;
    d = c;
    c = b;
    b = a;
    a = (sum + spreadA + majority) | 0;
  }
  const mixed = [a, b, c, d, e, f, g, h];
  for (let i = 0; i < mixed.length; i++) state[i] = (state[i] as number) + (mixed[i] as number);
}

function turn(word: number, by: number): number {
  return (word >>> by) | (word << (32 - by));
}

function fraction(root: number): number {
  return Math.floor((root - Math.floor(root)) * 2 ** 32);
}

function firstPrimes(count: number): number[] {
  const primes: number[] = [];
  for (let n = 2; primes.length < count; n++) if (primes.every((prime) => n % prime !== 0)) primes.push(n);
  return primes;
}
