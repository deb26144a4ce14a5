import { z } from "zod";
import type { EditSession, EditSetting } from "../../edit/contract.js";
import { createLoss, type SearchOptions } from "../../edit/locate/search.js";
import { loadedUpdates, type Update } from "../../edit/locate/updates.js";
import { placeOf, search } from "../../edit/memit/batches.js";
import {
  behindLast,
  type LayerStep,
  type LayerUpdates,
  type LocatedRequest,
  locateRequest,
  patchOfLayers,
  risingLayers,
  type SolveLayer,
  type SpreadOptions,
  spread,
} from "../../edit/memit/spread.js";
import { untouched } from "../../edit/overlay.js";
import type { EditTrace } from "../../edit/trace.js";
import type { SafetensorsFile } from "../../model/safetensors.js";
import { tf } from "../../tensor/tf.js";
import { type GoldenScenario, withTensors } from "./golden-files.js";
import {
  compareLocateAnswers,
  compareRows,
  compareSearch,
  locateEdit,
  locateRequests,
  locateSchema,
  searchSchema,
  sumOf,
} from "./locate.js";
import { createTally, type ParityItem, type Tally } from "./tally.js";
import { LOCATE } from "./tolerances.js";

/** NAME.json of a method that spreads values over layers. */
export const spreadSchema = locateSchema.extend({
  options: z.object({
    layers: z.array(z.number().int()),
    steps: z.number().int(),
    lr: z.number(),
    weight_decay: z.number(),
    clamp: z.number(),
    kl: z.number(),
    stop: z.number(),
    kl_at: z.enum(["lookup", "end"]),
    key_mean: z.enum(["grouped", "flat"]),
  }),
  edits: z.array(locateEdit.extend({ searches: z.array(searchSchema) })),
});

type GoldenSpread = z.infer<typeof spreadSchema>;

/** Options of search and spreading in their released spelling. */
export function searchOf(given: GoldenSpread["options"]): SearchOptions & SpreadOptions {
  const { steps, lr, weight_decay, clamp, kl, stop, kl_at, layers, key_mean } = given;
  return {
    v_num_grad_steps: steps,
    v_lr: lr,
    v_weight_decay: weight_decay,
    clamp_norm_factor: clamp,
    kl_factor: kl,
    ...{ stop, kl_at, layers, key_mean },
  };
}

/** A scenario on its way. The solver makes of a batch what the session makes of it. */
export interface Spreading {
  wanted: GoldenSpread;
  options: SearchOptions & SpreadOptions;
  setting: EditSetting;
  session: EditSession;
  solve: SolveLayer;
  /** Told of each batch, as the session is. */
  stood?: ((steps: readonly LayerStep[]) => void) | undefined;
}

/** Makes the batches one after another and compares each: searches, keys, residuals and updates; then what is answered. */
export async function compareSpreading(golden: GoldenScenario, given: Spreading): Promise<ParityItem[]> {
  const { wanted, session } = given;
  const tally = createTally(golden.name);
  await withTensors(golden, async (file) => {
    try {
      let before: LayerUpdates = new Map();
      for (const e of wanted.edits.keys()) before = await compareBatch({ ...given, tally, file, before }, e);
      await compareLocateAnswers({ ...given, tally, file });
    } finally {
      session.dispose();
    }
  });
  return tally.items();
}

type Compared = Spreading & { tally: Tally; file: SafetensorsFile; before: LayerUpdates };

/** @returns the updates that stand after the batch */
async function compareBatch(compared: Compared, e: number): Promise<LayerUpdates> {
  const { wanted, setting, session, tally } = compared;
  const edit = wanted.edits[e] as GoldenSpread["edits"][number];
  const requests = locateRequests(wanted, edit);
  const located: LocatedRequest[] = [];
  try {
    for (const request of requests) located.push(await locateRequest(request, setting, undefined));
    const values: Float64Array[] = [];
    for (const j of requests.keys())
      values.push(await compareValue(compared, { e, j, located: located[j] as LocatedRequest }));
    const traces = await session.edit(requests);
    for (const [j, golden] of edit.searches.entries()) {
      compareSearch(tally, { trace: traces[j] as EditTrace, golden, where: `batch ${e}, request ${j}` });
    }
    const edits = located.map((each, j) => ({ located: each, value: values[j] as Float64Array }));
    return await compareLayers(compared, { e, edits });
  } finally {
    for (const { batch } of located) batch.dispose();
  }
}

