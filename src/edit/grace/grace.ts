import { throwIfAborted } from "../../core/errors.js";
import { batchCuts, type Cut, type CutBatch, logitsAt, mainOutput } from "../../model/cut.js";
import type { LlamaModel } from "../../model/model.js";
import { outputChange, type Site } from "../../model/patch.js";
import { PLAIN } from "../../model/prompt.js";
import { tf } from "../../tensor/tf.js";
import { createAdam } from "../adam.js";
import { defineMethod, type EditControl, type EditRequest, type EditSession, type EditSetting } from "../contract.js";
import { crossEntropy, oneHotTargets, targetsOf } from "../loss.js";
import { forcedRow, type TokenRow } from "../rows.js";
import type { EditState } from "../state.js";
import { oneByOne, runSteps, type StepsTaken } from "../steps.js";
import type { EditTrace } from "../trace.js";
import {
  type Codebook,
  type Entry,
  loadedCodebook,
  NO_ENTRIES,
  reachOf,
  storedCodebook,
  type Taken,
  takeIn,
} from "./codebook.js";
import {
  type GraceOptions,
  graceCheck,
  graceFixed,
  graceOptions,
  gracePresets,
  graceVariants,
  graceWithoutEffect,
} from "./options.js";
import { graceOverlay, graceRouter, type Places, placesOf, valueChange } from "./reading.js";

/** At a step, of a value's size: the value, its gradient, two moments; and those that a move makes on its way. */
const OF_A_STEP = 4;
const OF_A_MOVE = 4;

/** GRACE (arXiv 2211.11031): a codebook beside one value matrix; near a key, its value stands in for the output. */
export const grace = defineMethod<GraceOptions>({
  name: "grace",
  title: "GRACE",
  algName: "GRACE",
  about: "keeps a codebook beside one value matrix, and near a key lets its value stand in for the matrix' output",
  source: "Hartvigsen et al. 2023, arXiv 2211.11031",
  options: graceOptions,
  variants: graceVariants,
  fixed: graceFixed,
  withoutEffect: graceWithoutEffect,
  presets: gracePresets,
  stepLimit: "n_iter",
  targetTerm: "ce",
  terms: { ce: "fine-tuning" },
  router: graceRouter,
  check: graceCheck,
  plan: ({ layer }, { hiddenSize: D, intermediateSize: M }) => ({
    cut: { layer, at: "mlpIn" },
    sites: [],
    needs: { templates: null, irrelevant: false, subject: false, assets: [] },
    style: PLAIN,
    together: 1,
    rows: (request, { tokenizer }) => [forcedRow(request, tokenizer)],
    bytes: (edits) => {
      const kept = 4 * (M + D) * edits; // every edit adds an entry at most
      const stepping = 4 * D * OF_A_STEP;
      return { kept, stepping, reading: 0, working: Math.max(kept, stepping + 4 * D * OF_A_MOVE), variants: 1 };
    },
  }),
  start: (options, setting, saved) => startGrace(options, setting, saved && { saved }),
});

/** A state to go on from, and values that match another run. */
export interface GraceGiven {
  saved?: EditState;
  /** Value that a new entry of this edit starts with, [D]; drawn from [0, 1), when left out. */
  coldOf?: (edit: number) => Float32Array;
}

