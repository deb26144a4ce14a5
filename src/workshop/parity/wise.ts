import { z } from "zod";
import type { EditRequest, EditSession, EditSetting } from "../../edit/contract.js";
import { sequencesOfRows } from "../../edit/rows.js";
import type { EditState } from "../../edit/state.js";
import { MERGE_ALGORITHMS, type WiseOptions } from "../../edit/wise/options.js";
import { wiseRows } from "../../edit/wise/rows.js";
import { createProblem, runStep } from "../../edit/wise/step.js";
import { startWise } from "../../edit/wise/wise.js";
import type { ProbeScore } from "../../eval/types.js";
import { batchCuts } from "../../model/cut.js";
import type { LlamaModel } from "../../model/model.js";
import type { SafetensorsFile } from "../../model/safetensors.js";
import { tf } from "../../tensor/tf.js";
import {
  compareMeans,
  compareTokens,
  meanSchema,
  probeSchema,
  ROUNDING,
  type ScoredProbe,
  scoreEvaluation,
} from "./evaluation.js";
import { type GoldenScenario, ids, readScenario, recordAt, withTensors } from "./golden-files.js";
import { settingOf } from "./setting.js";
import { compareSteps } from "./steps.js";
import { createTally, type ParityItem, type Tally } from "./tally.js";
import { WISE, WISE_DECAYED_MERGE, type WiseTolerances } from "./tolerances.js";

const step = z.object({
  step: z.number().int(),
  ft: z.number(),
  act: z.number(),
  loss: z.number(),
  in_scope: z.number(),
  out_of_scope: z.number(),
});

const edit = z.object({
  edit: z.number().int(),
  ids: z.array(ids),
  attention: z.array(ids),
  /** -100 off target. */
  labels: z.array(ids),
  steps: z.array(step),
  n_steps: z.number().int(),
  min_act: z.number(),
  memories: z.number().int(),
  merged: z.boolean(),
});

const probe = probeSchema.extend({
  /** Retrieve: -1 main, an index that memory, the number of memories the side memory. Merge: main, merged, side. */
  route: z.union([z.number().int(), z.string()]),
  /** Retrieve: [Delta, min_act] of the side memory, then of each memory. Merge: Delta merged, Delta side, threshold. */
  distances: z.union([z.array(z.tuple([z.number(), z.number()])), z.tuple([z.number(), z.number(), z.number()])]),
});

/** wise-NAME.json */
const wiseSchema = z.object({
  model: z.string(),
  layer: z.number().int(),
  options: z.object({
    lr: z.number(),
    steps: z.number().int(),
    alpha: z.number(),
    beta: z.number(),
    gamma: z.number(),
    act_ratio: z.number(),
    norm_constraint: z.number().nullable(),
    save_freq: z.number().int(),
    merge_freq: z.number().int(),
    density: z.number(),
    merge_weight: z.number(),
    retrieve: z.boolean(),
    merge: z.enum(MERGE_ALGORITHMS),
    distance_act: z.boolean(),
    label_mean_extra: z.boolean(),
    weight_decay: z.number(),
  }),
  templates: z.array(z.string()),
  edits: z.array(edit),
  evaluation: z.array(z.object({ src: z.string(), rewrite: probe, rephrase: probe, loc: probe })),
  mean: meanSchema,
});

export type GoldenWise = z.infer<typeof wiseSchema>;
export type GoldenEdit = z.infer<typeof edit>;
type GoldenProbe = z.infer<typeof probe>;

interface Comparison {
  model: LlamaModel;
  golden: GoldenScenario;
  wanted: GoldenWise;
  file: SafetensorsFile;
  tally: Tally;
  options: WiseOptions;
  tolerances: WiseTolerances;
}

/** Compares a wise-NAME scenario: first gradient, every edit, the memories, and the evaluation. */
export async function compareWise(golden: GoldenScenario, model: LlamaModel): Promise<ParityItem[]> {
  const wanted = readScenario(golden, wiseSchema);
  const options = optionsOf(wanted);
  const merged = wanted.edits.length >= options.merge_freq;
  const tolerances = options.weight_decay > 0 && merged ? WISE_DECAYED_MERGE : WISE;
  const tally = createTally(golden.name);
  const setting = settingOf(model, { layer: options.layer, at: "mlpIn" }, { templates: wanted.templates });
  await withTensors(golden, async (file) => {
    const comparison: Comparison = { model, golden, wanted, file, tally, options, tolerances };
    await compareGradient(comparison, setting);
    const masks = await readMasks(comparison);
    const session = startWise(options, setting, { maskOf: (shard) => masks[shard] as Uint8Array });
    try {
      for (const edit of wanted.edits) await compareEdit(comparison, session, edit);
      await compareMemories(comparison, await session.state());
      await compareAnswers(comparison, session, setting);
    } finally {
      session.dispose();
    }
  });
  return tally.items();
}

