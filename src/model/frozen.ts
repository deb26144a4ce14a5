import { RefusedInput, takeTurn } from "../core/errors.js";
import { tf } from "../tensor/tf.js";
import type { Cut, Sequences } from "./cut.js";
import { type DistinctRows, distinctRows } from "./distinct.js";
import {
  type LayerPass,
  type LlamaLayer,
  layerBeforeValue,
  layerForward,
  type Positions,
  positions,
  type SharedRows,
} from "./llama.js";
import type { LlamaModel } from "./model.js";
import type { CutPoint } from "./patch.js";

/*
 * The frozen part: layer after layer over batches of prompts, up to the point where the model is cut.
 *
 * The layers are the outer loop, so that one reading of the checkpoint serves every batch of a pass. What stands between
 * two layers is one stream [U, D] per batch, a row for each distinct prefix; kept on disk, a pass that was killed goes on from the last layer it finished.
 */

/** Store of the streams between layers. */
export interface StreamKeeper {
  /** The stream that was kept for a batch, row-major [U, D], and the layer that takes it next; null for none. */
  readStream(batch: Sequences): Promise<{ next: number; x: Float32Array } | null>;
  /** Keeps a stream in place of the one before. @throws {LabFailure} when it cannot be written */
  writeStream(batch: Sequences, stream: { next: number; x: Float32Array }): Promise<void>;
  removeStream(batch: Sequences): Promise<void>;
}

/** Progress of a pass: so many of the batches have gone through so many of the layers up to the cut. */
export interface FrozenProgress {
  layer: number;
  layers: number;
  batch: number;
  batches: number;
}

export interface FrozenOptions {
  /** Point at which the model is cut. */
  point: CutPoint;
  keeper?: StreamKeeper | undefined;
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: FrozenProgress) => void) | undefined;
}

// Tokens, padding included, that go through the frozen part together: bounds its memory.
const FROZEN_BATCH_TOKENS = 4096;

/** Splits sequences, in order, into runs whose padded size stays within the batch limit. */
export function* batchesOf(
  sequences: readonly { readonly length: number }[],
  limit = FROZEN_BATCH_TOKENS,
): Generator<[start: number, end: number]> {
  let start = 0;
  let longest = 0;
  for (let end = 0; end < sequences.length; end++) {
    const length = (sequences[end] as { length: number }).length;
    if (end > start && Math.max(longest, length) * (end - start + 1) > limit) {
      yield [start, end];
      start = end;
      longest = 0;
    }
    longest = Math.max(longest, length);
  }
  if (start < sequences.length) yield [start, sequences.length];
}

/** The batches in which sequences go through the frozen part: they alone decide the last bits of their cuts. */
export function frozenBatches(sequences: Sequences): Sequences[] {
  return [...batchesOf(sequences)].map(([start, end]) => sequences.slice(start, end));
}

/**
 * Runs the frozen part over sequences of token ids, in batches, and reads it back.
 * @returns one cut per sequence, in order
 */
export async function runFrozen(model: LlamaModel, sequences: Sequences, options: FrozenOptions): Promise<Cut[]> {
  const made = new Map<Sequences, Cut[]>();
  const batches = frozenBatches(sequences);
  await frozenPass(model, batches, {
    ...options,
    take: (batch, cuts) => {
      made.set(batch, cuts);
    },
  });
  return batches.flatMap((batch) => made.get(batch) as Cut[]);
}

/** A batch on its way through the layers, with a row for each distinct prefix. */
interface Stream {
  batch: Sequences;
  /** The layer that takes it. */
  next: number;
  x: tf.Tensor2D; // [U, D]
  at: Positions;
  rows: DistinctRows;
  shared: SharedRows;
}

/**
 * One pass over the layers up to the cut, for all batches together.
 * @param options `take` receives the cuts of each batch as soon as they are there
 * @throws {RefusedInput} for a layer or tokens that the model does not have, before anything is computed
 */
