import { LabFailure, takeTurn, throwIfAborted } from "../../core/errors.js";
import { batchCuts } from "../../model/cut.js";
import { tf } from "../../tensor/tf.js";
import type { EditMethod, EditOptions, EditRequest, EditSession, EditSetting } from "../contract.js";
import type { Overlay } from "../overlay.js";
import { type EditRows, editRows, sequencesOfRows } from "../rows.js";
import type { EditStep, EditTrace } from "../trace.js";
import { loadWiseOptions, type WiseOptions } from "./hparams.js";
import { wiseMatrices } from "./matrices.js";
import { type MergeInput, merges } from "./merge.js";
import { createReplay } from "./replay.js";
import { createWiseOverlay, NO_EDITS, type WiseMemory, wiseRouter } from "./routing.js";
import {
  copyState,
  emptyState,
  hashWiseState,
  loadWiseState,
  type Shard,
  saveWiseState,
  tensorsOf,
  type WiseState,
} from "./state.js";
import { createProblem, descend, type EditProblem, runStep, type StepReport } from "./step.js";

/** Early stop: the last two losses differ by at most this, and the last is at most SETTLED_LOSS (released: EarlyStopMeter). */
const SETTLED_CHANGE = 1e-4;
const SETTLED_LOSS = 0.02;

/** Shares of the new shards together and of the standing merged memory in a later merge (released: merge_weight). */
const NEW_SHARDS_SHARE = 0.4;
const STANDING_SHARE = 0.6;

/** WISE (arXiv 2405.14768): edits go to side memories of one value matrix; a router picks the memory per sequence. */
export const wise: EditMethod = {
  name: "wise",
  router: wiseRouter,
  async prepare(source, model) {
    const { options, ignored } = await loadWiseOptions({ ...source, numLayers: model.layers });
    return {
      name: "wise",
      options: { ...options },
      layer: options.layer,
      seed: options.seed,
      style: { chatTemplate: options.chatTemplate, doubleBos: options.doubleBos },
      ignored,
      matrices: (block) => wiseMatrices(options, block),
      start: (setting) => createSession(setting, options, emptyState(setting.model)),
      restore: async (path, setting) => {
        const state = await loadWiseState(path, { model: setting.model, options });
        return { session: createSession(setting, options, state), edits: state.edits };
      },
    };
  },
};

/** The memories of a WISE session as plain values; deltas to W are flat, row-major [D, M]. */
export interface WiseSnapshot {
  edits: number;
  side: Float32Array;
  minAct: number;
  /** Shards saved since the last merge, oldest first. */
  shards: { delta: Float32Array; minAct: number }[];
  /** Retrieve: merged memories, oldest first. */
  memories: { delta: Float32Array; minAct: number }[];
  /** Merge: the merged memory that stands. */
  merged: Float32Array | null;
}

export interface WiseSession extends EditSession {
  snapshot(): Promise<WiseSnapshot>;
}

/** Starts WISE on an untouched model with resolved options, and with given masks where they must match another run's. */
export function startWise(
  setting: EditSetting,
  options: WiseOptions,
  maskOf?: (shard: number) => Uint8Array,
): WiseSession {
  return createSession(setting, options, emptyState(setting.model), maskOf);
}

