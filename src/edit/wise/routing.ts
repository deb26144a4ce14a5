import { LabFailure, RefusedInput } from "../../core/errors.js";
import { type CutBatch, mainOutput, valueInput } from "../../model/cut.js";
import { silu } from "../../model/llama.js";
import type { LlamaModel } from "../../model/model.js";
import { deltaChange, outputChange } from "../../model/patch.js";
import { linear } from "../../model/weight.js";
import { tf } from "../../tensor/tf.js";
import type { Router } from "../contract.js";
import type { Options } from "../option-table.js";
import { type Decision, MAIN, marginOf, type Overlay, type Reading } from "../overlay.js";
import type { WiseOptions } from "./options.js";

/** min_act of a memory without edits: no activation reaches it (released: EditingMeanAct). */
export const NO_EDITS = 1e9;

/** released, at inference only: a sequence of more tokens than this uses its largest token distance. */
const LONG_SEQUENCE = 100;

const TINY = 1e-30; // keeps 0 / 0 out of the gradient; squares of anything smaller vanish in float32

/** Measure of a change of the value matrix's output: identity in the paper, SiLU on both outputs as released. */
export type ActivationRule = Pick<WiseOptions, "distance_act">;

/**
 * Token distances || s(o') - s(o) ||, where o' = o + change. The gradient of a zero distance is zero, as in PyTorch.
 * @param main o, [N, D]
 * @param change o' - o, [N, D]; differentiable
 * @returns [N], padding included
 */
export function tokenDistances(main: tf.Tensor2D, change: tf.Tensor2D, rule: ActivationRule): tf.Tensor1D {
  const distances = tf.customGrad((...inputs) => {
    const [changed, save] = inputs as [tf.Tensor2D, tf.GradSaveFunc];
    const { moved, slope } = rule.distance_act ? movedActivation(main, changed) : { moved: changed, slope: null };
    const length = tf.sqrt(tf.sum(tf.square(moved), 1, true)); // [N, 1]
    save(slope === null ? [moved, length] : [moved, length, slope]);
    return {
      value: tf.squeeze(length, [1]),
      gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => {
        const [moved, length, slope] = saved as [tf.Tensor, tf.Tensor, tf.Tensor | undefined];
        const scale = tf.div(tf.expandDims(dy, 1), tf.maximum(length, TINY)); // [N, 1]
        const towards = tf.mul(moved, scale);
        return slope === undefined ? towards : tf.mul(towards, slope);
      },
    };
  });
  return distances(change) as tf.Tensor1D;
}

/** silu(o + change) - silu(o), and the slope of silu at o + change. */
function movedActivation(main: tf.Tensor2D, change: tf.Tensor2D): { moved: tf.Tensor; slope: tf.Tensor } {
  const output = tf.add(main, change);
  const sigmoid = tf.sigmoid(output);
  const active = tf.mul(output, sigmoid);
  return { moved: tf.sub(active, silu(main)), slope: tf.add(sigmoid, tf.sub(active, tf.mul(active, sigmoid))) };
}

/**
 * Routing activation per sequence while training: the mean over real tokens.
 * @param distances [N]
 * @param shares 1 / length on the real tokens of each sequence, 0 on padding, [B, T]
 * @returns [B]
 */
export function meanOverTokens(distances: tf.Tensor1D, shares: tf.Tensor2D): tf.Tensor1D {
  return tf.tidy(() => tf.sum(tf.mul(distances.reshape(shares.shape), shares), 1));
}

/** A variant beside the untouched model: the side memory in progress, the merged or a saved memory. */
export type Memory = "side" | "merged" | `memory-${number}`;

/** A memory on the device. */
export interface WiseMemory {
  name: Memory;
  /** W' - W, [D, M]; null for a memory without edits, which answers as the untouched model does. */
  delta: tf.Tensor2D | null;
  minAct: number;
}

/** Numbers that decide a sequence. */
export type RoutingRule = Pick<WiseOptions, "act_ratio" | "retrieve">;

/** A reading's activation, its memory's min_act, and the act_ratio up to which it reaches its threshold. */
function numbersOf({ numbers }: Reading): { delta: number; minAct: number; upTo: number } {
  const { delta, min_act: minAct } = numbers as { delta: number; min_act: number };
  return { delta, minAct, upTo: minAct === 0 ? Number.POSITIVE_INFINITY : delta / minAct };
}