export async function frozenPass(
  model: LlamaModel,
  batches: readonly Sequences[],
  options: FrozenOptions & { take(batch: Sequences, cuts: Cut[]): Promise<void> | void },
): Promise<void> {
  const { point, keeper, signal, onProgress, take } = options;
  const { layer } = point;
  for (const tokens of batches.flat()) requireTokens(model, tokens);
  model.requireCut(point); // refused now where the model cannot be cut
  const layers = point.at === "input" ? layer : layer + 1;
  const streams: Stream[] = [];
  /** Lets every stream that has come this far through a layer, and lets the user know. */
  const through = (index: number, work: (stream: Stream, weights: LlamaLayer) => Promise<void>) => {
    const due = streams.filter(({ next }) => next === index);
    if (due.length === 0) return;
    return model.withLayer(index, async (weights) => {
      for (const [i, stream] of due.entries()) {
        await takeTurn(signal, "the frozen part of the model");
        await work(stream, weights);
        onProgress?.({ layer: index, layers, batch: i + 1, batches: due.length });
      }
    });
  };
  try {
    for (const batch of batches) streams.push(await startStream(model, batch, { point, keeper }));
    for (let index = 0; index < layer; index++) {
      await through(index, async (stream, weights) => {
        advance(stream, weights, model);
        await keeper?.writeStream(stream.batch, { next: stream.next, x: await stream.x.data<"float32">() });
      });
    }
    const end = async (stream: Stream, taps: Taps) => {
      await take(stream.batch, await cutsOf(stream, point, taps));
      await keeper?.removeStream(stream.batch);
    };
    if (point.at === "input") for (const stream of streams) await end(stream, { stream: stream.x.clone() });
    else {
      await through(layer, (stream, weights) =>
        end(stream, layerBeforeValue(stream.x, weights, model.config, passOf(stream))),
      );
    }
  } finally {
    for (const { x, at, shared } of streams) {
      tf.dispose([x, at.cos, at.sin, at.causal, shared.places, shared.firsts]);
    }
  }
}

async function startStream(
  model: LlamaModel,
  batch: Sequences,
  { point: { layer }, keeper }: Pick<FrozenOptions, "point" | "keeper">,
): Promise<Stream> {
  const { config } = model;
  const T = Math.max(...batch.map((tokens) => tokens.length));
  const rows = distinctRows(batch, T);
  const kept = (await keeper?.readStream(batch)) ?? null;
  const resumed = kept !== null && kept.next <= layer;
  const x = resumed ? tf.tensor2d(kept.x, [rows.tokens.length, config.hiddenSize]) : await model.embed(rows.tokens);
  const shared = { places: tf.tensor1d(rows.places, "int32"), firsts: tf.tensor1d(rows.firsts, "int32") };
  return { batch, next: resumed ? kept.next : 0, x, at: positions(config, T), rows, shared };
}

const passOf = ({ at, shared }: Stream): LayerPass => ({ at, shared });

function advance(stream: Stream, weights: LlamaLayer, model: LlamaModel): void {
  const before = stream.x;
  stream.x = layerForward(before, weights, model.config, passOf(stream));
  stream.next += 1;
  before.dispose();
}

/** Values at the cut for a batch. */
interface Taps {
  stream: tf.Tensor2D; // [U, D]
  mlpIn?: tf.Tensor2D; // [U, M]
}

/** Reads the taps back, one cut per sequence, and disposes them. */
async function cutsOf(
  { batch, at, rows: { places } }: Stream,
  point: CutPoint,
  { stream, mlpIn }: Taps,
): Promise<Cut[]> {
  try {
    const [streams, inputs] = await Promise.all([stream.data<"float32">(), mlpIn?.data<"float32">()]);
    const taken = (values: Float32Array, { shape: [, width] }: tf.Tensor2D, b: number, length: number) => {
      const own = new Float32Array(length * width);
      for (let t = 0; t < length; t++) {
        const row = places[b * at.length + t] as number;
        own.set(values.subarray(row * width, (row + 1) * width), t * width);
      }
      return own;
    };
    return batch.map((tokens, b) => ({
      point,
      tokens,
      stream: taken(streams, stream, b, tokens.length),
      mlpIn: inputs && mlpIn ? taken(inputs, mlpIn, b, tokens.length) : null,
    }));
  } finally {
    tf.dispose(mlpIn === undefined ? [stream] : [stream, mlpIn]);
  }
}

/** @throws {RefusedInput} for tokens that the model does not have, or more than it has positions */
export function requireTokens(model: LlamaModel, tokens: readonly number[]): void {
  const { vocabSize, maxPositions } = model.config;
  if (tokens.length === 0 || tokens.length > maxPositions) {
    throw new RefusedInput("a prompt does not fit the model", {
      where: "number of tokens",
      found: tokens.length,
      expected: `1 to ${maxPositions}, the model's max_position_embeddings`,
    });
  }
  const bad = tokens.find((id) => !Number.isInteger(id) || id < 0 || id >= vocabSize);
  if (bad !== undefined) {
    throw new RefusedInput("a token id is outside the vocabulary", {
      where: "token id",
      found: bad,
      expected: `a whole number from 0 to ${vocabSize - 1}`,
    });
  }
}
