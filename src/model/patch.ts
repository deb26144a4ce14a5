import { tf } from "../tensor/tf.js";
import { linear } from "./weight.js";

/** The matrices of a layer, by what they make. Each maps [n, in] to [n, out]. */
export const MATRICES = ["q", "k", "v", "o", "gate", "up", "down"] as const;
export type MatrixName = (typeof MATRICES)[number];

/** One matrix of a model. */
export interface Site {
  /** 0-based layer. */
  layer: number;
  matrix: MatrixName;
}

/** Takes, of a tensor with a row for each row of the batch, [N, ...], those rows that a product is made for, [n, ...]. */
export type PickRows = <T extends tf.Tensor>(perRow: T) => T;

/**
 * Stands in for the product y = x W^T of one matrix; differentiable wherever it is made of differentiable parts. It may
 * also only look: x is the matrix' input, and adding a variable to y gives the gradient of its output.
 * @param x input of the matrix, [n, in]
 * @param own computes y under the changes before this one, [n, out]
 */
export type Change = (x: tf.Tensor2D, own: () => tf.Tensor2D, pick: PickRows) => tf.Tensor2D;

/** Changes at matrices of a model, which itself stays as it is. The empty patch is the untouched model. */
export type Patch = readonly { site: Site; change: Change }[];

/** W + delta. delta [out, in] */
export function deltaChange(delta: tf.Tensor2D): Change {
  return (x, own) => tf.add(own(), linear(x, delta));
}

/** W + left right^T. left [out, r], right [in, r] */
export function lowRankChange(left: tf.Tensor2D, right: tf.Tensor2D): Change {
  return (x, own) => tf.add(own(), tf.matMul(tf.matMul(x, right), left, false, true));
}

/** Another output in place of the product. output [N, out], a row for each of those that `pick` takes from */
export function outputChange(output: tf.Tensor2D): Change {
  return (_x, _own, pick) => pick(output);
}

/** A layer at whose start, or at the input of whose value matrix, a forward pass is cut in two. */
export interface CutPoint {
  /** 0-based layer. */
  layer: number;
  at: "input" | "mlpIn";
}

/** The latest point before all of the sites: what comes before it is the same with and without changes there. */
export function cutBefore(sites: readonly Site[]): CutPoint {
  const layer = Math.min(...sites.map((site) => site.layer));
  const lowest = sites.filter((site) => site.layer === layer);
  return { layer, at: lowest.every(({ matrix }) => matrix === "down") ? "mlpIn" : "input" };
}

/** A cut point in a word, e.g. "layers.29.mlpIn". */
export function cutName({ layer, at }: CutPoint): string {
  return `layers.${layer}.${at}`;
}

/** A site in a word, e.g. "layers.29.down". */
export function siteName({ layer, matrix }: Site): string {
  return `layers.${layer}.${matrix}`;
}

/** Matrices of a layer's MLP; the others are those of its attention. */
const MLP: readonly MatrixName[] = ["gate", "up", "down"];

/**
 * The site that files of other programs name as `moduleName` does; ".weight" may follow, and the number may be in brackets.
 * Null for any other text.
 */
export function siteOfModule(name: string): Site | null {
  const form = /^model\.layers(?:\[(\d+)\]|\.(\d+))\.(mlp|self_attn)\.([a-z]+)_proj(?:\.weight)?$/;
  const [, inBrackets, plain, part, short] = form.exec(name) ?? [];
  const matrix = MATRICES.find((known) => known === short);
  if (matrix === undefined || MLP.includes(matrix) !== (part === "mlp")) return null;
  return { layer: Number(inBrackets ?? plain), matrix };
}

/** A site as Hugging Face names the module: "model.layers.29.mlp.down_proj". */
export function moduleName({ layer, matrix }: Site): string {
  return `model.layers.${layer}.${MLP.includes(matrix) ? "mlp" : "self_attn"}.${matrix}_proj`;
}
