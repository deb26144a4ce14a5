import { LabFailure, RefusedInput } from "../../core/errors.js";
import { type CutBatch, mainOutput } from "../../model/cut.js";
import { linear, silu } from "../../model/llama.js";
import { tf } from "../../tensor/tf.js";
import type { Router, RouterInput } from "../contract.js";
import type { Decision, Memory, MemoryReading, Overlay, Route } from "../overlay.js";

/** min_act of a memory without edits: no activation reaches it (released: EditingMeanAct). */
export const NO_EDITS = 1e9;

/** released, at inference only: a sequence of more tokens than this uses its largest token distance. */
const LONG_SEQUENCE = 100;

const TINY = 1e-30; // keeps 0 / 0 out of the gradient; squares of anything smaller vanish in float32

/** How far a change of the value matrix's output counts: identity in the paper, SiLU on both outputs as released. */
export interface ActivationRule {
  activationOnDistance: boolean;
}

/**
 * Token distances || s(o') - s(o) ||, where o' = o + change. The gradient of a zero distance is zero, as in PyTorch.
 * @param main o, [N, D]
 * @param change o' - o, [N, D]; differentiable
 * @returns [N], padding included
 */
export function tokenDistances(main: tf.Tensor2D, change: tf.Tensor2D, rule: ActivationRule): tf.Tensor1D {
  const distances = tf.customGrad((...inputs) => {
    const [changed, save] = inputs as [tf.Tensor2D, tf.GradSaveFunc];
    const { moved, slope } = rule.activationOnDistance
      ? movedActivation(main, changed)
      : { moved: changed, slope: null };
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

/** A memory on the device. */
export interface WiseMemory {
  name: Memory;
  /** W' - W, [D, M]. */
  delta: tf.Tensor2D;
  minAct: number;
}

export interface RoutingRule extends ActivationRule {
  actRatio: number;
  retrieve: boolean;
  longSequenceMax: boolean;
}

/**
 * Decides one sequence.
 * Retrieve: the side memory answers when it reaches its threshold; then each saved memory takes over when it exceeds
 * both the best so far, which starts as the side memory's activation, and its own threshold.
 * Merge: main when both are under the threshold; else the larger, the side memory on a tie.
 * Source: paper eq. 5 and 7; released models/wise/WISE.py, WISEAdapter.forward.
 */
export function decide(readings: readonly MemoryReading[], rule: { retrieve: boolean }): Route {
  return rule.retrieve ? retrieveRoute(readings) : mergeRoute(readings);
}

function retrieveRoute(readings: readonly MemoryReading[]): Route {
  const [side, ...saved] = readings;
  if (side === undefined) return "main";
  let route: Route = side.delta >= side.threshold ? "side" : "main";
  let best = side.delta;
  for (const memory of saved) {
    if (memory.delta > best && memory.delta > memory.threshold) {
      route = memory.memory;
      best = memory.delta;
    }
  }
  return route;
}

function mergeRoute(readings: readonly MemoryReading[]): Route {
  const side = readings.find((reading) => reading.memory === "side");
  const merged = readings.find((reading) => reading.memory === "merged");
  if (side === undefined) return "main";
  const mergedDelta = merged?.delta ?? 0; // before the first merge the merged memory is the main one
  if (side.delta < side.threshold && mergedDelta < side.threshold) return "main";
  return mergedDelta > side.delta ? "merged" : "side";
}

/** The readings under their thresholds, min_act * act_ratio, and what is decided on them. */
function decideUnder<R extends RouterInput>(
  readings: readonly R[],
  rule: Pick<RoutingRule, "actRatio" | "retrieve">,
): { route: Route; readings: (R & { threshold: number })[] } {
  const under = readings.map((reading) => ({ ...reading, threshold: reading.minAct * rule.actRatio }));
  return { route: decide(under, rule), readings: under };
}

/**
 * The largest act_ratio at which `decide` names a memory. Retrieve: the side memory answers up to delta / min_act, and a
 * saved memory up to its own, but only where it exceeds the side memory, whether that one answers or not. Merge: the
 * larger activation counts, against the min_act of the side memory alone.
 */
function reach(readings: readonly RouterInput[], { retrieve }: Pick<RoutingRule, "retrieve">): number {
  const side = readings.find(({ memory }) => memory === "side");
  if (side === undefined) return Number.NEGATIVE_INFINITY;
  const others = readings.filter(({ memory, delta }) => memory !== "side" && delta > side.delta);
  const upTo = (delta: number, minAct: number) => (minAct === 0 ? Number.POSITIVE_INFINITY : delta / minAct);
  const answering = others.map(({ delta, minAct }) => upTo(delta, retrieve ? minAct : side.minAct));
  return Math.max(upTo(side.delta, side.minAct), ...answering);
}

/** WISE's router: act_ratio is read at inference only, training never sees it. */
export const wiseRouter: Router = {
  option: "actRatio" satisfies keyof RoutingRule,
  decide: (readings, options) => decideUnder(readings, ruleOf(options)),
  reach: (readings, options) => reach(readings, ruleOf(options)),
};

/** The part of a run's recorded options that the router reads. */
function ruleOf(options: Record<string, unknown>): Pick<RoutingRule, "actRatio" | "retrieve"> {
  const { actRatio, retrieve } = options;
  if (typeof actRatio === "number" && actRatio >= 0 && typeof retrieve === "boolean") return { actRatio, retrieve };
  throw new RefusedInput("a run does not say how its router decided", {
    where: "options of the protocol",
    found: { actRatio, retrieve },
    expected: "actRatio, a number from 0, and retrieve, true or false",
  });
}

/**
 * An overlay of WISE memories. Takes over the tensors and disposes them.
 * @param memories the side memory first, then the saved ones in order of saving, or the merged one
 */
export function createWiseOverlay(layer: number, memories: readonly WiseMemory[], rule: RoutingRule): Overlay {
  return {
    layer,
    async answer(model, batch) {
      const { main, changes, distances } = tf.tidy(() => {
        const main = mainOutput(model, batch, layer); // [N, D]
        const changes = memories.map(({ delta }) => linear(batch.mlpIn, delta)); // each [N, D]
        return { main, changes, distances: changes.map((change) => tokenDistances(main, change, rule)) };
      });
      try {
        const values = await Promise.all(distances.map((tensor) => tensor.data<"float32">()));
        const decisions = batch.lengths.map((length, row): Decision => {
          const readings = memories.map(({ name, minAct }, i) => ({
            memory: name,
            delta: requireFinite(activation(tokensOf(values[i] as Float32Array, batch, row), rule, length), name),
            minAct,
          }));
          return decideUnder(readings, rule);
        });
        const under = (memory: Memory) => {
          const place = memories.findIndex(({ name }) => name === memory);
          return tf.add(main, changes[place] as tf.Tensor2D) as tf.Tensor2D;
        };
        return { decisions, main, under, dispose: () => tf.dispose([main, ...changes]) };
      } catch (error) {
        tf.dispose([main, ...changes]);
        throw error;
      } finally {
        tf.dispose(distances);
      }
    },
    dispose: () => tf.dispose(memories.map(({ delta }) => delta)),
  };
}

function tokensOf(distances: Float32Array, batch: CutBatch, row: number): Float32Array {
  const T = batch.at.length;
  return distances.subarray(row * T, row * T + (batch.lengths[row] as number));
}

/** Routing activation of one sequence at inference. */
function activation(tokens: Float32Array, rule: RoutingRule, length: number): number {
  if (rule.longSequenceMax && length > LONG_SEQUENCE) return tokens.reduce((a, b) => Math.max(a, b), 0);
  return tokens.reduce((a, b) => a + b, 0) / length;
}

/** Every comparison with NaN is false: without this, a memory that holds one would pass for one that does not answer. */
function requireFinite(delta: number, memory: string): number {
  if (Number.isFinite(delta)) return delta;
  throw new LabFailure(`the routing activation of the ${memory} memory is ${delta}: an edit made it too large`);
}
