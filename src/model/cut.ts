import { LabFailure } from "../core/errors.js";
import { tf } from "../tensor/tf.js";
import {
  type AskedRows,
  asTheyAre,
  type BeforeValue,
  headLogits,
  type LayerPass,
  layerBeforeValue,
  layerForward,
  layerFromValue,
  type Past,
  type Positions,
  positions,
} from "./llama.js";
import type { LlamaModel } from "./model.js";
import { type Change, type CutPoint, cutName, type MatrixName, type Patch, type PickRows } from "./patch.js";
import { linear } from "./weight.js";

/*
 * The forward pass cut in two, at the start of a layer or at the input of its value matrix.
 *
 * Everything before the cut point is the same at every step of every edit: the frozen part. It runs once per prompt
 * (frozen.ts) and leaves a `Cut`, a plain value that can be reused, batched and written to disk. The edited part takes a
 * batch of cuts and a patch, and gives logits at chosen positions only.
 */

/** Sequences of token ids. */
export type Sequences = readonly (readonly number[])[];

/** The frozen part of one sequence of T tokens. */
export interface Cut {
  point: CutPoint;
  tokens: readonly number[];
  /** The stream at the layer's start or, at the value matrix, after its attention; row-major [T, D]. */
  stream: Float32Array;
  /** At the value matrix: its input a_t, row-major [T, M]. */
  mlpIn: Float32Array | null;
}

/** Cuts put together for the edited part. Right-padded; `shares` is 1 / length on tokens and 0 on padding. */
export interface CutBatch {
  point: CutPoint;
  /** Tokens of each of the B sequences; T is the longest, N = B T. */
  lengths: number[];
  /** Tokens of the prompt that each begins with: it ends one position before. */
  promptTokens: number[];
  /** After the prompts stands an answer that is read along with them, or one that the model is writing. */
  answers: "forced" | "generated";
  stream: tf.Tensor2D; // [N, D]
  mlpIn: tf.Tensor2D | null; // [N, M]
  shares: tf.Tensor2D; // [B, T]
  at: Positions;
  dispose(): void;
}

/** One position of one sequence of a batch. */
export interface Spot {
  row: number;
  position: number;
}

/**
 * Puts cuts of one point into tensors. The caller disposes the batch.
 * @param promptTokens tokens of the prompt that each sequence begins with; all of it, when left out
 */
export function batchCuts(
  model: LlamaModel,
  cuts: readonly Cut[],
  promptTokens?: readonly number[],
  answers: CutBatch["answers"] = "forced",
): CutBatch {
  const { hiddenSize: D, intermediateSize: M } = model.config;
  const { point } = cuts[0] as Cut;
  const lengths = cuts.map((cut) => cut.tokens.length);
  const T = Math.max(...lengths);
  const stream = padRows(
    cuts.map((cut) => cut.stream),
    { T, width: D },
  );
  const inputs = cuts.flatMap(({ mlpIn }) => (mlpIn === null ? [] : [mlpIn]));
  const mlpIn = inputs.length === 0 ? null : padRows(inputs, { T, width: M });
  return batchOf(model, { point, lengths, promptTokens: [...(promptTokens ?? lengths)], answers, stream, mlpIn });
}

/** A batch of what stands at a cut already. It takes over the tensors, and the caller disposes it. */
export function batchOf(
  { config }: Pick<LlamaModel, "config">,
  parts: Omit<CutBatch, "shares" | "at" | "dispose">,
): CutBatch {
  const { lengths, stream, mlpIn } = parts;
  const T = Math.max(...lengths);
  const share = new Float32Array(lengths.length * T);
  lengths.forEach((length, row) => {
    share.fill(1 / length, row * T, row * T + length);
  });
  const shares = tf.tensor2d(share, [lengths.length, T]);
  const at = positions(config, T);
  const dispose = () => tf.dispose([stream, shares, at.cos, at.sin, at.causal, ...(mlpIn === null ? [] : [mlpIn])]);
  return { ...parts, shares, at, dispose };
}

/** Sequences of rows under each other, each padded to T rows. -> [B T, width] */
function padRows(parts: readonly Float32Array[], { T, width }: { T: number; width: number }): tf.Tensor2D {
  const padded = new Float32Array(parts.length * T * width);
  parts.forEach((values, row) => {
    padded.set(values, row * T * width);
  });
  return tf.tensor2d(padded, [parts.length * T, width]);
}

/** Input of the value matrix in the cut's layer, [N, M]. @throws {LabFailure} for a cut at the start of a layer */
export function valueInput({ point, mlpIn }: Pick<CutBatch, "point" | "mlpIn">): tf.Tensor2D {
  if (mlpIn !== null) return mlpIn;
  throw new LabFailure(`a cut at ${cutName(point)} holds no input of a value matrix`);
}

/** Output of the untouched value matrix for a batch that is cut there: o_t = W a_t (tap `layers.N.mlpOut`). [N, D] */
export function mainOutput(model: LlamaModel, batch: CutBatch): tf.Tensor2D {
  return linear(valueInput(batch), model.weight({ layer: batch.point.layer, matrix: "down" }));
}

