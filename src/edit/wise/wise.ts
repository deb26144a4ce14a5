import { throwIfAborted } from "../../core/errors.js";
import { batchCuts } from "../../model/cut.js";
import { tf } from "../../tensor/tf.js";
import { defineMethod, type EditControl, type EditRequest, type EditSession, type EditSetting } from "../contract.js";
import type { Overlay } from "../overlay.js";
import { sequencesOfRows } from "../rows.js";
import type { EditState } from "../state.js";
import { oneByOne, runSteps, type StepsTaken } from "../steps.js";
import type { EditStep, EditTrace } from "../trace.js";
import { wiseBytes } from "./matrices.js";
import { type MergeInput, merges } from "./merge.js";
import {
  type WiseOptions,
  wiseCheck,
  wiseFixed,
  wiseOptions,
  wisePresets,
  wiseSettle,
  wiseVariants,
} from "./options.js";
import { createReplay, type EditRows } from "./replay.js";
import { createWiseOverlay, NO_EDITS, type WiseMemory, wiseRouter } from "./routing.js";
import { wiseRows, wiseTemplates } from "./rows.js";
import { copyState, emptyState, loadedState, type Shard, storedState, tensorsOf, type WiseState } from "./state.js";
import { createProblem, descend, type EditProblem, runStep } from "./step.js";

/** Early stop: the last two losses differ by at most this, and the last is at most SETTLED_LOSS (released: EarlyStopMeter). */
const SETTLED_CHANGE = 1e-4;
const SETTLED_LOSS = 0.02;

/** Shares of the new shards together and of the standing merged memory in a later merge (released: merge_weight). */
const NEW_SHARDS_SHARE = 0.4;
const STANDING_SHARE = 0.6;

/** WISE (arXiv 2405.14768): edits go to side memories of one value matrix; a router picks the memory per sequence. */
export const wise = defineMethod<WiseOptions>({
  name: "wise",
  title: "WISE",
  algName: "WISE",
  about:
    "writes edits into side memories of one late value matrix, and routes each sequence to one of them or past them",
  source: "Wang et al. 2024, arXiv 2405.14768",
  options: wiseOptions,
  variants: wiseVariants,
  fixed: wiseFixed,
  presets: wisePresets,
  stepLimit: "n_iter",
  targetTerm: "ft",
  terms: { ft: "fine-tuning", act: "routing", replay: "replay" },
  measured: {
    title: "Routing activation Δ",
    names: { in_scope: "edit prompt", out_of_scope: "irrelevant" },
    guides({ act_margin: [alpha, beta], act_ratio }, { min_act }) {
      return [
        { name: "α", value: alpha, kind: "bound" },
        { name: "β", value: beta, kind: "bound" },
        { name: "threshold", value: (min_act as number) * act_ratio, kind: "threshold" },
      ];
    },
  },
  endNumbers: ({ numbers }) => ({ min_act: numbers.in_scope as number }),
  router: wiseRouter,
  check: wiseCheck,
  settle: wiseSettle,
  plan: (options, config) => ({
    cut: { layer: options.layer, at: "mlpIn" },
    sites: [{ layer: options.layer, matrix: "down" }],
    needs: { templates: wiseTemplates, irrelevant: true, subject: false, assets: [] },
    style: { chatTemplate: options.use_chat_template, doubleBos: options.double_bos },
    together: 1,
    rows: (request, context) => wiseRows(request, context, options),
    bytes: (edits) => wiseBytes(options, config, edits),
  }),
  start: (options, setting, saved) => startWise(options, setting, saved && { saved }),
});

/** A state to go on from, and values that match another run. */
export interface WiseGiven {
  saved?: EditState;
  /** The mask of a shard, one byte an entry; drawn, when left out. */
  maskOf?: (shard: number) => Uint8Array;
}

