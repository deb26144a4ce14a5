import { layerTensorNames, tensorShapes } from "../../model/checkpoint.js";
import type { LlamaConfig } from "../../model/config.js";
import type { Site } from "../../model/patch.js";
import { linear } from "../../model/weight.js";
import { tf } from "../../tensor/tf.js";
import type { GradientFactors } from "../factors.js";
import type { StateTensor } from "../state.js";
import { type MendOptions, sitesOf } from "./options.js";

/*
 * The network that turns the factors of a gradient into those of an update (Mitchell et al. 2022, section 3.1). Matrices
 * of one shape share one; the rows of scale and shift, its modes, tell them apart. Its tensors have names:
 *   edit_lrs                                     [matrices]
 *   (IN, OUT).layers.0.u|v|bias|scale|shift      [d, r], [r, d], [d], [modes, d], [modes, d], d = IN + OUT; the same of layers.1
 *   (IN, OUT).u_mean|u_std, v_mean|v_std         [IN], [OUT]: of inputs, and of the gradients of outputs
 */

/** An edited matrix and its place in the network. */
export interface Slot {
  site: Site;
  /** 0-based, among all of them. */
  index: number;
  inner: number;
  out: number;
  /** Name of its network: "(64, 176)", inputs first. */
  shape: string;
  /** Place among the matrices of its shape. */
  mode: number;
}

/** The edited matrices in their order. */
export function slotsOf(options: Pick<MendOptions, "inner_params">, config: LlamaConfig): Slot[] {
  const shapes = tensorShapes(config);
  const seen = new Map<string, number>();
  return sitesOf(options).map((site, index) => {
    const [out, inner] = shapes.get(layerTensorNames(site.layer)[site.matrix]) as [number, number];
    const shape = `(${inner}, ${out})`;
    const mode = seen.get(shape) ?? 0;
    seen.set(shape, mode + 1);
    return { site, index, inner, out, shape, mode };
  });
}

export const EDIT_LRS = "edit_lrs";
export const LAYERS = [0, 1] as const;

/** Shapes of the tensors that are trained, by name. */
export function trainedShapes(slots: readonly Slot[], rank: number): Map<string, number[]> {
  const shapes = new Map([[EDIT_LRS, [slots.length]]]);
  for (const { shape, inner, out } of slots) {
    const d = inner + out;
    const modes = slots.filter((slot) => slot.shape === shape).length;
    for (const layer of LAYERS) {
      const of = (part: string) => `${shape}.layers.${layer}.${part}`;
      shapes.set(of("u"), [d, rank]).set(of("v"), [rank, d]).set(of("bias"), [d]);
      shapes.set(of("scale"), [modes, d]).set(of("shift"), [modes, d]);
    }
  }
  return shapes;
}

/** Shapes of the statistics that factors are normalised by, by name. */
function statisticsShapes(slots: readonly Slot[]): Map<string, number[]> {
  return new Map(
    slots.flatMap(({ shape, inner, out }) => [
      [`${shape}.u_mean`, [inner]],
      [`${shape}.u_std`, [inner]],
      [`${shape}.v_mean`, [out]],
      [`${shape}.v_std`, [out]],
    ]),
  );
}

/** Shapes of all tensors of a network, by name. */
export function networkShapes(slots: readonly Slot[], rank: number): Map<string, number[]> {
  return new Map([...trainedShapes(slots, rank), ...statisticsShapes(slots)]);
}

/** A network as plain values. */
export type NetworkValues = Readonly<Record<string, StateTensor>>;

/** Tensors of a network, by name. */
export type NetworkTensors = Readonly<Record<string, tf.Tensor>>;

/** The tensors that the update of one matrix needs. The caller disposes them. */
export function tensorsFor({ shape }: Slot, values: NetworkValues): NetworkTensors {
  const needed = Object.entries(values).filter(([name]) => name === EDIT_LRS || name.startsWith(`${shape}.`));
  return Object.fromEntries(needed.map(([name, { data, shape }]) => [name, tf.tensor(data, [...shape])]));
}

/** Keeps what never varied from being divided by 0. */
const EPSILON = 1e-7;

/** An update of a matrix, W <- W + left^T right. */
export type Update = {
  left: tf.Tensor2D; // [n, out]
  right: tf.Tensor2D; // [n, in]
};

/**
 * The update that the network makes of a gradient's factors: lr delta'^T x'. Differentiable in the network's tensors.
 * @param factors x [n, in], delta [n, out]
 */
export function updateOf(network: NetworkTensors, slot: Slot, { x, delta }: GradientFactors): Update {
  return tf.tidy(() => {
    const of = <T extends tf.Tensor>(part: string) => network[`${slot.shape}.${part}`] as T;
    const normal = (rows: tf.Tensor2D, side: "u" | "v"): tf.Tensor2D =>
      tf.div(tf.sub(rows, of(`${side}_mean`)), tf.add(of(`${side}_std`), EPSILON));
    let h = tf.concat([normal(x, "u"), normal(delta, "v")], 1); // [n, d]
    for (const layer of LAYERS) {
      const part = <T extends tf.Tensor>(name: string) => of<T>(`layers.${layer}.${name}`);
      const ofMode = (name: string) => tf.slice(part<tf.Tensor2D>(name), [slot.mode, 0], [1, -1]); // [1, d]
      const z: tf.Tensor2D = tf.add(linear(linear(h, part<tf.Tensor2D>("v")), part<tf.Tensor2D>("u")), part("bias")); // [n, d]
      // At 0 the gradient of maximum is 1, and that of relu 0: a network that begins with u = 0 would never leave it.
      h = tf.add(h, tf.maximum(tf.add(tf.mul(z, ofMode("scale")), ofMode("shift")), 0));
    }
    const [right, moved] = tf.split(h, [slot.inner, slot.out], 1) as [tf.Tensor2D, tf.Tensor2D];
    const lr = tf.slice(network[EDIT_LRS] as tf.Tensor1D, slot.index, 1);
    return { left: tf.mul(moved, lr) as tf.Tensor2D, right };
  });
}
