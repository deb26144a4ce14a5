/*
 * The normaliser of UltraEdit (methods-locate.md "UltraEdit"): mean and spread of (h, g), the input of a matrix beside the
 * gradient of its output. All matrices of one shape have one together. It is computed in float64 and kept in float32.
 */

/** Inputs h of a matrix at n target tokens, row-major [n, in], and gradients g of its outputs, [n, out]. */
export interface Pairs {
  n: number;
  h: Float32Array;
  g: Float32Array;
}

/** The pairs of several micro-batches under each other. */
export function joined(parts: readonly Pairs[]): Pairs {
  const under = (side: "h" | "g") => {
    const all = new Float32Array(parts.reduce((sum, part) => sum + part[side].length, 0));
    let at = 0;
    for (const { [side]: rows } of parts) {
      all.set(rows, at);
      at += rows.length;
    }
    return all;
  };
  return { n: parts.reduce((sum, { n }) => sum + n, 0), h: under("h"), g: under("g") };
}

/** Mean and spread of the pairs so far: `count` of them, each of in + out numbers. */
export interface Spread {
  count: number;
  mean: Float32Array;
  /** Sum of squared distances from the mean; the authors' counts each group's own a little higher. */
  var: Float32Array;
}

/** float32's: what the authors' code adds to every divisor. */
const EPSILON = 2 ** -23;

export function noSpread(width: number): Spread {
  return { count: 0, mean: new Float32Array(width), var: new Float32Array(width) };
}

/** The spread with more pairs. One pair alone has no variance: NaN in the authors' code, 0 here. */
export function withPairs(before: Spread, { n, h, g }: Pairs): Spread {
  const count = before.count + n;
  const mean = before.mean.slice();
  const squares = before.var.slice();
  const inner = h.length / n;
  for (let j = 0; j < mean.length; j++) {
    const [from, width, column] = j < inner ? [h, inner, j] : [g, mean.length - inner, j - inner];
    let sum = 0;
    for (let t = 0; t < n; t++) sum += from[t * width + column] as number;
    const own = sum / n;
    let square = 0;
    for (let t = 0; t < n; t++) square += ((from[t * width + column] as number) - own) ** 2;
    const shift = own - (before.mean[j] as number);
    const within = n === 1 ? 0 : (n * square) / (n - 1); // n var_unbiased
    mean[j] = (before.mean[j] as number) + (n * shift) / count;
    squares[j] = (before.var[j] as number) + within + (before.count * n * shift ** 2) / count;
  }
  return { count, mean, var: squares };
}

/** v = -lr |h_norm|^2 g_norm of every pair, row-major [n, out]. */
export function valuesOf({ n, h, g }: Pairs, { count, mean, var: squares }: Spread, lr: number): Float64Array {
  const [inner, out] = [h.length / n, g.length / n];
  const scale = Float64Array.from(squares, (square) => 1 / (Math.sqrt(square / (count - 1 + EPSILON)) + EPSILON));
  const normal = (x: number, j: number) => (x - (mean[j] as number)) * (scale[j] as number);
  const values = new Float64Array(n * out);
  for (let t = 0; t < n; t++) {
    let length = 0;
    for (let j = 0; j < inner; j++) length += normal(h[t * inner + j] as number, j) ** 2;
    for (let j = 0; j < out; j++) {
      values[t * out + j] = -lr * length * normal(g[t * out + j] as number, inner + j);
    }
  }
  return values;
}