/**
 * Decides one sequence. The threshold of a memory is min_act * act_ratio.
 * Retrieve: the side memory answers when it reaches its threshold; then each saved memory takes over when it exceeds
 * both the best so far, which starts as the side memory's activation, and its own threshold.
 * Merge: main when both are under the threshold; else the larger, the side memory on a tie.
 * Source: paper eq. 5 and 7; released models/wise/WISE.py, WISEAdapter.forward.
 */
export function decide(readings: readonly Reading[], rule: RoutingRule): string {
  const seen = readings.map((reading) => {
    const { delta, minAct } = numbersOf(reading);
    return { variant: reading.variant, delta, threshold: minAct * rule.act_ratio };
  });
  const [side, ...saved] = seen;
  if (side === undefined) return MAIN;
  if (!rule.retrieve) {
    const merged = saved[0] ?? { ...side, delta: 0 }; // before the first merge the merged memory is the main one
    if (side.delta < side.threshold && merged.delta < side.threshold) return MAIN;
    return merged.delta > side.delta ? merged.variant : side.variant;
  }
  let variant = side.delta >= side.threshold ? side.variant : MAIN;
  let best = side.delta;
  for (const memory of saved) {
    if (memory.delta > best && memory.delta > memory.threshold) {
      variant = memory.variant;
      best = memory.delta;
    }
  }
  return variant;
}

/** Rounding of activations: what is as near to another as this may stand on either side of it. */
const ROUNDING = 1e-5;

/**
 * Memories that `decide` could name at some act_ratio. Retrieve: one whose own threshold is reached at a larger
 * act_ratio than those of all stronger memories. Merge: the stronger one.
 */
export function reachable(readings: readonly Reading[], { retrieve }: Pick<RoutingRule, "retrieve">): Set<string> {
  const seen = readings.map((reading) => ({ variant: reading.variant, ...numbersOf(reading) }));
  const within = seen.filter(({ delta, upTo }, i) => {
    const stronger = seen.filter((other, j) => j !== i && other.delta > delta * (1 + ROUNDING));
    if (!retrieve) return stronger.length === 0;
    if (i > 0 && delta < (seen[0] as { delta: number }).delta * (1 - ROUNDING)) return false;
    return stronger.every((other) => other.upTo <= upTo * (1 + ROUNDING));
  });
  return new Set(within.map(({ variant }) => variant));
}

/** The readings with the margins that act_ratio gives them, and what is decided on them. */
function decideUnder<R extends Reading>(readings: readonly R[], rule: RoutingRule): { variant: string; readings: R[] } {
  const under = readings.map((reading) => {
    const { delta, minAct } = numbersOf(reading);
    return { ...reading, margin: marginOf(delta, minAct * rule.act_ratio) };
  });
  return { variant: decide(under, rule), readings: under };
}

/**
 * The largest act_ratio at which `decide` names a memory. Retrieve: the side memory answers up to delta / min_act, and a
 * saved memory up to its own, but only where it exceeds the side memory, whether that one answers or not. Merge: the
 * larger activation counts, against the min_act of the side memory alone.
 */
function reach(readings: readonly Reading[], { retrieve }: Pick<RoutingRule, "retrieve">): number {
  const [side, ...saved] = readings.map(numbersOf);
  if (side === undefined) return Number.NEGATIVE_INFINITY;
  const others = saved.filter(({ delta }) => delta > side.delta);
  const upTo = (delta: number, minAct: number) => (minAct === 0 ? Number.POSITIVE_INFINITY : delta / minAct);
  const answering = others.map(({ delta, minAct }) => upTo(delta, retrieve ? minAct : side.minAct));
  return Math.max(side.upTo, ...answering);
}