/**
 * Runs the edited part under a patch: what comes after the cut, final norm and head. Sequences without spots are left
 * out, and the last layer computes the spots alone; its other positions only give keys and values.
 * @returns logits at the spots, in order, [n, V]; differentiable in what the changes are made of
 */
export function logitsAt(
  model: LlamaModel,
  batch: Pick<CutBatch, "point" | "lengths" | "stream" | "mlpIn" | "at">,
  { patch = [], spots, past }: { patch?: Patch; spots: readonly Spot[]; past?: readonly Past[] },
): tf.Tensor2D {
  return tf.tidy(() => {
    const last = model.config.layers - 1;
    const { sequences, pick } = sequencesOf(spots, batch);
    const place = new Map(sequences.map((row, i) => [row, i]));
    const own = spots.map(({ row, position }) => ({ row: place.get(row) as number, position }));
    const { asked, places } = askFor(own, batch.at, sequences.length);
    const x = editedLayers(model, batch, (layer) => ({
      at: batch.at,
      changes: changesAt(patch, layer),
      pick,
      asked: layer === last ? asked : undefined,
      past: past?.[layer],
    }));
    return headLogits(tf.gather(x, tf.tensor1d(places, "int32")), model.output, model.config);
  });
}

/** The next token of every sequence, behind those that a pass has left. */
export interface NextTokens extends Pick<CutBatch, "point" | "stream" | "mlpIn" | "at"> {
  /** Of every layer. */
  past: readonly Past[];
}

/** Runs the edited part on one token more of each sequence, under a patch whose `pick` is given. -> logits [B, V] */
export function logitsNext(
  model: LlamaModel,
  { past, at, ...next }: NextTokens,
  { patch, pick }: { patch: Patch; pick: PickRows },
): tf.Tensor2D {
  const picked = patch.map(({ site, change }) => ({
    site,
    change: ((x, own) => change(x, own, pick)) satisfies Change,
  }));
  return tf.tidy(() => {
    const through = (layer: number) => ({ at, changes: changesAt(picked, layer), past: past[layer] });
    return headLogits(editedLayers(model, next, through), model.output, model.config);
  });
}

/** The layers after the cut, up to the final norm. @returns the stream of the rows that the last layer gives */
function editedLayers(
  model: LlamaModel,
  batch: Pick<CutBatch, "point" | "stream" | "mlpIn">,
  through: (layer: number) => LayerPass,
): tf.Tensor2D {
  const { point } = batch;
  let x = entered(model, batch, through(point.layer));
  for (let layer = point.layer + (point.at === "mlpIn" ? 1 : 0); layer < model.config.layers; layer++) {
    x = layerForward(x, model.layer(layer), model.config, through(layer));
  }
  return x;
}

/** Arg max of each row of logits, [n, V]. @throws {LabFailure} when a logit is NaN: it must never become a token or a score */
export async function likeliest(logits: () => tf.Tensor2D): Promise<Int32Array> {
  return (await readLogits(logits, null)).best;
}

/**
 * Arg max of each row of logits, [n, V], and log P of one token of each row, in nats, where such are given.
 * @throws {LabFailure} when a logit is NaN: it must never become a token or a score
 */
export async function readLogits(
  logits: () => tf.Tensor2D,
  tokens: readonly number[] | null,
): Promise<{ best: Int32Array; logp: Float32Array | null }> {
  const { best, total, logp } = tf.tidy(() => {
    const made = logits();
    return { best: tf.argMax(made, 1), total: tf.sum(made), ...(tokens !== null && { logp: logpOf(made, tokens) }) };
  }) as unknown as { best: tf.Tensor1D; total: tf.Scalar; logp?: tf.Tensor1D };
  try {
    const [found, [sum], ps] = await Promise.all([
      best.data<"int32">(),
      total.data<"float32">(),
      logp?.data<"float32">(),
    ]);
    if (!Number.isFinite(sum)) throw new LabFailure(`the logits of the model are not finite (their sum is ${sum})`);
    return { best: found, logp: ps ?? null };
  } finally {
    tf.dispose([best, total, ...(logp === undefined ? [] : [logp])]);
  }
}

/** log P of one token of each row. logits [n, V] -> [n] */
function logpOf(logits: tf.Tensor2D, tokens: readonly number[]): tf.Tensor1D {
  const places = tf.tensor2d(
    tokens.map((token, row) => [row, token]),
    [tokens.length, 2],
    "int32",
  );
  return tf.sub(tf.gatherND(logits, places), tf.logSumExp(logits, 1));
}

/**
 * Carries a batch on to a later point under a patch, all of its positions. Together with `logitsAt` it is the same pass.
 * The batch stays, and the caller disposes the one that is made; its positions and shares are those of the batch.
 */
