import { z } from "zod";
import type { EditTrace } from "../../edit/trace.js";
import { batchesOf, itemsOf, pairsOf, type Seen, seeBatch } from "../../edit/ultraedit/batch.js";
import { type Delta, wholeOf } from "../../edit/ultraedit/deltas.js";
import { disposeDeltas, type Edits, loadedEdits, type Slot, shapeName, slotsOf } from "../../edit/ultraedit/edits.js";
import type { UltraeditOptions } from "../../edit/ultraedit/options.js";
import { type Spread, valuesOf } from "../../edit/ultraedit/spread.js";
import { startUltraedit } from "../../edit/ultraedit/ultraedit.js";
import type { LlamaModel } from "../../model/model.js";
import { cutBefore, moduleName } from "../../model/patch.js";
import type { SafetensorsFile } from "../../model/safetensors.js";
import { type GoldenScenario, ids, readScenario, withTensors } from "./golden-files.js";
import { compareLocateAnswers, locateEdit, locateRequests, locateSchema } from "./locate.js";
import { settingOf, siteOf } from "./setting.js";
import { createTally, type ParityItem, type Tally } from "./tally.js";
import { LOCATE } from "./tolerances.js";

/** ultraedit*.json: each of `edits` is one batch, which ran in micro-batches of `micro`. */
const ultraeditSchema = locateSchema.extend({
  options: z.object({ modules: z.array(z.string()), lr: z.number(), micro: z.int().positive() }),
  edits: z.array(locateEdit.extend({ losses: z.array(z.number()), order: z.array(ids) })),
});

type GoldenEdit = z.infer<typeof ultraeditSchema>["edits"][number];

/** Most requests of a batch in the authors' code: those of a golden one are fewer. */
const BATCH = 100;

interface Compared {
  tally: Tally;
  file: SafetensorsFile;
  slots: readonly Slot[];
  options: UltraeditOptions;
}

/** A batch as it was made here. */
interface Made {
  seen: Seen[];
  before: Edits;
  after: Edits;
}

/** Runs one scenario of UltraEdit through editing and scoring and compares every recorded quantity. */
export async function compareUltraedit(golden: GoldenScenario, model: LlamaModel): Promise<ParityItem[]> {
  const wanted = readScenario(golden, ultraeditSchema);
  const { modules, lr, micro } = wanted.options;
  const sites = modules.map(siteOf);
  const slots = slotsOf(sites, model.config);
  const options = { inner_params: modules, lr, batch_size: BATCH, batch_size_once: micro };
  const setting = settingOf(model, cutBefore(sites));
  const tally = createTally(golden.name);
  await withTensors(golden, async (file) => {
    const compared = { tally, file, slots, options };
    const session = startUltraedit(options, setting);
    const editsNow = async () => loadedEdits(slots, await session.state());
    let before = await editsNow();
    for (const [e, edit] of wanted.edits.entries()) {
      const requests = locateRequests(wanted, edit);
      const [items = []] = batchesOf(itemsOf(requests, model.tokenizer), BATCH);
      const { seen } = await seeBatch(items, { setting, slots, before, size: micro });
      compareSteps(tally, { seen, traces: await session.edit(requests), edit, where: `edit ${e}` });
      const after = await editsNow();
      await compareMatrices(compared, { seen, before, after }, e);
      disposeDeltas(before.deltas);
      before = after;
    }
    await compareSpreads(compared, before);
    disposeDeltas(before.deltas);
    await compareLocateAnswers({ wanted, tally, file, setting, session });
    session.dispose();
  });
  return tally.items();
}

/** The tokens of a batch in their order, and the losses of its micro-batches, which are those of its edits. */
function compareSteps(
  tally: Tally,
  { seen, traces, edit, where }: { seen: readonly Seen[]; traces: EditTrace[]; edit: GoldenEdit; where: string },
): void {
  const order = seen.flatMap(({ items }) => items.map(({ row }) => row.ids.slice(0, -1))); // nothing follows the last
  tally.equal("order", { ours: order, golden: edit.order, where });
  tally.equal("micro-batches", { ours: seen.length, golden: edit.losses.length, where });
  for (const [i, golden] of edit.losses.entries()) {
    const [{ place } = { place: -1 }] = seen[i]?.items ?? [];
    const ours = traces[place]?.steps[0]?.loss ?? Number.NaN;
    tally.number("loss", { ours, golden, where: `${where}, micro-batch ${i}`, measure: "relative" }, LOCATE.loss);
  }
}

/** Inputs of each matrix in a batch, and its change by that batch alone. */
async function compareMatrices(
  { tally, file, slots, options }: Compared,
  { seen, before, after }: Made,
  e: number,
): Promise<void> {
  for (const [i, { site, shape }] of slots.entries()) {
    const pairs = pairsOf(seen, i);
    const change = await valuesIn(after.deltas[i] as Delta);
    if (before.deltas[i] !== undefined) {
      const earlier = await valuesIn(before.deltas[i]);
      for (const [j, x] of earlier.entries()) change[j] = (change[j] as number) - x;
    }
    const v = Float32Array.from(valuesOf(pairs, after.spreads.get(shapeName(shape)) as Spread, options.lr));
    for (const [name, ours, allowed] of [
      ["keys", pairs.h, LOCATE.input],
      ["grads", pairs.g, LOCATE.input],
      ["v", v, LOCATE.result],
      ["weight_delta", change, LOCATE.result],
    ] as const) {
      const where = `${e}.${moduleName(site)}.${name}`;
      tally.matrix(name.replace("_", " "), { ours, golden: await file.read(where), where }, allowed);
    }
  }
}

async function valuesIn(delta: Delta): Promise<Float32Array> {
  const whole = wholeOf(delta);
  const values = await whole.data<"float32">();
  whole.dispose();
  return values.slice();
}

/** The normalisers after the last batch. */
async function compareSpreads({ tally, file }: Compared, { spreads }: Edits): Promise<void> {
  for (const [shape, { count, mean, var: squares }] of spreads) {
    const n = await file.readRaw(`stat.${shape}.n`);
    tally.equal("pairs", { ours: count, golden: Number(new BigInt64Array(n.buffer)[0]), where: `stat.${shape}.n` });
    for (const [name, ours] of Object.entries({ mean, var: squares })) {
      const where = `stat.${shape}.${name}`;
      tally.matrix(name, { ours, golden: await file.read(where), where }, LOCATE.input);
    }
  }
}