/** Start of a search, and the delta that it finds. @returns v* */
async function compareValue(
  { options, setting, before, tally, file, wanted }: Compared,
  { e, j, located }: { e: number; j: number; located: LocatedRequest },
): Promise<Float64Array> {
  const golden = wanted.edits[e]?.searches[j] as z.infer<typeof searchSchema>;
  compareRows(tally, { rows: located.rows, golden, where: `batch ${e}, request ${j}` });
  const { place, dispose } = await placeOf(located, before, { options, setting });
  const loss = createLoss(place, options);
  const zero = tf.zeros<tf.Rank.R2>([1, place.start.length]);
  const { gradient, report } = loss.pass(zero);
  await report();
  const first = { start: place.start, first_gradient: await gradient.data<"float32">() };
  tf.dispose([zero, gradient]);
  loss.dispose();
  dispose();
  const standing = async () => untouched(setting.cuts.point);
  const { value } = await search(located, before, { options, setting, control: {}, standing });
  for (const [name, ours] of Object.entries(first)) {
    const where = `${e}.${j}.${name}`;
    tally.matrix(name.replace("_", " "), { ours, golden: await file.read(where), where }, LOCATE.input);
  }
  const delta = Float32Array.from(value, (x, d) => x - (place.start[d] as number));
  const where = `${e}.${j}.delta`;
  tally.matrix("delta", { ours: delta, golden: await file.read(where), where }, LOCATE.result);
  return value;
}

/** Keys, residuals and updates of a batch, layer by layer, and what is missing after the last. */
async function compareLayers(
  { options, setting, session, solve, stood, before, tally, file }: Compared,
  { e, edits }: { e: number; edits: readonly { located: LocatedRequest; value: Float64Array }[] },
): Promise<LayerUpdates> {
  const { hiddenSize: D, intermediateSize: M } = setting.model.config;
  const steps = await spread(setting, edits, { options, before, solve });
  stood?.(steps);
  const state = await session.state();
  const after = new Map<number, readonly Update[]>();
  for (const { layer, keys, residuals } of steps) {
    const all = loadedUpdates(`layers.${layer}.down`, state, [D, M]);
    after.set(layer, all);
    for (const [item, ours, tolerance] of [
      ["keys", asColumns(keys), LOCATE.input],
      ["residual", asColumns(residuals), LOCATE.result],
      ["weight_delta", sumOf(all.slice(-edits.length)), LOCATE.result],
    ] as const) {
      const where = `${e}.layers.${layer}.${item}`;
      tally.matrix(item.replace("_", " "), { ours, golden: await file.read(where), where }, tolerance);
    }
  }
  const left = await missing(setting, edits, { after, last: risingLayers(options).at(-1) as number });
  const where = `${e}.residual_after`;
  const wanted = await file.read(where);
  const whole = Math.hypot(...asColumns(steps[0]?.residuals ?? []));
  const away = Math.hypot(...left.map((x, i) => x - (wanted[i] as number))) / whole;
  tally.number("residual after, of the first", { ours: away, golden: 0, where }, LOCATE.residualAfter);
  return after;
}

/** v* less the stream behind the last layer under all updates, of each request a column, [D, n]. */
async function missing(
  { model }: EditSetting,
  edits: readonly { located: LocatedRequest; value: Float64Array }[],
  { after, last }: { after: LayerUpdates; last: number },
): Promise<Float32Array> {
  const { patch, dispose } = patchOfLayers(after);
  const residuals: Float64Array[] = [];
  for (const { located, value } of edits) {
    const { batch, stream } = await behindLast(model, located, { last, patch });
    batch.dispose();
    residuals.push(value.map((x, d) => x - (stream[d] as number)));
  }
  dispose();
  return asColumns(residuals);
}

/** Vectors as the columns of a matrix, row-major. */
function asColumns(vectors: readonly Float64Array[]): Float32Array {
  const [n, size] = [vectors.length, vectors[0]?.length ?? 0];
  return Float32Array.from({ length: n * size }, (_, at) => vectors[at % n]?.[Math.floor(at / n)] as number);
}