function createSession(
  setting: EditSetting,
  options: WiseOptions,
  initial: WiseState,
  maskOf: (shard: number) => Uint8Array = (shard) => drawMask(setting, options, shard),
): WiseSession {
  let state = initial;
  const { model } = setting;
  const main = model.valueMatrix(options.layer);
  const replay = createReplay(setting, options);

  async function edit(request: EditRequest, control: EditOptions = {}): Promise<EditTrace> {
    throwIfAborted(control.signal, "an edit");
    const rows = editRows(model.tokenizer, request, {
      templates: setting.templates,
      style: { chatTemplate: options.chatTemplate, doubleBos: options.doubleBos },
    });
    const started = performance.now();
    const problem = await createEditProblem(rows, control);
    const frozen = performance.now();
    const shard = Math.floor(state.edits / options.saveFreq);
    const mask = tf.tensor2d(maskOf(shard), main.shape, "bool");
    try {
      const result = await optimise(problem, { mask, rows, control });
      const before = state;
      state = await closeShard(before, result, rows);
      before.side.dispose();
      const seconds = {
        frozen: (frozen - started) / 1000,
        steps: (performance.now() - frozen - result.looked) / 1000,
      };
      return {
        record: request.record,
        steps: result.steps,
        stoppedEarly: result.stoppedEarly,
        minAct: result.minAct,
        seconds,
      };
    } finally {
      mask.dispose();
      problem.dispose();
    }
  }

  async function createEditProblem(rows: EditRows, { signal }: EditOptions): Promise<EditProblem> {
    const cuts = await setting.cuts.get(sequencesOfRows(rows), signal);
    return createProblem(model, options, batchCuts(model, cuts), rows.templates);
  }

  /** Runs the steps of one edit from the side memory as it stands. The state is not touched. */
  async function optimise(
    problem: EditProblem,
    edit: { mask: tf.Tensor2D; rows: EditRows; control: EditOptions },
  ): Promise<Optimised> {
    const { signal, onStep } = edit.control;
    const steps: EditStep[] = [];
    let side = state.side.clone();
    let looked = 0;
    const standing = (stoppedEarly: boolean): Optimised => {
      const { inScope } = steps[steps.length - 1] as EditStep;
      return { side, steps, stoppedEarly, minAct: Math.min(state.minAct, inScope), looked };
    };
    try {
      for (let i = 0; i < options.steps; i++) {
        await takeTurn(signal, `step ${i} of an edit`);
        const replayed = await replay.pick(state, edit.rows, { step: i, signal });
        const step = runStep(problem, side, replayed?.pair ?? null);
        replayed?.dispose();
        try {
          const done: EditStep = { step: i, ...requireFinite(await step.report(), i) };
          const stoppedEarly = settled(steps);
          steps.push(done);
          onStep?.(done);
          // As released: the pass that finds the loss settled still counts, and its outputs set min_act.
          if (stoppedEarly) return standing(true);
          const next = descend(side, step.gradient, edit.mask, { main, options });
          side.dispose();
          side = next;
          const arrived = performance.now();
          if (i + 1 < options.steps) await look(standing(false), edit.rows, edit.control.checkpoints);
          looked += performance.now() - arrived;
        } finally {
          step.dispose();
        }
      }
      return standing(false);
    } catch (error) {
      side.dispose();
      throw error;
    }
  }

  /** Shows the edits as they would stand had this one ended here, where a reader asked for this number of steps. */
  async function look(made: Optimised, rows: EditRows, checkpoints: EditOptions["checkpoints"]): Promise<void> {
    if (!checkpoints?.steps.includes(made.steps.length)) return;
    const copy = copyState(state);
    const standing = await closeShard(copy, { ...made, side: made.side.clone() }, rows);
    copy.side.dispose();
    const overlay = await overlayOf(standing);
    try {
      await checkpoints.read(made.steps.length, overlay);
    } finally {
      overlay.dispose();
      tf.dispose(tensorsOf(standing));
    }
  }

  /** The state with an edit taken in; saves the shard and merges when it is time (wise.md "Shards, memories, merging"). */
  async function closeShard(before: WiseState, made: Optimised, rows: EditRows): Promise<WiseState> {
    const edits = before.edits + 1;
    const history = replay.remember(before, rows, made.steps.length);
    const after: WiseState = { ...before, history, edits, side: made.side, minAct: made.minAct };
    if (edits % options.saveFreq !== 0) return after;
    after.shards = [...before.shards, { delta: made.side, minAct: made.minAct }];
    after.side = tf.zerosLike(main);
    if (options.retrieve) after.minAct = NO_EDITS;
    return edits % options.mergeFreq === 0 ? mergeShards(after) : after;
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
    const share = standing === null ? options.mergeWeight : NEW_SHARDS_SHARE;
    const parts = [...shards.map(({ delta }) => delta), ...(standing === null ? [] : [standing])];
    const weights = [...shards.map(() => share / shards.length), ...(standing === null ? [] : [STANDING_SHARE])];
    const [w, ...deltas] = await Promise.all([main, ...parts].map((tensor) => tensor.data<"float32">()));
    const input: MergeInput = {
      deltas: deltas as Float32Array[],
      weights,
      main: w as Float32Array,
      density: options.density,
      rng: setting.rng.fork("merge", from.edits),
    };
    return tf.tensor2d(merges[options.mergeAlg](input), main.shape);
  }

  /** The memories as reading finds them. For Merge, edits not merged yet are merged for the reading alone. */
  async function readable(state: WiseState): Promise<WiseMemory[]> {
    const side: WiseMemory = { name: "side", delta: state.side.clone(), minAct: state.minAct };
    if (options.retrieve) {
      const saved = [...state.memories, ...state.shards];
      return [
        side,
        ...saved.map(({ delta, minAct }, i) => ({ name: `memory-${i}` as const, delta: delta.clone(), minAct })),
      ];
    }
    if (state.edits < options.saveFreq) return [side];
    const open = state.edits % options.saveFreq === 0 ? [] : [{ delta: state.side, minAct: state.minAct }];
    const pending = [...state.shards, ...open];
    side.delta.dispose();
    const delta = pending.length > 0 ? await mergedDelta(state, pending) : (state.merged as tf.Tensor2D).clone();
    return [
      { ...side, delta: tf.zerosLike(main) },
      { name: "merged", delta, minAct: state.minAct },
    ];
  }

  async function overlayOf(state: WiseState): Promise<Overlay> {
    return createWiseOverlay(options.layer, await readable(state), options);
  }

  return {
    edit,
    overlay: () => overlayOf(state),
    snapshot: () => snapshotOf(state),
    save: (path) => saveWiseState(path, state, { model, options }),
    hash: () => hashWiseState(state, { model, options }),
    dispose: () => tf.dispose(tensorsOf(state)),
  };
}

