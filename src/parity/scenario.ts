import { join } from "node:path";
import { createRng } from "../core/rng.js";
import type { EditSetting } from "../edit/contract.js";
import { editRows, sequencesOfRows } from "../edit/rows.js";
import type { EditTrace } from "../edit/trace.js";
import type { WiseOptions } from "../edit/wise/options.js";
import { createProblem, runStep } from "../edit/wise/step.js";
import { startWise, type WiseSession, type WiseSnapshot } from "../edit/wise/wise.js";
import { encodeProbe, type Probe, scoreProbes } from "../eval/score.js";
import type { ProbeScore, Route } from "../eval/types.js";
import { batchCuts } from "../model/cut.js";
import { createCutStore } from "../model/cut-store.js";
import type { LlamaModel } from "../model/model.js";
import { PLAIN } from "../model/prompt.js";
import { openSafetensors, type SafetensorsFile } from "../model/safetensors.js";
import { tf } from "../tensor/tf.js";
import type { GoldenEdit, GoldenFolder, GoldenProbe, GoldenWise } from "./golden-files.js";
import { createTally, type ParityItem, type Tally } from "./tally.js";

/** The tolerances of the golden folder's README, for a float32 implementation. */
interface Tolerances {
  loss: number;
  distance: number;
  /** Distances at inference, against merged memories. */
  readDistance: number;
  gradient: number;
  side: number;
  memory: number;
  steps: number;
  /** Predicted token lists or routes that may differ. */
  readings: number;
}

const STRICT: Tolerances = {
  loss: 1e-3,
  distance: 5e-3,
  readDistance: 5e-3,
  gradient: 2e-3,
  side: 2e-3,
  memory: 2e-3,
  steps: 0.01,
  readings: 0,
};

/** With weight decay on masked entries a merge decides by rounding which of them survive. */
const DECAYED_MERGE: Tolerances = { ...STRICT, memory: 4e-2, readDistance: 3e-2, readings: 3 };

/** Runs one wise-NAME scenario through editing and scoring and compares every recorded quantity. */
export async function compareScenario(golden: GoldenFolder, name: string, model: LlamaModel): Promise<ParityItem[]> {
  const wanted = golden.scenarios.get(name) as GoldenWise;
  const file = await openSafetensors(join(golden.folder, `wise-${name}.safetensors`));
  const tally = createTally(`wise-${name}`);
  const options = optionsOf(wanted);
  const merged = wanted.edits.length >= options.mergeFreq;
  const comparison: Comparison = {
    model,
    golden,
    wanted,
    file,
    tally,
    options,
    tolerances: options.weightDecay > 0 && merged ? DECAYED_MERGE : STRICT,
  };
  const setting: EditSetting = {
    model,
    cuts: createCutStore(model, options.layer),
    templates: wanted.templates,
    rng: createRng(0),
  };
  try {
    await compareGradient(comparison, setting);
    const masks = await readMasks(comparison);
    const session = startWise(setting, options, (shard) => masks[shard] as Uint8Array);
    try {
      for (const edit of wanted.edits) await compareEdit(comparison, session, edit);
      await compareMemories(comparison, await session.snapshot());
      await compareEvaluation(comparison, session, setting);
    } finally {
      session.dispose();
    }
  } finally {
    await file.close();
  }
  return tally.items();
}

interface Comparison {
  model: LlamaModel;
  golden: GoldenFolder;
  wanted: GoldenWise;
  file: SafetensorsFile;
  tally: Tally;
  options: WiseOptions;
  tolerances: Tolerances;
}

function optionsOf({ layer, options }: GoldenWise): WiseOptions {
  return {
    layer,
    lr: options.lr,
    steps: options.steps,
    maskRatio: 1, // the masks are given
    alpha: options.alpha,
    beta: options.beta,
    gamma: options.gamma,
    actRatio: options.act_ratio,
    normConstraint: options.norm_constraint,
    saveFreq: options.save_freq,
    mergeFreq: options.merge_freq,
    mergeAlg: options.merge,
    density: options.density,
    mergeWeight: options.merge_weight,
    retrieve: options.retrieve,
    replay: false,
    chatTemplate: false,
    doubleBos: false,
    activationOnDistance: options.distance_act,
    lossDividesByTargetsPlusOne: options.label_mean_extra,
    weightDecay: options.weight_decay,
    longSequenceMax: false,
    seed: 0,
  };
}

