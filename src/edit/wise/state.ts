import { z } from "zod";
import { RefusedInput } from "../../core/errors.js";
import { sha256Bytes, sha256Json } from "../../core/hash.js";
import type { LlamaModel } from "../../model/model.js";
import {
  openSafetensors,
  type SafetensorsFile,
  type TensorToWrite,
  writeSafetensors,
} from "../../model/safetensors.js";
import { tf } from "../../tensor/tf.js";
import type { WiseOptions } from "./hparams.js";
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

const FORMAT = "wise-lab WISE edits, version 1";

const rows = z.object({
  templates: z.array(z.object({ ids: z.array(z.number()), promptTokens: z.number() })),
  irrelevant: z.array(z.number()),
});

/** The JSON beside the tensors of a saved state. */
const metadataSchema = z.object({
  format: z.literal(FORMAT),
  modelSha256: z.string(),
  options: z.record(z.string(), z.unknown()),
  edits: z.number().int().nonnegative(),
  minAct: z.number(),
  shardMinActs: z.array(z.number()),
  memoryMinActs: z.array(z.number()),
  history: z.object({
    current: z.array(rows),
    merged: z.array(z.object({ edits: z.array(rows), replayed: z.number().int() })),
  }),
});

/** The model and options a state belongs to. */
export interface StateOwner {
  model: LlamaModel;
  options: WiseOptions;
}

/** Writes a state to one safetensors file: float32 deltas and JSON metadata. Equal states give equal bytes. */
export async function saveWiseState(path: string, state: WiseState, owner: StateOwner): Promise<void> {
  const { tensors, metadata } = await storedForm(state, owner);
  await writeSafetensors(path, tensors, { "wise-lab": JSON.stringify(metadata) });
}

/** sha256 of everything that `saveWiseState` would write. */
export async function hashWiseState(state: WiseState, owner: StateOwner): Promise<string> {
  const { tensors, metadata } = await storedForm(state, owner);
  const hashes = Object.entries(tensors).map(([name, { shape, data }]) => {
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    return { name, shape, sha256: sha256Bytes(bytes) };
  });
  return sha256Json({ metadata, tensors: hashes });
}

async function storedForm(
  state: WiseState,
  owner: StateOwner,
): Promise<{ tensors: Record<string, TensorToWrite>; metadata: z.infer<typeof metadataSchema> }> {
  const named: [string, tf.Tensor2D][] = [["side", state.side]];
  state.shards.forEach(({ delta }, i) => {
    named.push([`shard.${i}`, delta]);
  });
  state.memories.forEach(({ delta }, i) => {
    named.push([`memory.${i}`, delta]);
  });
  if (state.merged !== null) named.push(["merged", state.merged]);
  const tensors: Record<string, TensorToWrite> = {};
  for (const [name, tensor] of named) {
    tensors[name] = { dtype: "F32", shape: tensor.shape, data: await tensor.data<"float32">() };
  }
  const metadata: z.infer<typeof metadataSchema> = {
    format: FORMAT,
    modelSha256: owner.model.sha256,
    options: { ...owner.options },
    edits: state.edits,
    minAct: state.minAct,
    shardMinActs: state.shards.map(({ minAct }) => minAct),
    memoryMinActs: state.memories.map(({ minAct }) => minAct),
    history: state.history as z.infer<typeof metadataSchema>["history"],
  };
  return { tensors, metadata };
}

/**
 * Reads a state that `saveWiseState` wrote.
 * @throws {RefusedInput} when the file is none, or belongs to another model or other options
 */
export async function loadWiseState(path: string, owner: StateOwner): Promise<WiseState> {
  const file = await openSafetensors(path);
  try {
    const metadata = parseMetadata(file);
    requireSame(path, "model sha256", metadata.modelSha256, owner.model.sha256);
    for (const key of Object.keys({ ...metadata.options, ...owner.options })) {
      if (key === "actRatio") continue; // read at inference only: the same edits serve every value of it
      const [found, expected] = [metadata.options[key], owner.options[key as keyof WiseOptions]];
      requireSame(path, `option ${key}`, JSON.stringify(found), JSON.stringify(expected));
    }
    return await readState(file, metadata, owner.model);
  } finally {
    await file.close();
  }
}

async function readState(
  file: SafetensorsFile,
  metadata: z.infer<typeof metadataSchema>,
  model: LlamaModel,
): Promise<WiseState> {
  const shape: [number, number] = [model.config.hiddenSize, model.config.intermediateSize];
  const made: tf.Tensor[] = [];
  const read = async (name: string) => {
    const found = file.tensors.get(name)?.shape;
    if (found === undefined || found.join() !== shape.join()) {
      throw new RefusedInput("an edit state does not fit the model", {
        where: `${file.path}, tensor ${name}`,
        found: found === undefined ? "no such tensor" : `[${found.join(", ")}]`,
        expected: `[${shape.join(", ")}]`,
      });
    }
    const tensor = tf.tensor2d(await file.read(name, { finite: true }), shape);
    made.push(tensor);
    return tensor;
  };
  const readAll = async (name: string, minActs: readonly number[]) => {
    const shards: Shard[] = [];
    for (const [i, minAct] of minActs.entries()) shards.push({ delta: await read(`${name}.${i}`), minAct });
    return shards;
  };
  try {
    return {
      edits: metadata.edits,
      side: await read("side"),
      minAct: metadata.minAct,
      shards: await readAll("shard", metadata.shardMinActs),
      memories: await readAll("memory", metadata.memoryMinActs),
      merged: file.tensors.has("merged") ? await read("merged") : null,
      history: metadata.history,
    };
  } catch (error) {
    tf.dispose(made);
    throw error;
  }
}

function parseMetadata(file: SafetensorsFile): z.infer<typeof metadataSchema> {
  const text = file.metadata["wise-lab"];
  const parsed = metadataSchema.safeParse(text === undefined ? undefined : parseJson(text));
  if (parsed.success) return parsed.data;
  throw new RefusedInput("not a saved WISE edit state", {
    where: `${file.path}, metadata "wise-lab"`,
    found: text,
    expected: `metadata with format "${FORMAT}": ${z.prettifyError(parsed.error)}`,
  });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // the schema then says what is missing
  }
}

function requireSame(path: string, what: string, found: string | undefined, expected: string | undefined): void {
  if (found === expected) return;
  throw new RefusedInput(`an edit state was made with another ${what}`, {
    where: `${path}, ${what}`,
    found,
    expected: expected ?? "no such option",
  });
}
