import { join } from "node:path";
import { z } from "zod";
import { exists } from "../../core/files.js";
import { createAdam } from "../../edit/adam.js";
import type { Asset, EditSetting } from "../../edit/contract.js";
import type { GradientFactors } from "../../edit/factors.js";
import { NETWORK, networkNeed } from "../../edit/mend/archive.js";
import { exampleOf, keptPositions } from "../../edit/mend/example.js";
import { editGradient } from "../../edit/mend/gradient.js";
import { startMend } from "../../edit/mend/mend.js";
import {
  EDIT_LRS,
  type NetworkTensors,
  type NetworkValues,
  networkShapes,
  type Slot,
  slotsOf,
  tensorsFor,
  trainedShapes,
  updateOf,
} from "../../edit/mend/network.js";
import { type MendOptions, sitesOf } from "../../edit/mend/options.js";
import { type AllStatistics, noStatistics, statisticsValues } from "../../edit/mend/statistics.js";
import { meanGradient, stepped, type TrainingExample } from "../../edit/mend/training.js";
import type { StateTensor } from "../../edit/state.js";
import { batchCuts } from "../../model/cut.js";
import type { LlamaModel } from "../../model/model.js";
import { cutBefore, siteName } from "../../model/patch.js";
import type { SafetensorsFile } from "../../model/safetensors.js";
import { tf } from "../../tensor/tf.js";
import { type GoldenScenario, ids, readScenario, withTensors } from "./golden-files.js";
import { settingOf } from "./setting.js";
import { createTally, type ParityItem, type Tally } from "./tally.js";
import { TUNE } from "./tolerances.js";
import { compareTuneAnswers, compareTuneEdits, type TuneEdit, tuneSchema } from "./tune.js";

const trainingStep = z.object({
  ids,
  prompt_tokens: z.number().int(),
  loc_ids: ids,
  loc_prompt_tokens: z.number().int(),
  total: z.number(),
  edit: z.number(),
  loc: z.number(),
});

/** mend*.json */
const mendSchema = tuneSchema.extend({
  options: z.object({
    inner_params: z.array(z.string()),
    edit_lr: z.number(),
    cedit: z.number(),
    cloc: z.number(),
    lr: z.number(),
    grad_clip: z.number(),
    accumulate_bs: z.number().int(),
    begin_token: z.number().int().nullable(),
  }),
  training: z.object({ steps: z.array(trainingStep), gradient_norm: z.number() }),
});

type GoldenMend = z.infer<typeof mendSchema>;

interface Compared {
  tally: Tally;
  file: SafetensorsFile;
  setting: EditSetting;
  options: MendOptions;
  slots: readonly Slot[];
}

/** Compares a mend scenario: one update of the network's training, then edits with the network that came of it. */
export async function compareMend(golden: GoldenScenario, model: LlamaModel): Promise<ParityItem[]> {
  const wanted = readScenario(golden, mendSchema);
  const tally = createTally(golden.name);
  await withTensors(golden, async (file) => {
    const options = optionsOf(wanted, file);
    const slots = slotsOf(options, model.config);
    const theta = await readNetwork(file, "theta", networkShapes(slots, options.rank));
    const assets = new Map<string, Asset>([[NETWORK, { sha256: "", value: theta }]]);
    const setting = settingOf(model, cutBefore(sitesOf(options)), { assets });
    const compared = { tally, file, setting, options, slots };
    await compareTraining(compared, wanted, theta);
    await compareArchive(compared, golden, theta);
    await compareFactors(compared, wanted.edits[0] as TuneEdit, theta);
    await compareEdits(compared, golden, wanted);
  });
  return tally.items();
}

function optionsOf({ options }: GoldenMend, file: SafetensorsFile): MendOptions {
  const { begin_token, ...own } = options;
  const [v] = [...file.tensors]
    .filter(([name]) => /^start\..*\.layers\.0\.v$/.test(name))
    .map(([, { shape }]) => shape);
  const given = { archive: "", outer: "prompt", max_iters: options.accumulate_bs } as const; // the network is in the file
  return { ...own, ...given, rank: v?.[0] ?? 0, bos_in_targets: begin_token !== null };
}