/** The masks that the reference drew, one per shard that was begun. */
async function readMasks({ file, wanted, options }: Comparison): Promise<Uint8Array[]> {
  const masks: Uint8Array[] = [];
  for (let shard = 0; shard * options.saveFreq < wanted.edits.length; shard++) {
    masks.push(await file.readRaw(`mask.${shard}`));
  }
  return masks;
}

function requestOf({ golden, wanted }: Comparison, edit: number) {
  const { records, irrelevant } = golden.records;
  const record = records[edit] as (typeof records)[number];
  const templates = wanted.templates;
  return {
    request: {
      record: edit,
      prompt: record.src,
      target: record.alt,
      irrelevant: irrelevant[edit % irrelevant.length] as string,
    },
    templates,
  };
}

/** Gradient of the whole loss with respect to the value matrix at the first step, before masking. */
async function compareGradient(comparison: Comparison, { model, cuts }: EditSetting): Promise<void> {
  const { request, templates } = requestOf(comparison, 0);
  const rows = editRows(model.tokenizer, request, { templates, style: PLAIN });
  const batch = batchCuts(model, await cuts.get(sequencesOfRows(rows)));
  const problem = createProblem(model, comparison.options, batch, rows.templates);
  const zero = tf.zeros<tf.Rank.R2>([model.config.hiddenSize, model.config.intermediateSize]);
  const step = runStep(problem, zero, null);
  try {
    const ours = await step.gradient.data<"float32">();
    const golden = await comparison.file.read("first_gradient");
    comparison.tally.matrix(
      "first gradient",
      { ours, golden, where: "edit 0, step 0" },
      comparison.tolerances.gradient,
    );
  } finally {
    step.dispose();
    zero.dispose();
    problem.dispose();
  }
}

async function compareEdit(comparison: Comparison, session: WiseSession, wanted: GoldenEdit): Promise<void> {
  const { tally, file, tolerances, options } = comparison;
  const { request, templates } = requestOf(comparison, wanted.edit);
  compareRows(comparison, wanted, { request, templates });
  const trace = await session.edit(request);
  compareSteps(comparison, wanted, trace);
  const snapshot = await session.snapshot();
  const where = `edit ${wanted.edit}`;
  tally.number("min_act", { ours: snapshot.minAct, golden: wanted.min_act, where }, tolerances.distance);
  const saved = options.retrieve ? snapshot.memories.length + snapshot.shards.length : snapshot.shards.length;
  tally.equal("memories saved", { ours: saved, golden: wanted.memories, where });
  tally.equal("merged memory stands", { ours: snapshot.merged !== null, golden: wanted.merged, where });
  const side = { ours: snapshot.side, golden: await file.read(`side.${wanted.edit}`), where };
  tally.matrix("side memory", side, tolerances.side);
}

/** Token ids without the padding, and the labels as the start of the target. */
function compareRows({ tally, model }: Comparison, wanted: GoldenEdit, made: ReturnType<typeof requestOf>): void {
  const rows = editRows(model.tokenizer, made.request, { templates: made.templates, style: PLAIN });
  wanted.ids.forEach((padded, row) => {
    const real = (values: readonly number[]) => values.filter((_, i) => wanted.attention[row]?.[i] === 1);
    const start = real(wanted.labels[row] ?? []).findIndex((label) => label !== -100);
    const ours = rows.templates[row] ?? { ids: rows.irrelevant, promptTokens: -1 };
    const golden = { ids: real(padded), promptTokens: start };
    tally.equal("edit rows", { ours, golden, where: `edit ${wanted.edit}, row ${row}` });
  });
}

function compareSteps({ tally, tolerances }: Comparison, wanted: GoldenEdit, trace: EditTrace): void {
  const count = { ours: trace.steps.length, golden: wanted.n_steps, where: `edit ${wanted.edit}` };
  tally.number("steps", { ...count, measure: "relative" }, tolerances.steps);
  for (const golden of wanted.steps) {
    const ours = trace.steps[golden.step];
    if (ours === undefined) continue; // within the allowed difference in steps, or "steps" has failed
    const where = `edit ${wanted.edit}, step ${golden.step}`;
    const loss = (item: string, values: { ours: number; golden: number }) =>
      tally.number(item, { ...values, where, measure: "relative" }, tolerances.loss);
    loss("loss ft", { ours: ours.ft, golden: golden.ft });
    loss("loss act", { ours: ours.act, golden: golden.act });
    loss("loss", { ours: ours.loss, golden: golden.loss });
    const inScope = { ours: ours.inScope, golden: golden.in_scope, where };
    const outOfScope = { ours: ours.outOfScope, golden: golden.out_of_scope, where };
    tally.number("distance in scope", inScope, tolerances.distance);
    tally.number("distance out of scope", outOfScope, tolerances.distance);
  }
}