function optionsOf({ layer, options }: GoldenWise): WiseOptions {
  return {
    layer,
    edit_lr: options.lr,
    n_iter: options.steps,
    mask_ratio: 1, // the masks are given
    act_margin: [options.alpha, options.beta, options.gamma],
    act_ratio: options.act_ratio,
    norm_constraint: options.norm_constraint,
    save_freq: options.save_freq,
    merge_freq: options.merge_freq,
    merge_alg: options.merge,
    densities: options.density,
    weights: options.merge_weight,
    retrieve: options.retrieve,
    replay: false,
    use_chat_template: false,
    double_bos: false,
    distance_act: options.distance_act,
    label_mean_extra: options.label_mean_extra,
    released_label_cut: false,
    weight_decay: options.weight_decay,
    long_sequence_max: false,
  };
}

/** The masks that the reference drew, one per shard that was begun. */
async function readMasks({ file, wanted, options }: Comparison): Promise<Uint8Array[]> {
  const masks: Uint8Array[] = [];
  for (let shard = 0; shard * options.save_freq < wanted.edits.length; shard++) {
    masks.push(await file.readRaw(`mask.${shard}`));
  }
  return masks;
}

function requestOf({ golden }: Comparison, edit: number): EditRequest {
  const { irrelevant } = golden.records;
  const { src, alt } = recordAt(golden, edit);
  return {
    record: edit,
    prompt: src,
    target: alt,
    subject: null,
    irrelevant: irrelevant[edit % irrelevant.length] ?? null,
  };
}

function rowsOf(comparison: Comparison, edit: number) {
  const { model, wanted, options } = comparison;
  const context = { tokenizer: model.tokenizer, templates: wanted.templates };
  return wiseRows(requestOf(comparison, edit), context, options);
}

/** Gradient of the whole loss with respect to the value matrix at the first step, before masking. */
async function compareGradient(comparison: Comparison, { model, cuts }: EditSetting): Promise<void> {
  const rows = rowsOf(comparison, 0);
  const batch = batchCuts(model, await cuts.get(sequencesOfRows(rows)));
  const problem = createProblem(model, comparison.options, batch, rows);
  const zero = tf.zeros<tf.Rank.R2>([model.config.hiddenSize, model.config.intermediateSize]);
  const first = runStep(problem, zero, null);
  try {
    const ours = await first.gradient.data<"float32">();
    const golden = await comparison.file.read("first_gradient");
    comparison.tally.matrix(
      "first gradient",
      { ours, golden, where: "edit 0, step 0" },
      comparison.tolerances.gradient,
    );
  } finally {
    first.dispose();
    zero.dispose();
    problem.dispose();
  }
}

/** The JSON of a WISE state: after a shard is saved, min_act is that of the empty side memory that follows. */
const stateSchema = z.object({ minAct: z.number() });

async function compareEdit(comparison: Comparison, session: EditSession, wanted: GoldenEdit): Promise<void> {
  const { tally, file, tolerances } = comparison;
  const where = `edit ${wanted.edit}`;
  compareRows(comparison, wanted);
  const [trace] = await session.edit([requestOf(comparison, wanted.edit)]);
  const steps = trace?.steps ?? [];
  const count = { ours: steps.length, golden: wanted.n_steps, where, measure: "relative" } as const;
  tally.number("steps", count, tolerances.steps);
  const loss = { measure: "relative", tolerance: tolerances.loss } as const;
  const distance = { tolerance: tolerances.distance };
  compareSteps(tally, { ours: steps, golden: wanted.steps, where }, [
    { item: "loss ft", ours: ({ terms }) => terms.ft, golden: ({ ft }) => ft, ...loss },
    { item: "loss act", ours: ({ terms }) => terms.act, golden: ({ act }) => act, ...loss },
    { item: "loss", ours: (step) => step.loss, golden: (step) => step.loss, ...loss },
    {
      item: "distance in scope",
      ours: ({ numbers }) => numbers.in_scope,
      golden: ({ in_scope }) => in_scope,
      ...distance,
    },
    {
      item: "distance out of scope",
      ours: ({ numbers }) => numbers.out_of_scope,
      golden: ({ out_of_scope }) => out_of_scope,
      ...distance,
    },
  ]);
  const { tensors, json } = await session.state();
  const { minAct } = stateSchema.parse(json);
  tally.number("min_act", { ours: minAct, golden: wanted.min_act, where }, tolerances.distance);
  const saved = savedMemories(comparison, tensors).length;
  tally.equal("memories saved", { ours: saved, golden: wanted.memories, where });
  tally.equal("merged memory stands", { ours: tensors.merged !== undefined, golden: wanted.merged, where });
  const side = { ours: dataOf(tensors.side), golden: await file.read(`side.${wanted.edit}`), where };
  tally.matrix("side memory", side, tolerances.side);
}

