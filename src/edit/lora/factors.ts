import type { Rng } from "../../core/rng.js";
import { layerTensorNames, tensorShapes } from "../../model/checkpoint.js";
import type { LlamaConfig } from "../../model/config.js";
import { lowRankChange, type MatrixName, type Patch, type Site, siteName } from "../../model/patch.js";
import { tf } from "../../tensor/tf.js";
import type { LoraOptions } from "./options.js";

/*
 * The factors of all matrices lie end to end in one vector. One kernel cuts it up, the tape joins the gradients again, and
 * Adam, which goes entry by entry, moves them all at once.
 */

/** Added to the rank of adalora, where the scale divides by it (PEFT). */
const RANK_EPSILON = 1e-5;
/** Standard deviation of the entries that adalora begins with (PEFT). */
const ADALORA_START = 0.02;

/** One trained factor of a matrix W [out, in]: A [r, in], B [out, r] or, of adalora, E [r, 1]. */
export interface Factor {
  kind: "A" | "B" | "E";
  /** "layers.3.q.A" */
  name: string;
  shape: readonly [number, number];
  /** One of the numbers that it begins with. */
  start(rng: Rng): number;
}

/** The factors of a model. */
export interface Layout {
  sites: readonly Site[];
  /** Of each site in turn: A, B and, of adalora, E. */
  factors: readonly Factor[];
  /** Numbers in all of them, P. */
  size: number;
  /** Of their product. */
  scale: number;
}

export function layoutOf(options: LoraOptions, config: LlamaConfig): Layout {
  const { lora_type, lora_alpha } = options;
  const rank = (lora_type === "lora" ? options.rank : options.init_r) as number;
  const sites = sitesOf(options, config);
  const shapes = tensorShapes(config);
  const factors = sites.flatMap((site) => {
    const shape = shapes.get(layerTensorNames(site.layer)[site.matrix]) as [number, number];
    return factorsOf(lora_type, rank, shape).map((factor) => ({ ...factor, name: `${siteName(site)}.${factor.kind}` }));
  });
  return {
    sites,
    factors,
    size: sizesOf(factors).reduce((sum, size) => sum + size, 0),
    scale: lora_alpha / (lora_type === "lora" ? rank : rank + RANK_EPSILON),
  };
}

/** The matrices that have factors. */
export function sitesOf(
  { layers, target_modules }: Pick<LoraOptions, "layers" | "target_modules">,
  { layers: count }: Pick<LlamaConfig, "layers">,
): Site[] {
  const named = layers.length === 0 ? Array.from({ length: count }, (_, layer) => layer) : layers;
  return named.flatMap((layer) =>
    target_modules.map((module) => ({ layer, matrix: module.replace("_proj", "") as MatrixName })),
  );
}

/** The factors of one matrix W [out, width]. Their product is 0 when they begin. */
function factorsOf(
  type: LoraOptions["lora_type"],
  rank: number,
  [out, width]: [number, number],
): Omit<Factor, "name">[] {
  const zero = () => 0;
  const normal = (rng: Rng) => ADALORA_START * rng.normal();
  const uniform = (rng: Rng) => (2 * rng.uniform() - 1) / Math.sqrt(width);
  const A = { kind: "A", shape: [rank, width] } as const;
  const B = { kind: "B", shape: [out, rank] } as const;
  if (type === "lora") {
    return [
      { ...A, start: uniform },
      { ...B, start: zero },
    ];
  }
  return [
    { ...A, start: normal },
    { ...B, start: normal },
    { kind: "E", shape: [rank, 1], start: zero },
  ];
}

/** Numbers of each factor. */
function sizesOf(factors: readonly Factor[]): number[] {
  return factors.map(({ shape: [rows, columns] }) => rows * columns);
}

/** The factors that edits begin with, by name; keyed by (seed, factor). */
export function drawFactors({ factors }: Layout, rng: Rng): Float32Array[] {
  const sizes = sizesOf(factors);
  return factors.map(({ name, start }, i) => {
    const own = rng.fork("factor", name);
    return Float32Array.from({ length: sizes[i] as number }, () => start(own));
  });
}

/** Factors end to end, [P]. */
export function joined({ size }: Layout, values: readonly Float32Array[]): tf.Tensor1D {
  const all = new Float32Array(size);
  let at = 0;
  for (const each of values) {
    all.set(each, at);
    at += each.length;
  }
  return tf.tensor1d(all);
}

/** The factors in the vector, each in its shape; differentiable in it. */
export function separated({ factors }: Layout, vector: tf.Tensor1D): tf.Tensor2D[] {
  const pieces = tf.split(vector, sizesOf(factors));
  return factors.map(({ shape }, i) => (pieces[i] as tf.Tensor1D).reshape([...shape]) as tf.Tensor2D);
}

/** A change of a matrix, W + left right^T. */
export interface Pair {
  left: tf.Tensor2D; // [out, r]
  right: tf.Tensor2D; // [in, r]
}

/** The change of each site: scale B A or, of adalora, scale B diag(E) A; differentiable in the vector. */
export function pairsOf(layout: Layout, vector: tf.Tensor1D): Pair[] {
  const { sites, factors, scale } = layout;
  const all = separated(layout, vector);
  const each = factors.length / sites.length;
  return sites.map((_, i) => {
    const [A, B, E] = all.slice(i * each, (i + 1) * each) as [tf.Tensor2D, tf.Tensor2D, tf.Tensor2D?];
    const scales = E === undefined ? scale : tf.mul(E.reshape([1, -1]), scale); // [1, r]
    return { left: tf.mul(B, scales), right: tf.transpose(A) };
  });
}

/** Makes the input that the factors of a site see of the input of its matrix. [n, in] -> [n, in] */
export type Drop = (x: tf.Tensor2D, site: Site) => tf.Tensor2D;

/** The changes of all sites. */
export function patchOf({ sites }: Layout, pairs: readonly Pair[], drop: Drop = (x) => x): Patch {
  return sites.map((site, i) => {
    const { left, right } = pairs[i] as Pair;
    const change = lowRankChange(left, right);
    return { site, change: (x, own, pick) => change(drop(x, site), own, pick) };
  });
}
