import { join } from "node:path";
import { z } from "zod";
import type { EditRequest } from "../../edit/contract.js";
import { createLoss } from "../../edit/locate/search.js";
import { loadedUpdates, type Update } from "../../edit/locate/updates.js";
import type { RomeOptions } from "../../edit/rome/options.js";
import { type LocatedEdit, locate, rome, startRome } from "../../edit/rome/rome.js";
import type { EditTrace } from "../../edit/trace.js";
import type { LlamaModel } from "../../model/model.js";
import type { SafetensorsFile } from "../../model/safetensors.js";
import { tf } from "../../tensor/tf.js";
import { type GoldenScenario, readScenario, withTensors } from "./golden-files.js";
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
import { assetsOf, settingOf } from "./setting.js";
import { createTally, type ParityItem, type Tally } from "./tally.js";
import { LOCATE } from "./tolerances.js";

/** rome*.json */
const romeSchema = locateSchema.extend({
  options: z.object({
    layers: z.tuple([z.number().int()]),
    steps: z.number().int(),
    lr: z.number(),
    weight_decay: z.number(),
    clamp: z.number(),
    kl: z.number(),
    stop: z.number(),
    adjust: z.boolean(),
    kl_at: z.enum(["lookup", "end"]),
  }),
  edits: z.array(locateEdit.extend({ division: z.number(), searches: z.tuple([searchSchema]) })),
});

type GoldenRome = z.infer<typeof romeSchema>;
type GoldenEdit = GoldenRome["edits"][number];

/** Runs one scenario of ROME through editing and scoring and compares every recorded quantity. */
export async function compareRome(golden: GoldenScenario, model: LlamaModel): Promise<ParityItem[]> {
  const wanted = readScenario(golden, romeSchema);
  const options = optionsOf(golden, wanted);
  const [layer] = options.layers;
  const { templates } = wanted;
  const assets = await assetsOf(rome.plan(options, model.config).needs, model);
  const setting = settingOf(model, { layer, at: "mlpIn" }, { templates, assets });
  const tally = createTally(golden.name);
  await withTensors(golden, async (file) => {
    const session = startRome(options, setting);
    const { hiddenSize: D, intermediateSize: M } = model.config;
    let updates: Update[] = [];
    for (const [e, edit] of wanted.edits.entries()) {
      const [request] = locateRequests(wanted, edit) as [EditRequest];
      const compared = { tally, file, edit, where: `${e}` };
      const located = await locate(request, updates, { options, setting });
      try {
        await compareLocated(compared, located, options);
        const [trace] = (await session.edit([request])) as [EditTrace];
        updates = loadedUpdates("down", await session.state(), [D, M]);
        await compareEdit(compared, { trace, update: updates[e] as Update, division: located.division });
      } finally {
        located.dispose();
      }
    }
    const where = `layers.${layer}.weight_delta`;
    tally.matrix("weight delta", { ours: sumOf(updates), golden: await file.read(where), where }, LOCATE.result);
    await compareLocateAnswers({ wanted, tally, file, setting, session });
    session.dispose();
  });
  return tally.items();
}

function optionsOf({ folder }: GoldenScenario, { options }: GoldenRome): RomeOptions {
  return {
    layers: options.layers,
    v_num_grad_steps: options.steps,
    v_lr: options.lr,
    v_weight_decay: options.weight_decay,
    clamp_norm_factor: options.clamp,
    kl_factor: options.kl,
    kl_at: options.kl_at,
    stop: options.stop,
    mom2_adjustment: options.adjust,
    ...{ stats_dir: join(folder, "locate-stats"), mom2_dataset: "lab", mom2_n_samples: 64 },
    context_template_length_params: [], // templates are given
  };
}

interface Compared {
  tally: Tally;
  file: SafetensorsFile;
  edit: GoldenEdit;
  where: string;
}

/** Rows, keys, and the gradient that the search begins with. */
async function compareLocated(
  { tally, file, edit, where }: Compared,
  { place, k, mean, u, division }: LocatedEdit,
  options: RomeOptions,
): Promise<void> {
  compareRows(tally, { rows: place.rows, golden: edit.searches[0], where: `edit ${where}` });
  const loss = createLoss(place, options);
  const delta = tf.zeros<tf.Rank.R2>([1, place.start.length]);
  const { gradient, report } = loss.pass(delta);
  await report();
  const vectors = { k, key_mean: mean, u, first_gradient: await gradient.data<"float32">() };
  tf.dispose([delta, gradient]);
  loss.dispose();
  for (const [name, ours] of Object.entries({ ...vectors, start: place.start })) {
    const tensor = ["start", "first_gradient"].includes(name) ? `${where}.0.${name}` : `${where}.${name}`;
    const values = { ours: Float32Array.from(ours), golden: await file.read(tensor), where: tensor };
    tally.matrix(name.replace("_", " "), values, LOCATE.input);
  }
  tally.number("k . u", { ours: division, golden: edit.division, where, measure: "relative" }, LOCATE.input);
}

/** The passes of the search, and what came of it. */
async function compareEdit(
  { tally, file, edit, where }: Compared,
  { trace, update, division }: { trace: EditTrace; update: Update; division: number },
): Promise<void> {
  compareSearch(tally, { trace, golden: edit.searches[0], where: `edit ${where}` });
  const delta = update.left.map((x) => x * division);
  for (const [item, tensor, ours] of [
    ["delta", `${where}.0.delta`, delta],
    ["r", `${where}.r`, update.left],
  ] as const) {
    tally.matrix(item, { ours, golden: await file.read(tensor), where: tensor }, LOCATE.result);
  }
}