/** Tensors of a network, each behind a prefix: the network before its update (start), or after it (theta). */
async function readNetwork(
  file: SafetensorsFile,
  prefix: string,
  shapes: ReadonlyMap<string, number[]>,
): Promise<NetworkValues> {
  const values: [string, NetworkValues[string]][] = [];
  for (const [name, shape] of shapes) values.push([name, { shape, data: await file.read(`${prefix}.${name}`) }]);
  return Object.fromEntries(values);
}

/** One update: the losses of its examples, its gradient, and the network and statistics that it leaves. */
async function compareTraining(
  { tally, file, setting, options, slots }: Compared,
  { training }: GoldenMend,
  theta: NetworkValues,
): Promise<void> {
  const { model, cuts } = setting;
  const start = await readNetwork(file, "start", trainedShapes(slots, options.rank));
  const network = onDevice(start);
  const names = Object.keys(network);
  const statistics = noStatistics(slots);
  const examples = training.steps.map((step) => exampleFrom(step, model, options));
  const place = { model, cuts, slots, options };
  const { losses, gradients } = await meanGradient(place, network, { examples, statistics });
  training.steps.forEach((step, i) => {
    for (const part of ["total", "edit", "loc"] as const) {
      const values = { ours: losses[i]?.[part] ?? Number.NaN, golden: step[part], where: `training example ${i}` };
      tally.number(`training loss: ${part}`, { ...values, measure: "relative" }, TUNE.loss);
    }
  });
  for (const [i, name] of names.entries()) {
    const where = `gradient.${name}`;
    const ours = await (gradients[i] as tf.Tensor).data<"float32">();
    tally.matrix("training gradient", { ours, golden: await file.read(where), where }, TUNE.gradient);
  }
  const adams = names.map(() => createAdam(options.lr));
  const after = await stepped(network, { gradients, adams, limit: options.grad_clip });
  for (const adam of adams) adam.dispose();
  const norms = { ours: after.norm, golden: training.gradient_norm, where: "gradient_norm" };
  tally.number("gradient norm", { ...norms, measure: "relative" }, TUNE.loss);
  const values = { ...(await read(after.network)), ...statisticsOf(statistics) };
  for (const [name, { data }] of Object.entries(theta)) {
    const where = `theta.${name}`;
    tally.matrix("network", { ours: values[name] as Float32Array, golden: data, where }, TUNE.trained);
  }
  tf.dispose(after.network);
}

/** Golden examples are tokens: of the edit itself, asked again afterwards, and of the unrelated question. */
function exampleFrom(
  step: GoldenMend["training"]["steps"][number],
  model: LlamaModel,
  options: MendOptions,
): TrainingExample {
  const extra = options.bos_in_targets ? [model.tokenizer.bosId as number] : [];
  const tokens = [...extra, ...step.ids.slice(step.prompt_tokens)];
  const first = step.ids.length - 1 - tokens.length;
  const edit = {
    row: { ids: step.ids, promptTokens: step.prompt_tokens },
    positions: tokens.map((_, i) => first + i),
    tokens,
  };
  const row = { ids: step.loc_ids, promptTokens: step.loc_prompt_tokens };
  return { edit, outer: edit, kept: { row, positions: keptPositions(row, options) } };
}

function onDevice(values: NetworkValues): Record<string, tf.Tensor> {
  return Object.fromEntries(
    Object.entries(values).map(([name, { data, shape }]) => [name, tf.tensor(data, [...shape])]),
  );
}

async function read(network: NetworkTensors): Promise<Record<string, Float32Array>> {
  const values: [string, Float32Array][] = [];
  for (const [name, tensor] of Object.entries(network)) values.push([name, await tensor.data<"float32">()]);
  return Object.fromEntries(values);
}