export function carriedOn(model: LlamaModel, batch: CutBatch, { patch, to }: { patch: Patch; to: CutPoint }): CutBatch {
  const { point, at } = batch;
  if (to.layer < point.layer || (to.layer === point.layer && to.at === "input" && point.at === "mlpIn")) {
    throw new LabFailure(`a cut at ${cutName(point)} lies after ${cutName(to)}`);
  }
  const made = tf.tidy(() => {
    if (cutName(to) === cutName(point)) return { stream: batch.stream.clone(), mlpIn: batch.mlpIn?.clone() };
    const through = (layer: number) => ({ at, changes: changesAt(patch, layer) });
    let stream = entered(model, batch, through(point.layer));
    const first = point.layer + (point.at === "mlpIn" ? 1 : 0);
    for (let layer = first; layer < to.layer; layer++) {
      stream = layerForward(stream, model.layer(layer), model.config, through(layer));
    }
    if (to.at === "input") return { stream: stream.clone() };
    return layerBeforeValue(stream, model.layer(to.layer), model.config, through(to.layer));
  }) as unknown as { stream: tf.Tensor2D; mlpIn?: tf.Tensor2D };
  const { stream, mlpIn = null } = made;
  return { ...batch, point: to, stream, mlpIn, dispose: () => tf.dispose(mlpIn === null ? [stream] : [stream, mlpIn]) };
}

/** The stream behind the value matrix at which a batch is cut, under a patch, at all of its positions. [N, D] */
export function streamAfterValue(
  model: LlamaModel,
  batch: Pick<CutBatch, "point" | "stream" | "mlpIn">,
  patch: Patch,
): tf.Tensor2D {
  const changes = changesAt(patch, batch.point.layer);
  return tf.tidy(() => entered(model, batch, { changes }));
}

/** The stream where the first whole layer takes it: a cut at a value matrix goes through that matrix. */
function entered(
  model: LlamaModel,
  batch: Pick<CutBatch, "point" | "stream" | "mlpIn">,
  { changes, pick = asTheyAre, asked }: Pick<LayerPass, "changes" | "pick" | "asked">,
): tf.Tensor2D {
  if (batch.point.at === "input") return pick(batch.stream);
  const rows: PickRows = asked === undefined ? pick : (perRow) => tf.gather(pick(perRow), asked.rows);
  const before: BeforeValue = { stream: rows(batch.stream), mlpIn: rows(valueInput(batch)) };
  const down = model.weight({ layer: batch.point.layer, matrix: "down" });
  return layerFromValue(before, { down }, { changes, pick: rows });
}

/** The changes of a patch to one layer. */
export function changesAt(patch: Patch, layer: number): Partial<Record<MatrixName, readonly Change[]>> {
  const changes: Partial<Record<MatrixName, Change[]>> = {};
  for (const { site, change } of patch) {
    if (site.layer === layer) changes[site.matrix] = [...(changes[site.matrix] ?? []), change];
  }
  return changes;
}

/** The sequences that have spots, rising, and their rows of the batch. */
function sequencesOf(
  spots: readonly Spot[],
  { lengths, at: { length: T } }: Pick<CutBatch, "lengths" | "at">,
): { sequences: number[]; pick: PickRows } {
  const sequences = [...new Set(spots.map(({ row }) => row))].sort((a, b) => a - b);
  const count = sequences.length;
  if (count === lengths.length) return { sequences, pick: asTheyAre };
  if (sequences[count - 1] === count - 1) {
    return { sequences, pick: (perRow) => tf.slice(perRow, 0, count * T) }; // the first ones: no index to look up
  }
  const rows = tf.tensor1d(
    sequences.flatMap((row) => Array.from({ length: T }, (_, t) => row * T + t)),
    "int32",
  );
  return { sequences, pick: (perRow) => tf.gather(perRow, rows) };
}

/**
 * Lays spots out as equally many rows per sequence, as the attention of the last layer takes them; sequences with fewer
 * spots are filled up with their first position, whose output nobody reads.
 * @returns the rows, and the place of each spot among them
 */
function askFor(spots: readonly Spot[], at: Positions, B: number): { asked: AskedRows; places: number[] } {
  const perRow: number[][] = Array.from({ length: B }, () => []);
  const columns = spots.map(({ row, position }) => (perRow[row] as number[]).push(position) - 1);
  const P = Math.max(...columns) + 1;
  const positionsAsked = perRow.flatMap((own) => Array.from({ length: P }, (_, i) => own[i] ?? 0));
  const index = tf.tensor1d(positionsAsked, "int32");
  const places = positionsAsked.map((position, i) => Math.floor(i / P) * at.length + position);
  const rows = tf.tensor1d(places, "int32");
  const pick = (table: tf.Tensor) => {
    const width = table.shape.at(-1) as number;
    const own = table.rank === 2 ? tf.gather(table, index) : tf.gather(table.reshape([-1, width]), rows);
    return own.reshape([B, 1, P, width]);
  };
  return {
    asked: {
      rows,
      at: { length: P, cos: pick(at.cos), sin: pick(at.sin), causal: pick(at.causal) },
    },
    places: spots.map(({ row }, i) => row * P + (columns[i] as number)),
  };
}