async function compareMemories({ tally, file, tolerances, options }: Comparison, made: WiseSnapshot): Promise<void> {
  const saved = options.retrieve ? [...made.memories, ...made.shards] : made.shards;
  for (const [i, { delta }] of saved.entries()) {
    const where = `memory.${i}`;
    tally.matrix("memories", { ours: delta, golden: await file.read(where), where }, tolerances.memory);
  }
  if (made.merged === null) return;
  const merged = { ours: made.merged, golden: await file.read("merged"), where: "merged" };
  tally.matrix("merged memory", merged, tolerances.memory);
}

async function compareEvaluation(comparison: Comparison, session: WiseSession, setting: EditSetting): Promise<void> {
  const { golden, wanted, tally, tolerances } = comparison;
  const overlay = await session.overlay();
  const sums = { rewrite: 0, rephrase: 0, loc: 0 };
  try {
    for (const [i, evaluated] of wanted.evaluation.entries()) {
      const record = golden.records.records[i] as (typeof golden.records.records)[number];
      const probes: Probe[] = [
        { kind: "rewrite", prompt: record.src, answer: record.alt },
        { kind: "rephrase", prompt: record.rephrase, answer: record.alt },
        { kind: "locality", prompt: record.loc, answer: record.loc_ans },
      ];
      const scores = await scoreProbes(probes, overlay, { ...setting, style: PLAIN });
      for (const [k, field] of (["rewrite", "rephrase", "loc"] as const).entries()) {
        const score = scores[k] as ProbeScore;
        sums[field] += score.score / wanted.evaluation.length;
        compareProbe(comparison, evaluated[field], {
          probe: probes[k] as Probe,
          score,
          where: `record ${i}, ${field}`,
        });
      }
    }
  } finally {
    overlay.dispose();
  }
  for (const field of ["rewrite", "rephrase", "loc"] as const) {
    // A reading that may differ moves a mean by at most one record's worth.
    const allowed = tolerances.readings / wanted.evaluation.length + 1e-9;
    tally.number(`mean ${field}`, { ours: sums[field], golden: wanted.mean[field], where: field }, allowed);
  }
}

function compareProbe(
  { tally, tolerances, options, model }: Comparison,
  golden: GoldenProbe,
  ours: { probe: Probe; score: ProbeScore; where: string },
): void {
  const { probe, score, where } = ours;
  const encoded = encodeProbe(model, probe, PLAIN);
  const tokens = { ids: golden.ids, promptTokens: golden.prompt_tokens };
  tally.equal("probe tokens", { ours: encoded, golden: tokens, where });
  tally.equal("target tokens", { ours: score.target, golden: golden.target, where });
  tally.equal("predictions before", { ours: score.pre, golden: golden.pre, where });
  const route = routeNumber(score, options);
  const same = { ours: [score.post, route], golden: [golden.post, golden.route], where };
  tally.equal("predictions and routes after", same, tolerances.readings);
  if (tolerances.readings === 0) tally.number("score", { ours: score.score, golden: golden.score, where }, 1e-9);
  if (golden.pre_score !== null) {
    tally.number("score before", { ours: score.preScore ?? Number.NaN, golden: golden.pre_score, where }, 1e-9);
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
  return route === "side" ? readings.length - 1 : readings.findIndex(({ memory }) => memory === route) - 1;
}

/** Readings as the golden files write them, flat. */
function distancesOf({ readings }: ProbeScore, { retrieve }: WiseOptions): number[] {
  if (retrieve) return readings.flatMap(({ delta, minAct }) => [delta, minAct]);
  const of = (memory: Route) => readings.find((reading) => reading.memory === memory);
  return [of("merged")?.delta ?? 0, of("side")?.delta ?? Number.NaN, of("side")?.threshold ?? Number.NaN];
}
