import { tf } from "../tensor/tf.js";
import { type CutBatch, changesAt, streamAfterValue } from "./cut.js";
import { type KeyValues, layerForward, MASKED, type Past, type Positions, rotaryTables } from "./llama.js";
import type { LlamaModel } from "./model.js";
import type { Patch } from "./patch.js";

/** The end of every sequence of a batch, from one position on. Earlier positions are keys and values that stay. */
export interface Tail extends Pick<CutBatch, "point" | "lengths" | "mlpIn" | "at"> {
  /** The stream behind the value matrix at which the batch is cut. [B T, D], T the longest tail */
  stream: tf.Tensor2D;
  /** Of every layer. */
  past: readonly Past[];
  dispose(): void;
}

/**
 * Cuts off what comes before a position of each sequence: under the causal mask a change there or later cannot reach it.
 * @param batch cut at a value matrix
 * @param from the first position of each tail
 * @param patch of changes that take no rows of the batch
 */
export function tailAfterValue(
  model: LlamaModel,
  batch: CutBatch,
  { from, patch }: { from: readonly number[]; patch: Patch },
): Tail {
  const { point, at } = batch;
  const past = Array.from({ length: model.config.layers }, (): Past => ({ seen: null }));
  const lengths = batch.lengths.map((length, row) => length - (from[row] as number));
  const own = positionsOfTails(model, { from, length: Math.max(...lengths) });
  const { stream, mlpIn } = tf.tidy(() => {
    const all = streamAfterValue(model, batch, patch);
    let x = all;
    for (let layer = point.layer + 1; layer < past.length; layer++) {
      const pass = { at, changes: changesAt(patch, layer), past: past[layer] };
      x = layerForward(x, model.layer(layer), model.config, pass);
    }
    const rows = rowsOfTails(from, { length: own.length, T: at.length });
    return { stream: tf.gather(all, rows), mlpIn: tf.gather(batch.mlpIn as tf.Tensor2D, rows) };
  });
  for (const layer of past) stayAsFar(layer, Math.max(...from));
  const tensors = () => [stream, mlpIn, own.cos, own.sin, own.causal, ...past.flatMap(({ seen }) => seenOf(seen))];
  return { point, lengths, mlpIn, at: own, stream, past, dispose: () => tf.dispose(tensors()) };
}

/** Rows of the batch in which the tails stand; behind the end of a sequence any. [B T], int32 */
function rowsOfTails(from: readonly number[], { length, T }: { length: number; T: number }): tf.Tensor1D {
  const rows = from.flatMap((first, row) => Array.from({ length }, (_, i) => row * T + Math.min(first + i, T - 1)));
  return tf.tensor1d(rows, "int32");
}

/** Their rotary tables, and their mask: of the past each sees its own positions alone. */
function positionsOfTails(
  { config }: LlamaModel,
  { from, length }: { from: readonly number[]; length: number },
): Positions {
  const before = Math.max(...from);
  const S = before + length;
  const causal = new Float32Array(from.length * length * S);
  for (const [row, first] of from.entries()) {
    for (let i = 0; i < length; i++) {
      const start = (row * length + i) * S;
      causal.fill(MASKED, start + first, start + before).fill(MASKED, start + before + i + 1, start + S);
    }
  }
  const places = from.flatMap((first) => Array.from({ length }, (_, i) => first + i));
  const { cos, sin } = rotaryTables(config, places);
  const shape: [number, number, number, number] = [from.length, 1, length, config.headDim];
  return {
    length,
    cos: tf.tensor4d(cos, shape),
    sin: tf.tensor4d(sin, shape),
    causal: tf.tensor4d(causal, [from.length, 1, length, S]),
  };
}

/** Ends a memory before a position, and lets it grow no more. */
function stayAsFar(past: Past, end: number): void {
  const { seen } = past;
  past.stays = true;
  if (seen === null) return;
  const [k, v] = [seen.k, seen.v].map((all) => tf.slice(all, [0, 0, 0, 0], [-1, -1, end, -1])) as [
    tf.Tensor4D,
    tf.Tensor4D,
  ];
  past.seen = end === 0 ? null : { k, v };
  tf.dispose(end === 0 ? [seen.k, seen.v, k, v] : [seen.k, seen.v]);
}

function seenOf(seen: KeyValues | null): tf.Tensor[] {
  return seen === null ? [] : [seen.k, seen.v];
}