function statisticsOf(statistics: AllStatistics): Record<string, Float32Array> {
  const values = [...statistics].flatMap(([shape, own]) => Object.entries(statisticsValues(shape, own)));
  return Object.fromEntries(values.map(([name, { data }]) => [name, data]));
}

/** The same network as an archive of the released code, where the scenario has one. */
async function compareArchive(
  { tally, setting, options }: Compared,
  { folder, name }: GoldenScenario,
  theta: NetworkValues,
): Promise<void> {
  const archive = join(folder, `${name}-archive.pt`);
  if (!(await exists(archive))) return;
  const need = networkNeed({ ...options, archive }, setting.model.config);
  const values = (await need.open(setting.model)).value as NetworkValues;
  for (const [tensor, { data }] of Object.entries(theta)) {
    const ours = values[tensor]?.data ?? new Float32Array();
    tally.entries("archive", { ours, golden: data, where: `${archive}: ${tensor}` }, 0);
  }
}

/** Factors of the first edit's gradient, and what the network makes of them. */
async function compareFactors(
  { tally, file, setting, options, slots }: Compared,
  edit: TuneEdit,
  theta: NetworkValues,
): Promise<void> {
  const { model, cuts } = setting;
  const example = exampleOf(edit, { tokenizer: model.tokenizer, options });
  const batch = batchCuts(model, await cuts.get([example.row.ids]));
  const { loss, factors } = await editGradient(model, { example, batch, slots, standing: [] });
  for (const slot of slots) {
    const name = options.inner_params[slot.index] as string;
    const own = factors[slot.index] as GradientFactors;
    const network = tensorsFor(slot, theta);
    const { left, right } = updateOf(network, slot, own);
    const lr = tf.slice(network[EDIT_LRS] as tf.Tensor1D, slot.index, 1);
    const made = { x: own.x, delta: own.delta, x_new: right, delta_new: tf.div(left, lr) };
    for (const [part, tensor] of Object.entries(made)) {
      const where = `factors.${name}.${part}`;
      if (!file.tensors.has(where)) continue; // of some matrices alone
      tally.matrix(
        "factors",
        { ours: await tensor.data<"float32">(), golden: await file.read(where), where },
        TUNE.gradient,
      );
    }
    tf.dispose([made.x, made.delta, left, right, lr, made.delta_new, network]);
  }
  loss.dispose();
  batch.dispose();
}

/** Edits one after another, with the changes that they leave, and the evaluation. */
async function compareEdits(
  { tally, file, setting, options, slots }: Compared,
  golden: GoldenScenario,
  wanted: GoldenMend,
): Promise<void> {
  const session = startMend(options, setting);
  const comparison = { golden, tally, file, setting, session, logits: TUNE.logits };
  try {
    await compareTuneEdits(comparison, wanted.edits, {
      async after({ edit }) {
        const { tensors } = await session.state();
        for (const { site, index } of slots) {
          const where = `delta.${edit}.${options.inner_params[index]}`;
          if (!file.tensors.has(where)) continue;
          const of = (side: string) => tensors[`${siteName(site)}${side}`];
          const [whole, left, right] = [of(""), of(".left"), of(".right")];
          const ours = whole?.data ?? (await product(left as StateTensor, right as StateTensor));
          tally.matrix("delta", { ours, golden: await file.read(where), where }, TUNE.trained);
        }
      },
    });
    await compareTuneAnswers(comparison, wanted);
  } finally {
    session.dispose();
  }
}

/** left^T right, row-major. */
async function product(left: StateTensor, right: StateTensor): Promise<Float32Array> {
  const sum = tf.tidy(() => {
    const rows = ({ data, shape }: StateTensor) => tf.tensor2d(data, shape as [number, number]);
    return tf.matMul(rows(left), rows(right), true);
  });
  const values = await sum.data<"float32">();
  sum.dispose();
  return values;
}
