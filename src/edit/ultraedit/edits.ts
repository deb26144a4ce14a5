import { z } from "zod";
import { RefusedInput } from "../../core/errors.js";
import { layerTensorNames, tensorShapes } from "../../model/checkpoint.js";
import type { LlamaConfig } from "../../model/config.js";
import type { Patch, Site } from "../../model/patch.js";
import { tf } from "../../tensor/tf.js";
import { type EditState, stateTensor } from "../state.js";
import { changeOf, type Delta, loadedDelta, type Shape, storedDelta } from "./deltas.js";
import type { Spread } from "./spread.js";

/** An edited matrix. */
export interface Slot {
  site: Site;
  shape: Shape;
}

/** The edits so far: the changes of the matrices, and the normalisers that later edits go on with. */
export interface Edits {
  /** Requests. */
  count: number;
  /** Their target tokens. */
  tokens: number;
  /** The change of each matrix, in their order; none before the first edit. */
  deltas: readonly Delta[];
  /** By shape of the matrices. */
  spreads: ReadonlyMap<string, Spread>;
}

export const NO_EDITS: Edits = { count: 0, tokens: 0, deltas: [], spreads: new Map() };

/** The matrices with their sizes, [out, in]. */
export function slotsOf(sites: readonly Site[], config: LlamaConfig): Slot[] {
  const shapes = tensorShapes(config);
  return sites.map((site) => {
    const [out, inner] = shapes.get(layerTensorNames(site.layer)[site.matrix]) as [number, number];
    return { site, shape: [out, inner] };
  });
}

/** A shape in a word: "14336x4096". */
export function shapeName([out, inner]: Shape): string {
  return `${out}x${inner}`;
}

/** All shapes, each once. */
export function shapesOf(slots: readonly Slot[]): Map<string, Shape> {
  return new Map(slots.map(({ shape }) => [shapeName(shape), shape]));
}

export function patchOf(slots: readonly Slot[], deltas: readonly Delta[]): Patch {
  return deltas.map((delta, i) => ({ site: (slots[i] as Slot).site, change: changeOf(delta) }));
}

export function disposeDeltas(deltas: readonly Delta[]): void {
  tf.dispose(deltas.flat());
}

/** The edits as plain values: `layers.1.gate.left` and `.right`, or their product `layers.1.gate`; `stat.176x64.mean` and `.var`. */
export async function storedEdits(
  slots: readonly Slot[],
  { count, tokens, deltas, spreads }: Edits,
): Promise<EditState> {
  const tensors: Record<string, EditState["tensors"][string]> = {};
  for (const [i, delta] of deltas.entries()) {
    Object.assign(tensors, await storedDelta(delta, { ...(slots[i] as Slot), n: tokens }));
  }
  for (const [name, { mean, var: squares }] of spreads) {
    tensors[`stat.${name}.mean`] = { shape: [mean.length], data: mean.slice() };
    tensors[`stat.${name}.var`] = { shape: [squares.length], data: squares.slice() };
  }
  return { edits: count, tensors, json: { tokens } };
}

/** The same edits again. @throws {RefusedInput} for a state of other matrices */
export function loadedEdits(slots: readonly Slot[], saved: EditState): Edits {
  const { edits: count } = saved;
  if (count === 0) return NO_EDITS;
  const json = z.object({ tokens: z.int().min(count) }).safeParse(saved.json);
  if (!json.success) {
    throw new RefusedInput("saved edits do not fit the method", {
      where: "target tokens of the saved edits",
      found: saved.json,
      expected: `a number of at least ${count}: one for each edit`,
    });
  }
  const { tokens } = json.data;
  const made = slots.map((slot) => loadedDelta(saved, { ...slot, n: tokens }));
  const spreads = new Map<string, Spread>();
  for (const [name, [out, inner]] of shapesOf(slots)) {
    const part = (of: "mean" | "var") => stateTensor(saved, `stat.${name}.${of}`, [inner + out]);
    const having = slots.filter(({ shape }) => shapeName(shape) === name).length;
    spreads.set(name, { count: tokens * having, mean: part("mean"), var: part("var") });
  }
  return { count, tokens, deltas: made.map((make) => make()), spreads }; // all are proved before the first tensor is made
}
