import { batchCuts, type CutBatch, carriedOn, streamAfterValue } from "../../model/cut.js";
import type { LlamaModel } from "../../model/model.js";
import type { Patch, Site } from "../../model/patch.js";
import { tf } from "../../tensor/tf.js";
import type { EditRequest, EditSetting } from "../contract.js";
import { type LocatedRow, type LocatedRows, locatedRows, meanOf, rowsOf } from "../locate/lookup.js";
import { patchOf, type Update } from "../locate/updates.js";
import { sequencesOfRows } from "../rows.js";

/*
 * A value v* behind layer L is reached by changes of several value matrices up to L: each takes its share of what is still
 * missing (Meng et al. 2023, eq. 20; methods-locate.md "MEMIT").
 */

export type SpreadOptions = {
  /** 0-based layers whose value matrices are edited. */
  layers: readonly number[];
  key_mean: "grouped" | "flat";
};

/** Updates of each edited matrix, by its layer. */
export type LayerUpdates = ReadonlyMap<number, readonly Update[]>;

/** The layers from the lowest up. */
export function risingLayers({ layers }: Pick<SpreadOptions, "layers">): number[] {
  return [...layers].sort((a, b) => a - b);
}

export function valueSite(layer: number): Site {
  return { layer, matrix: "down" };
}

/** All updates as one patch. `dispose` frees it. */
export function patchOfLayers(updates: LayerUpdates): { patch: Patch; dispose(): void } {
  const parts = [...updates].map(([layer, of]) => patchOf(valueSite(layer), of));
  return {
    patch: parts.flatMap(({ patch }) => patch),
    dispose: () => {
      for (const part of parts) part.dispose();
    },
  };
}

/** A request on the device. The caller disposes the batch. */
export interface LocatedRequest {
  rows: LocatedRows;
  /** Of `rowsOf(rows)`, cut at the lowest edited matrix. */
  batch: CutBatch;
}

/** Brings the rows of a request through the frozen part. @throws {RefusedInput} for one that cannot be located */
export async function locateRequest(
  request: EditRequest,
  { model, cuts, templates }: EditSetting,
  signal: AbortSignal | undefined,
): Promise<LocatedRequest> {
  const rows = locatedRows(request, { tokenizer: model.tokenizer, templates });
  return { rows, batch: batchCuts(model, await cuts.get(sequencesOfRows(rowsOf(rows)), signal)) };
}

/** A batch carried on to the last edited matrix, and the stream behind it at the bare prompt's look-up, [D]. */
export async function behindLast(
  model: LlamaModel,
  { rows, batch }: LocatedRequest,
  { last, patch }: { last: number; patch: Patch },
): Promise<{ batch: CutBatch; stream: Float32Array }> {
  const carried = carriedOn(model, batch, { patch, to: { layer: last, at: "mlpIn" } });
  const { lookup } = rows.templates[0] as LocatedRow;
  const row = tf.tidy(() => tf.slice(streamAfterValue(model, carried, patch), [lookup, 0], [1, -1]));
  const stream = await row.data<"float32">();
  row.dispose();
  return { batch: carried, stream };
}

/** The key of a request at one matrix, under the updates of those below it, [M]. */
async function keyAt(
  model: LlamaModel,
  { rows, batch }: LocatedRequest,
  { layer, patch, key_mean }: { layer: number; patch: Patch; key_mean: SpreadOptions["key_mean"] },
): Promise<Float64Array> {
  const carried = carriedOn(model, batch, { patch, to: { layer, at: "mlpIn" } });
  const places = rows.templates.map(({ lookup }, row) => row * batch.at.length + lookup);
  const taken = tf.tidy(() => tf.gather(carried.mlpIn as tf.Tensor2D, tf.tensor1d(places, "int32")));
  const values = await taken.data<"float32">();
  taken.dispose();
  carried.dispose();
  const M = values.length / places.length;
  const keys = places.map((_, i) => Float64Array.from(values.subarray(i * M, (i + 1) * M)));
  const [bare, ...others] = keys as [Float64Array, ...Float64Array[]];
  if (key_mean === "flat" || others.length === 0) return meanOf(keys);
  return meanOf([bare, meanOf(others)]);
}

/** One layer's part of a batch of edits. */
export interface LayerStep {
  layer: number;
  /** Of each request, [M]. */
  keys: Float64Array[];
  /** v* less the stream behind the last layer, of each request, [D]: what is missing before this layer. */
  residuals: Float64Array[];
  updates: Update[];
}

/**
 * Right factors of the update that answers keys with residuals, one for each key, [M]: its closed form, R times these.
 * @throws {RefusedInput} where the system has no solution
 */
export type SolveLayer = (layer: number, keys: readonly Float64Array[]) => Float64Array[];

/** Changes the layers from the lowest up, each with those below it changed already. */
export async function spread(
  { model }: Pick<EditSetting, "model">,
  edits: readonly { located: LocatedRequest; value: Float64Array }[],
  { options, before, solve }: { options: SpreadOptions; before: LayerUpdates; solve: SolveLayer },
): Promise<LayerStep[]> {
  const layers = risingLayers(options);
  const last = layers.at(-1) as number;
  const updates = new Map(before);
  const steps: LayerStep[] = [];
  for (const [i, layer] of layers.entries()) {
    const { patch, dispose } = patchOfLayers(updates);
    const keys: Float64Array[] = [];
    const residuals: Float64Array[] = [];
    for (const { located, value } of edits) {
      keys.push(await keyAt(model, located, { layer, patch, key_mean: options.key_mean }));
      const { batch, stream } = await behindLast(model, located, { last, patch });
      batch.dispose();
      residuals.push(value.map((x, d) => x - (stream[d] as number)));
    }
    dispose();
    const share = 1 / (layers.length - i);
    const right = solve(layer, keys);
    const made = residuals.map(
      (residual, j): Update => ({
        left: Float32Array.from(residual, (x) => x * share),
        right: Float32Array.from(right[j] as Float64Array),
      }),
    );
    updates.set(layer, [...(updates.get(layer) ?? []), ...made]);
    steps.push({ layer, keys, residuals, updates: made });
  }
  return steps;
}