async function snapshotOf(state: WiseState): Promise<WiseSnapshot> {
  const read = (tensor: tf.Tensor2D) => tensor.data<"float32">();
  const readAll = (shards: readonly Shard[]) =>
    Promise.all(shards.map(async ({ delta, minAct }) => ({ delta: await read(delta), minAct })));
  return {
    edits: state.edits,
    side: await read(state.side),
    minAct: state.minAct,
    shards: await readAll(state.shards),
    memories: await readAll(state.memories),
    merged: state.merged === null ? null : await read(state.merged),
  };
}

/** What the steps of one edit leave: the new side memory and how it got there. */
interface Optimised {
  side: tf.Tensor2D;
  steps: EditStep[];
  stoppedEarly: boolean;
  minAct: number;
  /** Milliseconds that checkpoints took, which are no part of the edit. */
  looked: number;
}

/** Whether an edit ends with the step after these (wise.md "One edit"). */
export function settled(steps: readonly Pick<EditStep, "loss">[]): boolean {
  const [previous, last] = steps.slice(-2);
  if (previous === undefined || last === undefined) return false;
  return Math.abs(last.loss - previous.loss) <= SETTLED_CHANGE && last.loss <= SETTLED_LOSS;
}

function requireFinite(report: StepReport, step: number): StepReport {
  if (Number.isFinite(report.loss)) return report;
  throw new LabFailure(
    `the loss of an edit became ${report.loss} at step ${step} (ft ${report.ft}, act ${report.act}): a smaller edit_lr or a norm_constraint keeps it finite`,
  );
}

/** Each entry is 1 with probability mask_ratio; keyed by (seed, shard), never by what was drawn before. */
export function drawMask(setting: Pick<EditSetting, "model" | "rng">, options: WiseOptions, shard: number): Uint8Array {
  const rng = setting.rng.fork("mask", shard);
  const size = setting.model.config.hiddenSize * setting.model.config.intermediateSize;
  const mask = new Uint8Array(size);
  // Uint8Array.from takes five times as long: 2.2 s instead of 0.4 s for 17 million entries.
  for (let i = 0; i < size; i++) if (rng.uniform() < options.maskRatio) mask[i] = 1;
  return mask;
}