/** Edits with WISE, from the untouched model or from a state. */
export function startWise(options: WiseOptions, setting: EditSetting, given: WiseGiven = {}): EditSession {
  const { model } = setting;
  const { maskOf = (shard) => drawMask(setting, options, shard) } = given;
  const main = model.matrix({ layer: options.layer, matrix: "down" });
  const replay = createReplay(setting, options);
  let state = given.saved === undefined ? emptyState(model) : loadedState(given.saved, model);

  async function edit(request: EditRequest, control: EditControl): Promise<EditTrace> {
    throwIfAborted(control.signal, "an edit");
    const started = performance.now();
    const rows = wiseRows(request, { tokenizer: model.tokenizer, templates: setting.templates }, options);
    const cuts = await setting.cuts.get(sequencesOfRows(rows), control.signal);
    const problem = createProblem(model, options, batchCuts(model, cuts), rows);
    const frozen = (performance.now() - started) / 1000;
    const mask = maskTensor(Math.floor(state.edits / options.save_freq));
    try {
      const { side, taken } = await optimise(problem, { mask, rows, control });
      const before = state;
      const minAct = minActAfter(before, taken.steps);
      state = await closeShard(before, { side, minAct, steps: taken.steps.length }, rows);
      before.side.dispose();
      const { steps, stoppedEarly, seconds } = taken;
      return {
        record: request.record,
        steps,
        stoppedEarly,
        numbers: { min_act: minAct },
        seconds: { frozen, steps: seconds },
      };
    } finally {
      mask?.dispose();
      problem.dispose();
    }
  }

  /** The mask of a shard; null where nothing is masked. */
  function maskTensor(shard: number): tf.Tensor2D | null {
    if (options.mask_ratio === 1 && given.maskOf === undefined) return null;
    return tf.tensor2d(maskOf(shard), main.shape, "bool");
  }

  /** Runs the steps of one edit from the side memory as it stands. The state is not touched. */
  async function optimise(
    problem: EditProblem,
    { mask, rows, control }: { mask: tf.Tensor2D | null; rows: EditRows; control: EditControl },
  ): Promise<{ side: tf.Tensor2D; taken: StepsTaken }> {
    let side = state.side.clone();
    try {
      const taken = await runSteps(
        {
          limit: options.n_iter,
          async pass(step) {
            const replayed = await replay.pick(state, rows, { step, signal: control.signal });
            const made = runStep(problem, side, replayed?.pair ?? null);
            replayed?.dispose();
            const move = () => {
              const before = side;
              side = descend(before, made.gradient, mask, { main, options });
              before.dispose();
            };
            return { report: await made.report(), move, dispose: made.dispose };
          },
          // As released: the pass that finds the loss settled still counts, and its outputs set min_act.
          settled: (_now, before) => settled(before),
          standing: (steps) => standing(side, steps, rows),
          hint: "a smaller edit_lr or a norm_constraint keeps it finite",
        },
        control,
      );
      return { side, taken };
    } catch (error) {
      side.dispose();
      throw error;
    }
  }

  /** The edits as they would stand had the one at hand ended here. */
  async function standing(side: tf.Tensor2D, steps: readonly EditStep[], rows: EditRows): Promise<Overlay> {
    const copy = copyState(state);
    const made = { side: side.clone(), minAct: minActAfter(copy, steps), steps: steps.length };
    const after = await closeShard(copy, made, rows);
    copy.side.dispose();
    try {
      return await overlayOf(after);
    } finally {
      tf.dispose(tensorsOf(after));
    }
  }

  /** The state with an edit taken in; saves the shard and merges when it is time (wise.md "Shards, memories, merging"). */
  async function closeShard(before: WiseState, made: Shaped, rows: EditRows): Promise<WiseState> {
    const edits = before.edits + 1;
    const history = replay.remember(before, rows, made.steps);
    const after: WiseState = { ...before, history, edits, side: made.side, minAct: made.minAct };
    if (edits % options.save_freq !== 0) return after;
    after.shards = [...before.shards, { delta: made.side, minAct: made.minAct }];
    after.side = tf.zerosLike(main);
    if (options.retrieve) after.minAct = NO_EDITS;
    return edits % options.merge_freq === 0 ? mergeShards(after) : after;
  }

  async function mergeShards(before: WiseState): Promise<WiseState> {
    const { shards } = before;
    const delta = await mergedDelta(before, shards);
    const after = { ...before, shards: [] };
    if (options.retrieve) {
      after.memories = [...before.memories, { delta, minAct: Math.min(...shards.map(({ minAct }) => minAct)) }];
    } else {
      before.merged?.dispose();
      after.merged = delta;
    }
    tf.dispose(shards.map((shard) => shard.delta));
    return after;
  }

  /** One delta from shards and, for Merge, the merged memory that stands already. The caller disposes it. */
  async function mergedDelta(from: WiseState, shards: readonly Shard[]): Promise<tf.Tensor2D> {
    const standing = from.merged;
    const share = standing === null ? options.weights : NEW_SHARDS_SHARE;
    const parts = [...shards.map(({ delta }) => delta), ...(standing === null ? [] : [standing])];
    const weights = [...shards.map(() => share / shards.length), ...(standing === null ? [] : [STANDING_SHARE])];
    const [w, ...deltas] = await Promise.all([main, ...parts].map((tensor) => tensor.data<"float32">()));
    const input: MergeInput = {
      deltas: deltas as Float32Array[],
      weights,
      main: w as Float32Array,
      density: options.densities ?? 1,
      rng: setting.rng.fork("merge", from.edits),
    };
    return tf.tensor2d(merges[options.merge_alg](input), main.shape);
  }

  /** The memories as reading finds them. For Merge, edits not merged yet are merged for the reading alone. */
  async function readable(from: WiseState): Promise<WiseMemory[]> {
    const { minAct } = from;
    const isOpen = from.edits % options.save_freq !== 0;
    const side = (delta: tf.Tensor2D | null): WiseMemory => ({ name: "side", delta, minAct });
    if (options.retrieve) {
      const saved = [...from.memories, ...from.shards];
      return [
        side(isOpen ? from.side.clone() : null),
        ...saved.map(({ delta, minAct }, i) => ({ name: `memory-${i}` as const, delta: delta.clone(), minAct })),
      ];
    }
    if (from.edits < options.save_freq) return [side(isOpen ? from.side.clone() : null)];
    const pending = [...from.shards, ...(isOpen ? [{ delta: from.side, minAct }] : [])];
    const delta = pending.length > 0 ? await mergedDelta(from, pending) : (from.merged as tf.Tensor2D).clone();
    return [side(null), { name: "merged", delta, minAct }];
  }

  async function overlayOf(from: WiseState): Promise<Overlay> {
    return createWiseOverlay(model, await readable(from), options);
  }

  return {
    edit: oneByOne(edit),
    overlay: () => overlayOf(state),
    state: () => storedState(state),
    dispose: () => tf.dispose(tensorsOf(state)),
  };
}