/** WISE's router: act_ratio is read at inference only, training never sees it. */
export const wiseRouter: Router = {
  called: (variant) => (variant === "side" ? "the side memory" : variant === "merged" ? "the merged memory" : variant),
  numbers: {
    delta: { symbol: "Δ", meaning: "routing activation against the memory" },
    min_act: { symbol: "min_act", meaning: "smallest in-scope activation of the memory's edits" },
  },
  // Only the side memory in progress holds edits as they were made; saved and merged ones went through a merge.
  rewritten: (variant) => variant !== "side",
  inference: {
    key: "act_ratio",
    answers: "below",
    decide: (readings, options) => decideUnder(readings, ruleOf(options)),
    turn: (readings, options) => reach(readings, ruleOf(options)),
  },
};

/** The part of a run's recorded options that the router reads. */
function ruleOf(options: Options): RoutingRule {
  const { act_ratio, retrieve } = options;
  if (typeof act_ratio === "number" && act_ratio >= 0 && typeof retrieve === "boolean") return { act_ratio, retrieve };
  throw new RefusedInput("a run does not say how its router decided", {
    where: "options of the protocol",
    found: { act_ratio, retrieve },
    expected: "act_ratio, a number from 0, and retrieve, true or false",
  });
}

/**
 * An overlay of WISE memories. Takes over the tensors and disposes them.
 * @param memories the side memory first, then the saved ones in order of saving, or the merged one
 */
export function createWiseOverlay(
  model: LlamaModel,
  memories: readonly WiseMemory[],
  rule: RoutingRule & ActivationRule & Pick<WiseOptions, "layer" | "long_sequence_max">,
): Overlay {
  const site = { layer: rule.layer, matrix: "down" } as const;
  const held = memories.flatMap(({ name, delta }) => (delta === null ? [] : [{ name, delta }]));
  const placeOf = (variant: string) => held.findIndex(({ name }) => name === variant);
  return {
    cut: { layer: rule.layer, at: "mlpIn" },
    async route(batch) {
      const made = tf.tidy(() => {
        const main = mainOutput(model, batch); // [N, D]
        return held.map(({ delta }) => {
          const change = linear(valueInput(batch), delta); // [N, D]
          return { edited: tf.add(main, change) as tf.Tensor2D, distances: tokenDistances(main, change, rule) };
        });
      });
      const dispose = () => tf.dispose(made.map(({ edited }) => edited));
      try {
        const values = await Promise.all(made.map(({ distances }) => distances.data<"float32">()));
        const decisions = batch.lengths.map((length, row): Decision => {
          const readings = memories.map(({ name, minAct }): Reading => {
            const tokens = values[placeOf(name)];
            const delta = tokens === undefined ? 0 : activation(tokensOf(tokens, batch, row), rule, length);
            return { variant: name, margin: 0, numbers: { delta: requireFinite(delta, name), min_act: minAct } };
          });
          return decideUnder(readings, rule);
        });
        const within = decisions.map(({ readings }) => reachable(readings, rule));
        return {
          decisions,
          patch(variant) {
            const output = made[placeOf(variant)]?.edited;
            return output === undefined ? [] : [{ site, change: outputChange(output) }];
          },
          later(variant) {
            const delta = held[placeOf(variant)]?.delta;
            return delta === undefined ? [] : [{ site, change: deltaChange(delta) }];
          },
          reachable: (variant, row) => within[row]?.has(variant) ?? false,
          dispose,
        };
      } catch (error) {
        dispose();
        throw error;
      } finally {
        tf.dispose(made.map(({ distances }) => distances));
      }
    },
    dispose: () => tf.dispose(held.map(({ delta }) => delta)),
  };
}

function tokensOf(distances: Float32Array, batch: CutBatch, row: number): Float32Array {
  const T = batch.at.length;
  return distances.subarray(row * T, row * T + (batch.lengths[row] as number));
}

/** Routing activation of one sequence at inference. */
function activation(
  tokens: Float32Array,
  { long_sequence_max }: Pick<WiseOptions, "long_sequence_max">,
  length: number,
): number {
  if (long_sequence_max && length > LONG_SEQUENCE) return tokens.reduce((a, b) => Math.max(a, b), 0);
  return tokens.reduce((a, b) => a + b, 0) / length;
}

/** Every comparison with NaN is false: without this, a memory that holds one would pass for one that does not answer. */
function requireFinite(delta: number, memory: string): number {
  if (Number.isFinite(delta)) return delta;
  throw new LabFailure(`the routing activation of the ${memory} memory is ${delta}: an edit made it too large`);
}