/** Edits with GRACE, from the untouched model or from a state. */
export function startGrace(options: GraceOptions, setting: EditSetting, given: GraceGiven = {}): EditSession {
  const { model } = setting;
  const { coldOf = (edit) => drawValue(setting, edit) } = given;
  let codebook = given.saved === undefined ? NO_ENTRIES : loadedCodebook(given.saved, model.config);

  async function edit(request: EditRequest, control: EditControl): Promise<EditTrace> {
    throwIfAborted(control.signal, "an edit");
    const started = performance.now();
    const row = forcedRow(request, model.tokenizer); // the key token is the prompt's last
    const [cut] = (await setting.cuts.get([row.ids], control.signal)) as [Cut];
    const problem = createProblem(model, options, { row, cut });
    const frozen = (performance.now() - started) / 1000;
    try {
      const value = options.val_init === "warm" ? await problem.mainValue() : coldOf(codebook.edits);
      const label = { tokens: row.ids.slice(row.promptTokens), promptTokens: row.promptTokens };
      const taken = takeIn(codebook.entries, { key: problem.key, value, radius: options.eps, label }, options);
      const { stood, stepped } = await train(problem, taken, control);
      codebook = stood;
      const { steps, stoppedEarly, seconds } = stepped;
      return {
        record: request.record,
        steps,
        stoppedEarly,
        numbers: numbersOf(taken),
        seconds: { frozen, steps: seconds },
      };
    } finally {
      problem.dispose();
    }
  }

  /** Adam on the value of the entry that is now nearest. The codebook of the session is not touched. */
  async function train(
    problem: GraceProblem,
    { entries, now }: Taken,
    control: EditControl,
  ): Promise<{ stood: Codebook; stepped: StepsTaken }> {
    const entry = entries[now.index] as Entry;
    // released: an entry that does not reach the edit's own key answers with the model's output, and learns nothing.
    const answers = now.distance <= reachOf({ ...entry, ...now });
    const places = placesOf(problem.batch, [answers ? problem.row.promptTokens - 1 : null], options);
    const adam = createAdam(options.edit_lr);
    let value = tf.tensor2d(entry.value, [1, entry.value.length]);
    const stood = async (): Promise<Codebook> => ({
      edits: codebook.edits + 1,
      entries: entries.with(now.index, { ...entry, value: await value.data<"float32">() }),
      lastPrompt: problem.row.promptTokens,
    });
    try {
      const stepped = await runSteps(
        {
          limit: options.n_iter,
          async pass() {
            const made = problem.lossAndGradient(value, places);
            const [ce] = (await made.loss.data<"float32">()) as unknown as [number];
            const move = () => {
              const before = value;
              value = adam.step(before, made.gradient) as tf.Tensor2D;
              before.dispose();
            };
            return { report: { loss: ce, terms: { ce }, numbers: {} }, move, dispose: () => tf.dispose(made) };
          },
          settled: () => false,
          standing: async () => graceOverlay(await stood(), options),
          hint: "a smaller edit_lr keeps it finite",
        },
        control,
      );
      return { stood: await stood(), stepped };
    } finally {
      adam.dispose();
      tf.dispose([places.stands, places.keep, value]);
    }
  }

  return {
    edit: oneByOne(edit),
    overlay: async () => graceOverlay(codebook, options),
    state: async () => storedCodebook(codebook),
    dispose: () => {},
  };
}

/** Numbers of an edit in the codebook: the key that was nearest before it, if any, and the key whose value it trained. */
function numbersOf({ event, before, now, entries }: Taken): EditTrace["numbers"] {
  const after = { event, key: now.index, distance: now.distance, keys: entries.length };
  return before === null ? after : { ...after, nearest: before.index, nearest_distance: before.distance };
}

/** Uniform in [0, 1), keyed by (seed, edit). */
function drawValue({ model, rng }: EditSetting, edit: number): Float32Array {
  const own = rng.fork("value", edit);
  return Float32Array.from({ length: model.config.hiddenSize }, own.uniform);
}

/** Everything of one edit that is the same at each of its steps. */
export interface GraceProblem {
  row: TokenRow;
  batch: CutBatch;
  /** Input of the value matrix at the key token, [M]. */
  key: Float32Array;
  /** Its output there in the untouched model, [D]. */
  mainValue(): Promise<Float32Array>;
  /**
   * Mean of -log P over the target tokens, in nats, and its gradient with respect to the value, [1, D]. The caller
   * disposes both.
   */
  lossAndGradient(value: tf.Tensor2D, places: Places): { loss: tf.Scalar; gradient: tf.Tensor2D };
  dispose(): void;
}

/** Puts an edit on the device. */
export function createProblem(
  model: LlamaModel,
  { layer }: Pick<GraceOptions, "layer">,
  { row, cut }: { row: TokenRow; cut: Cut },
): GraceProblem {
  const { hiddenSize: D, intermediateSize: M, vocabSize } = model.config;
  const site: Site = { layer, matrix: "down" };
  const token = row.promptTokens - 1;
  const { spots, ids, weights } = targetsOf([row]);
  const batch = batchCuts(model, [cut], [row.promptTokens]);
  const made = {
    main: tf.tidy(() => mainOutput(model, batch)), // [T, D]
    targets: oneHotTargets(ids, vocabSize),
    weights: tf.tensor1d(weights),
  };
  const main = { site, change: outputChange(made.main) };
  return {
    row,
    batch,
    key: (cut.mlpIn as Float32Array).slice(token * M, (token + 1) * M),
    mainValue: async () => (await made.main.data<"float32">()).slice(token * D, (token + 1) * D),
    lossAndGradient(value, places) {
      const loss = (at: tf.Tensor) => {
        const patch = [main, { site, change: valueChange(places, at as tf.Tensor2D) }];
        return crossEntropy(logitsAt(model, batch, { patch, spots }), made.targets, made.weights);
      };
      const { value: ce, grad } = tf.tidy(() => tf.valueAndGrad(loss)(value));
      return { loss: ce as tf.Scalar, gradient: grad as tf.Tensor2D };
    },
    dispose: () => {
      batch.dispose();
      tf.dispose(made);
    },
  };
}