/** Share of an edit in the shard. */
interface Shaped {
  side: tf.Tensor2D;
  minAct: number;
  steps: number;
}

/** min_act with an edit taken in that ended with these steps. */
function minActAfter({ minAct }: Pick<WiseState, "minAct">, steps: readonly EditStep[]): number {
  return Math.min(minAct, steps.at(-1)?.numbers.in_scope as number);
}

/** True if an edit ends with the step after these (wise.md "One edit"). */
export function settled(steps: readonly Pick<EditStep, "loss">[]): boolean {
  const [previous, last] = steps.slice(-2);
  if (previous === undefined || last === undefined) return false;
  return Math.abs(last.loss - previous.loss) <= SETTLED_CHANGE && last.loss <= SETTLED_LOSS;
}

/** Each entry is 1 with probability mask_ratio; keyed by (seed, shard), never by what was drawn before. */
export function drawMask(setting: Pick<EditSetting, "model" | "rng">, options: WiseOptions, shard: number): Uint8Array {
  const rng = setting.rng.fork("mask", shard);
  const size = setting.model.config.hiddenSize * setting.model.config.intermediateSize;
  const mask = new Uint8Array(size);
  // Uint8Array.from takes five times as long: 2.2 s instead of 0.4 s for 17 million entries.
  for (let i = 0; i < size; i++) if (rng.uniform() < options.mask_ratio) mask[i] = 1;
  return mask;
}