/** Token ids without the padding, and the labels as the start of the target. */
function compareRows(comparison: Comparison, wanted: GoldenEdit): void {
  const rows = rowsOf(comparison, wanted.edit);
  wanted.ids.forEach((padded, row) => {
    const real = (values: readonly number[]) => values.filter((_, i) => wanted.attention[row]?.[i] === 1);
    const own = real(padded);
    const start = real(wanted.labels[row] ?? []).findIndex((label) => label !== -100);
    const isTemplate = row < wanted.ids.length - 1;
    const golden = { ids: own, promptTokens: isTemplate ? start : own.length };
    comparison.tally.equal("edit rows", { ours: rows[row], golden, where: `edit ${wanted.edit}, row ${row}` });
  });
}

/** Memories in the order of saving. Shards that Retrieve has not merged yet follow those that were merged. */
function savedMemories({ options }: Comparison, tensors: EditState["tensors"]): Float32Array[] {
  const named = (kind: string) =>
    Object.entries(tensors)
      .filter(([name]) => name.startsWith(`${kind}.`))
      .map(([, { data }]) => data);
  return options.retrieve ? [...named("memory"), ...named("shard")] : named("shard");
}

function dataOf(tensor: { data: Float32Array } | undefined): Float32Array {
  return tensor?.data ?? new Float32Array();
}

async function compareMemories(comparison: Comparison, { tensors }: EditState): Promise<void> {
  const { tally, file, tolerances } = comparison;
  for (const [i, ours] of savedMemories(comparison, tensors).entries()) {
    const where = `memory.${i}`;
    tally.matrix("memories", { ours, golden: await file.read(where), where }, tolerances.memory);
  }
  if (tensors.merged === undefined) return;
  const merged = { ours: dataOf(tensors.merged), golden: await file.read("merged"), where: "merged" };
  tally.matrix("merged memory", merged, tolerances.memory);
}

async function compareAnswers(comparison: Comparison, session: EditSession, setting: EditSetting): Promise<void> {
  const { golden, wanted, tally, tolerances } = comparison;
  const evaluation = wanted.evaluation.map((evaluated, i) => ({
    ...evaluated,
    record: recordAt(golden, i),
    where: `record ${i}`,
  }));
  const overlay = await session.overlay();
  try {
    const scored = await scoreEvaluation(evaluation, { ...setting, overlay });
    for (const one of scored) compareAnswer(comparison, one);
    // A reading that may differ moves a mean by at most one record's worth.
    const allowed = tolerances.readings / evaluation.length + ROUNDING;
    const scores = scored.map(({ question, score }) => ({ question, score: score.score }));
    compareMeans(tally, scores, wanted.mean, allowed);
  } finally {
    overlay.dispose();
  }
}

function compareAnswer({ tally, tolerances, options, model }: Comparison, one: ScoredProbe<GoldenProbe>): void {
  const { golden, score, where } = one;
  compareTokens(tally, model, one);
  tally.equal("predictions before", { ours: score.pre, golden: golden.pre, where });
  const route = routeNumber(score, options);
  const same = { ours: [score.post, route], golden: [golden.post, golden.route], where };
  tally.equal("predictions and routes after", same, tolerances.readings);
  if (tolerances.readings === 0) tally.number("score", { ours: score.score, golden: golden.score, where }, ROUNDING);
  if (typeof golden.pre_score === "number") {
    const before = { ours: score.preScore ?? Number.NaN, golden: golden.pre_score, where };
    tally.number("score before", before, ROUNDING);
  }
  const wanted = golden.distances.flat();
  distancesOf(score, options).forEach((distance, i) => {
    const values = { ours: distance, golden: wanted[i] ?? Number.NaN, where: `${where}, distances[${i}]` };
    tally.number("distances and thresholds", values, tolerances.readDistance);
  });
}

/** A route as the golden files write it. */
function routeNumber({ route, readings }: ProbeScore, { retrieve }: WiseOptions): number | string {
  if (!retrieve) return route;
  if (route === "main") return -1;
  return route === "side" ? readings.length - 1 : readings.findIndex(({ variant }) => variant === route) - 1;
}

/** Readings as the golden files write them, flat. */
function distancesOf({ readings }: ProbeScore, { retrieve, act_ratio }: WiseOptions): number[] {
  const number = (reading: ProbeScore["readings"][number] | undefined, name: string) =>
    reading?.numbers[name] ?? Number.NaN;
  if (retrieve) return readings.flatMap((reading) => [number(reading, "delta"), number(reading, "min_act")]);
  const of = (variant: string) => readings.find((reading) => reading.variant === variant);
  const merged = of("merged") === undefined ? 0 : number(of("merged"), "delta");
  return [merged, number(of("side"), "delta"), act_ratio * number(of("side"), "min_act")];
}
