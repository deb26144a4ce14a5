import { z } from "zod";
import { RefusedInput } from "../../core/errors.js";
import type { LlamaModel } from "../../model/model.js";
import { tf } from "../../tensor/tf.js";
import { type EditState, type StateTensor, stateTensor } from "../state.js";
import { NO_HISTORY, type ReplayHistory } from "./replay.js";
import { NO_EDITS } from "./routing.js";

/** A saved memory: its delta to W, [D, M], and the smallest in-scope activation of its edits. */
export interface Shard {
  delta: tf.Tensor2D;
  minAct: number;
}

/** All that a sequence of WISE edits leaves behind. The model itself is never part of it. */
export interface WiseState {
  /** Edits made so far. */
  edits: number;
  /** The side memory in progress, W' - W, [D, M], and its min_act. */
  side: tf.Tensor2D;
  minAct: number;
  /** Shards saved since the last merge, oldest first. */
  shards: Shard[];
  /** Retrieve: merged memories, oldest first. */
  memories: Shard[];
  /** Merge: the one merged memory. */
  merged: tf.Tensor2D | null;
  history: ReplayHistory;
}

/** The state before the first edit. */
export function emptyState(model: LlamaModel): WiseState {
  const shape: [number, number] = [model.config.hiddenSize, model.config.intermediateSize];
  return {
    edits: 0,
    side: tf.zeros(shape),
    minAct: NO_EDITS,
    shards: [],
    memories: [],
    merged: null,
    history: NO_HISTORY,
  };
}

/** The same state in tensors of its own. */
export function copyState(state: WiseState): WiseState {
  const copy = ({ delta, minAct }: Shard): Shard => ({ delta: delta.clone(), minAct });
  return {
    ...state,
    side: state.side.clone(),
    shards: state.shards.map(copy),
    memories: state.memories.map(copy),
    merged: state.merged?.clone() ?? null,
  };
}

/** Every tensor of a state, to dispose it. */
export function tensorsOf(state: WiseState): tf.Tensor2D[] {
  const saved = [...state.shards, ...state.memories].map(({ delta }) => delta);
  return [state.side, ...saved, ...(state.merged === null ? [] : [state.merged])];
}

const rows = z.array(z.object({ ids: z.array(z.number()), promptTokens: z.number() }));

/** The part of a state that is no tensor. */
const stateSchema = z.object({
  minAct: z.number(),
  shardMinActs: z.array(z.number()),
  memoryMinActs: z.array(z.number()),
  merged: z.boolean(),
  history: z.object({
    current: z.array(rows),
    merged: z.array(z.object({ edits: z.array(rows), replayed: z.number().int() })),
  }),
});

/** A state as plain values: deltas to W, [D, M], and JSON. */
export async function storedState(state: WiseState): Promise<EditState> {
  const named: [string, tf.Tensor2D][] = [
    ["side", state.side],
    ...state.shards.map(({ delta }, i): [string, tf.Tensor2D] => [`shard.${i}`, delta]),
    ...state.memories.map(({ delta }, i): [string, tf.Tensor2D] => [`memory.${i}`, delta]),
    ...(state.merged === null ? [] : [["merged", state.merged] as [string, tf.Tensor2D]]),
  ];
  const tensors: Record<string, StateTensor> = {};
  for (const [name, tensor] of named) tensors[name] = { shape: tensor.shape, data: await tensor.data<"float32">() };
  const json = {
    minAct: state.minAct,
    shardMinActs: state.shards.map(({ minAct }) => minAct),
    memoryMinActs: state.memories.map(({ minAct }) => minAct),
    merged: state.merged !== null,
    history: state.history,
  };
  return { edits: state.edits, tensors, json };
}

/** The same state on the device. @throws {RefusedInput} when it is none, or does not fit the model */
export function loadedState(saved: EditState, model: LlamaModel): WiseState {
  const parsed = stateSchema.safeParse(saved.json);
  if (!parsed.success) {
    throw new RefusedInput("saved edits of another form", {
      where: "saved edits",
      found: z.prettifyError(parsed.error),
      expected: "what WISE keeps of its edits",
    });
  }
  const { minAct, shardMinActs, memoryMinActs, merged, history } = parsed.data;
  const shape: [number, number] = [model.config.hiddenSize, model.config.intermediateSize];
  const names = [
    "side",
    ...shardMinActs.map((_, i) => `shard.${i}`),
    ...memoryMinActs.map((_, i) => `memory.${i}`),
    ...(merged ? ["merged"] : []),
  ];
  const values = new Map(names.map((name) => [name, stateTensor(saved, name, shape)])); // all proved before the first is made
  const made = (name: string) => tf.tensor2d(values.get(name) as Float32Array, shape);
  return {
    edits: saved.edits,
    side: made("side"),
    minAct,
    shards: shardMinActs.map((minAct, i) => ({ delta: made(`shard.${i}`), minAct })),
    memories: memoryMinActs.map((minAct, i) => ({ delta: made(`memory.${i}`), minAct })),
    merged: merged ? made("merged") : null,
    history,
  };
}
