import { z } from "zod";
import type { EditSession, EditSetting } from "../../edit/contract.js";
import { createProblem, startGrace } from "../../edit/grace/grace.js";
import type { GraceOptions } from "../../edit/grace/options.js";
import { placesOf } from "../../edit/grace/reading.js";
import { MAIN } from "../../edit/overlay.js";
import type { EditTrace } from "../../edit/trace.js";
import type { Cut } from "../../model/cut.js";
import type { LlamaModel } from "../../model/model.js";
import type { SafetensorsFile } from "../../model/safetensors.js";
import { tf } from "../../tensor/tf.js";
import { meanSchema, probeSchema } from "./evaluation.js";
import { type GoldenScenario, readScenario, withTensors } from "./golden-files.js";
import { settingOf } from "./setting.js";
import { createTally, type ParityItem, type Tally } from "./tally.js";
import { TUNE } from "./tolerances.js";
import { compareTuneAnswers, compareTuneEdits, tuneEdit, tuneEvaluation } from "./tune.js";

const edit = tuneEdit.extend({
  event: z.object({
    event: z.string(),
    nearest: z.number().int().nullable(),
    nearest_distance: z.number().nullable(),
    /** Key whose value the edit trains, and its distance afterwards. */
    key: z.number().int(),
    distance: z.number(),
  }),
  keys: z.number().int(),
});

/** Which key answers, -1 for none, and the distance of the nearest. */
const probe = probeSchema.extend({ key: z.number().int(), distance: z.number() });

/** grace-NAME.json */
const graceSchema = z.object({
  options: z.object({
    layer: z.number().int(),
    eps: z.number(),
    lr: z.number(),
    n_iter: z.number().int(),
    replacement: z.enum(["replace_last", "replace_all", "replace_prompt"]),
    eps_expand: z.enum(["coverage", "moving_average"]),
    label_match: z.enum(["target", "mean"]),
    label_order: z.enum(["own", "reversed"]),
    key_at: z.enum(["prompt_end", "last_edit"]),
    resolution: z.number(),
  }),
  edits: z.array(edit),
  evaluation: tuneEvaluation(probe),
  mean: meanSchema,
});

type GoldenEdit = z.infer<typeof edit>;

/** Runs one scenario of GRACE through editing and scoring and compares every recorded quantity. */
export async function compareGrace(golden: GoldenScenario, model: LlamaModel): Promise<ParityItem[]> {
  const wanted = readScenario(golden, graceSchema);
  const { lr, ...given } = wanted.options;
  const options: GraceOptions = { ...given, edit_lr: lr, val_init: "cold", eps_ratio: 1 };
  const setting = settingOf(model, { layer: options.layer, at: "mlpIn" });
  const tally = createTally(golden.name);
  await withTensors(golden, async (file) => {
    const colds: Float32Array[] = [];
    for (const { edit } of wanted.edits) colds.push(await file.read(`cold.${edit}`));
    const coldOf = (edit: number) => colds[edit] as Float32Array;
    await compareGradient(tally, { file, setting, options, first: wanted.edits[0] as GoldenEdit });
    const session = startGrace(options, setting, { coldOf });
    const comparison = { golden, tally, file, setting, session, logits: TUNE.logits };
    try {
      await compareTuneEdits(comparison, wanted.edits, {
        after: (edit, trace) => compareCodebook(comparison, edit, trace),
      });
      await compareEnd(comparison);
      for (const { golden, score, where } of await compareTuneAnswers(comparison, wanted)) {
        const numbers = score.readings[0]?.numbers;
        const key = score.route === MAIN ? -1 : numbers?.key;
        tally.equal("answering key", { ours: key, golden: golden.key, where });
        const distance = { ours: numbers?.distance ?? Number.NaN, golden: golden.distance, where };
        tally.number("distance when read", distance, TUNE.distance);
      }
    } finally {
      session.dispose();
    }
  });
  return tally.items();
}

/** Gradient of the loss with respect to the value, where the first edit begins. */
async function compareGradient(
  tally: Tally,
  given: { file: SafetensorsFile; setting: EditSetting; options: GraceOptions; first: GoldenEdit },
): Promise<void> {
  const { file, setting, options, first } = given;
  const row = { ids: first.ids, promptTokens: first.prompt_tokens };
  const [cut] = (await setting.cuts.get([row.ids])) as [Cut];
  const problem = createProblem(setting.model, options, { row, cut });
  const places = placesOf(problem.batch, [row.promptTokens - 1], options);
  const value = tf.tensor2d(await file.read("cold.0"), [1, setting.model.config.hiddenSize]);
  const { loss, gradient } = problem.lossAndGradient(value, places);
  try {
    const ours = await gradient.data<"float32">();
    const golden = await file.read("first_gradient");
    tally.matrix("first gradient", { ours, golden, where: "edit 0, step 0" }, TUNE.gradient);
  } finally {
    tf.dispose([places.stands, places.keep, value, loss, gradient]);
    problem.dispose();
  }
}

/** The JSON of a GRACE state. */
const stateSchema = z.object({ radii: z.array(z.number()) });

interface Edited {
  tally: Tally;
  file: SafetensorsFile;
  session: EditSession;
}

/** Compares the event of an edit in the codebook. */
async function compareCodebook({ tally, file, session }: Edited, wanted: GoldenEdit, trace: EditTrace): Promise<void> {
  const where = `edit ${wanted.edit}`;
  const { event, nearest, nearest_distance, key, distance } = wanted.event;
  const { numbers } = trace;
  const did = { ours: [numbers.event, numbers.nearest ?? null, numbers.key], golden: [event, nearest, key], where };
  tally.equal("event and keys", did);
  tally.equal("number of keys", { ours: numbers.keys, golden: wanted.keys, where });
  tally.number("distance", { ours: Number(numbers.distance), golden: distance, where }, TUNE.distance);
  if (nearest_distance !== null) {
    const before = { ours: Number(numbers.nearest_distance), golden: nearest_distance, where };
    tally.number("distance before", before, TUNE.distance);
  }
  const { tensors, json } = await session.state();
  const { data, shape } = tensors.values ?? { data: new Float32Array(), shape: [0, 0] };
  const width = shape[1] as number;
  const value = { ours: data.slice(key * width, (key + 1) * width), golden: await file.read(`value.${wanted.edit}`) };
  tally.matrix("trained value", { ...value, where }, TUNE.trained);
  const radii = Float32Array.from(stateSchema.parse(json).radii);
  tally.entries("radii", { ours: radii, golden: await file.read(`epsilons.${wanted.edit}`), where }, TUNE.distance);
}

/** The codebook after the last edit. */
async function compareEnd({ tally, file, session }: Edited): Promise<void> {
  const { tensors } = await session.state();
  for (const [name, tolerance] of [
    ["keys", TUNE.key],
    ["values", TUNE.trained],
  ] as const) {
    const ours = tensors[name]?.data ?? new Float32Array();
    tally.matrix(name, { ours, golden: await file.read(name), where: name }, tolerance);
  }
}
