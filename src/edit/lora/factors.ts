import type { Rng } from "../../core/rng.js";
import { layerTensorNames, tensorShapes } from "../../model/checkpoint.js";
import type { LlamaConfig } from "../../model/config.js";
import { lowRankChange, type MatrixName, type Patch, type Site, siteName } from "../../model/patch.js";
import { tf } from "../../tensor/tf.js";
import type { LoraOptions } from "./options.js";

/*
 * All factors lie end to end in one vector, those of a kind and a module side by side through the layers: one kernel works on
 * all layers, the tape joins the gradients again, and Adam, which goes entry by entry, moves them all at once.
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

/** Factors of a kind of one module, in all layers that have them: [L, rows, columns]. */
export interface Group extends Pick<Factor, "kind"> {
  shape: [number, number, number];
}

/** The factors of a model. */
export interface Layout {
  /** Module by module, each through the layers. */
  sites: readonly Site[];
  /** Of each module in turn: A, B and, of adalora, E. */
  groups: readonly Group[];
  /** Of each group in turn. */
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
  const L = sites.length / options.target_modules.length;
  const shapes = tensorShapes(config);
  const parts = options.target_modules.flatMap((_, module) => {
    const through = sites.slice(module * L, (module + 1) * L);
    const { layer, matrix } = through[0] as Site;
    return factorsOf(lora_type, rank, shapes.get(layerTensorNames(layer)[matrix]) as [number, number]).map(
      (factor) => ({
        group: { kind: factor.kind, shape: [L, ...factor.shape] as [number, number, number] },
        factors: through.map((site) => ({ ...factor, name: `${siteName(site)}.${factor.kind}` })),
      }),
    );
  });
  const factors = parts.flatMap(({ factors }) => factors);
  return {
    sites,
    groups: parts.map(({ group }) => group),
    factors,
    size: sizesOf(factors).reduce((sum, size) => sum + size, 0),
    scale: lora_alpha / (lora_type === "lora" ? rank : rank + RANK_EPSILON),
  };
}

/** The matrices that have factors, module by module. */
export function sitesOf(
  { layers, target_modules }: Pick<LoraOptions, "layers" | "target_modules">,
  { layers: count }: Pick<LlamaConfig, "layers">,
): Site[] {
  const named = layers.length === 0 ? Array.from({ length: count }, (_, layer) => layer) : layers;
  return target_modules.flatMap((module) =>
    named.map((layer) => ({ layer, matrix: module.replace("_proj", "") as MatrixName })),
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

/** The groups in the vector, each in its shape; differentiable in it. */
export function separated({ groups }: Layout, vector: tf.Tensor1D): tf.Tensor3D[] {
  const sizes = groups.map(({ shape }) => shape.reduce((size, side) => size * side));
  const pieces = tf.split(vector, sizes);
  return groups.map(({ shape }, i) => (pieces[i] as tf.Tensor1D).reshape(shape) as tf.Tensor3D);
}

/** A change of a matrix, W + left right^T. */
export interface Pair {
  left: tf.Tensor2D; // [out, r]
  right: tf.Tensor2D; // [in, r]
}

/** The change of each site: scale B A or, of adalora, scale B diag(E) A; differentiable in the vector. */
export function pairsOf(layout: Layout, vector: tf.Tensor1D): Pair[] {
  const { groups, scale } = layout;
  const all = separated(layout, vector);
  const starts = groups.flatMap(({ kind }, i) => (kind === "A" ? [i] : []));
  return starts.flatMap((start) => {
    const [A, B] = [all[start], all[start + 1]] as [tf.Tensor3D, tf.Tensor3D]; // [L, r, in], [L, out, r]
    const E = groups[start + 2]?.kind === "E" ? all[start + 2] : undefined; // [L, r, 1]
    const scales = E === undefined ? scale : tf.mul(tf.transpose(E, [0, 2, 1]), scale); // [L, 1, r]
    const rights = layersIn(tf.transpose(A, [0, 2, 1]));
    const lefts = layersIn(tf.mul(B, scales));
    return lefts.map((left, layer) => ({ left, right: rights[layer] as tf.Tensor2D }));
  });
}

/** One matrix for each layer; differentiable. TensorFlow.js 4.22 has no gradient of `unstack` where it gives one. */
function layersIn(group: tf.Tensor3D): tf.Tensor2D[] {
  return group.shape[0] === 1 ? [tf.squeeze(group, [0])] : (tf.unstack(group) as tf.Tensor2D[]);
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
