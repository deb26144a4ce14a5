import { z } from "zod";
import { RefusedInput } from "../../core/errors.js";
import { type Change, deltaChange, type Patch, siteName } from "../../model/patch.js";
import { linear } from "../../model/weight.js";
import { tf } from "../../tensor/tf.js";
import { type EditState, type StateTensor, stateTensor } from "../state.js";
import type { Slot, Update } from "./network.js";

/** All updates of a matrix together: rows of factors, or their sum [out, in] once that is smaller. */
export type Held = Update | Whole;

/** A sum of updates, [out, in]. A type, not an interface: tidy takes it for a container of tensors. */
type Whole = { whole: tf.Tensor2D };

/** No update. */
export function nothingHeld({ inner, out }: Slot): Held {
  return { left: tf.zeros([0, out]), right: tf.zeros([0, inner]) };
}

/** One more update of a matrix. What is given stays; what is returned is the caller's. */
export function withUpdate(held: Held, update: Update, { inner, out }: Slot): Held {
  const product = ({ left, right }: Update): tf.Tensor2D => tf.matMul(left, right, true);
  if (isNothing(update)) return copied(held);
  if (isNothing(held)) return copied(update);
  return tf.tidy((): Held => {
    if ("whole" in held) return { whole: tf.add(held.whole, product(update)) };
    const rows = held.left.shape[0] + update.left.shape[0];
    const both: Update = {
      left: tf.concat([held.left, update.left]),
      right: tf.concat([held.right, update.right]),
    };
    return rows * (inner + out) > inner * out ? { whole: product(both) } : both;
  });
}

function isNothing(held: Held): boolean {
  return !("whole" in held) && held.left.shape[0] === 0;
}

/** The same updates in tensors of their own. */
export function copied(held: Held): Held {
  return "whole" in held ? { whole: held.whole.clone() } : { left: held.left.clone(), right: held.right.clone() };
}

export function disposeHeld(held: readonly Held[]): void {
  tf.dispose(held.map((one) => Object.values(one)));
}

/** The changes of the matrices, in their order. */
export function patchOf(slots: readonly Slot[], held: readonly Held[]): Patch {
  return slots.flatMap(({ site, index }) => {
    const own = held[index] as Held;
    return isNothing(own) ? [] : [{ site, change: changeOf(own) }];
  });
}

/** y + x (left^T right)^T: W + left^T right, without the product. */
export function changeOf(held: Held): Change {
  if ("whole" in held) return deltaChange(held.whole);
  return (x, own) => tf.add(own(), tf.matMul(linear(x, held.right), held.left));
}

/** Of each matrix the rows of its factors; null where the sum is held. */
const rowsSchema = z.array(z.int().nonnegative().nullable());

/** Updates as plain values: `layers.2.up.left` and `.right`, or `layers.2.up` where the sum is held. */
export async function stateOf(slots: readonly Slot[], held: readonly Held[]): Promise<Omit<EditState, "edits">> {
  const tensors: Record<string, StateTensor> = {};
  for (const { site, index } of slots) {
    for (const [side, tensor] of Object.entries(held[index] as Held) as [string, tf.Tensor2D][]) {
      if (tensor.shape[0] === 0) continue;
      const name = side === "whole" ? siteName(site) : `${siteName(site)}.${side}`;
      tensors[name] = { shape: tensor.shape, data: await tensor.data<"float32">() };
    }
  }
  return { tensors, json: held.map((one) => ("whole" in one ? null : one.left.shape[0])) };
}

/** The same updates again. @throws {RefusedInput} for a state of other matrices */
export function loadedFrom(saved: EditState, slots: readonly Slot[]): Held[] {
  const rows = rowsSchema.length(slots.length).safeParse(saved.json);
  if (!rows.success) {
    throw new RefusedInput("saved edits do not fit the model", {
      where: "rows of the saved factors",
      found: saved.json,
      expected: `a number or null for each of ${slots.length} matrices`,
    });
  }
  const values = slots.map(({ site, index, inner, out }) => {
    const name = siteName(site);
    const n = rows.data[index] as number | null;
    if (n === null) return { whole: { data: stateTensor(saved, name, [out, inner]), shape: [out, inner] } };
    const side = (side: "left" | "right", size: number) => {
      const shape = [n, size];
      return { data: n === 0 ? new Float32Array() : stateTensor(saved, `${name}.${side}`, shape), shape };
    };
    return { left: side("left", out), right: side("right", inner) };
  });
  // All are proved before the first tensor is made.
  return values.map((one) =>
    Object.fromEntries(
      Object.entries(one).map(([side, { data, shape }]) => [side, tf.tensor2d(data, shape as [number, number])]),
    ),
  ) as Held[];
}
