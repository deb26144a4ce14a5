import { z } from "zod";
import { RefusedInput, throwIfAborted } from "../../core/errors.js";
import type { LlamaConfig } from "../../model/config.js";
import { cutBefore, siteName } from "../../model/patch.js";
import { tf } from "../../tensor/tf.js";
import type { EditBytes, EditControl, EditRequest, EditSession, EditSetting } from "../contract.js";
import { type Descent, descend } from "../descent.js";
import { type Overlay, unrouted, untouched } from "../overlay.js";
import type { TokenRow } from "../rows.js";
import { type EditState, type StateTensor, stateTensor } from "../state.js";
import { oneByOne } from "../steps.js";
import type { EditTrace } from "../trace.js";
import { type FtExample, type FtProblem, patchOf, problemOf, sitesOf } from "./objective.js";
import type { TuningOptions } from "./options.js";

/** A way of fine-tuning value matrices: the loss of its edits, and where they end. */
export interface Tuning {
  options: TuningOptions;
  /** Past edits that a later one still reads: their tokens are part of what the edits leave. */
  remembers: number;
  /** @throws {RefusedInput} for a request that cannot be edited */
  example(request: EditRequest): FtExample;
  begin(edit: TuningStart): Promise<TuningEdit>;
}

/** The beginning of an edit. */
export interface TuningStart {
  problem: FtProblem;
  row: TokenRow;
  /** Those that are remembered, newest first. */
  past: readonly TokenRow[];
  /** W' - W of each site, [D, M]; they stay what they are while the edit is made. */
  deltas: readonly tf.Tensor2D[];
  signal: AbortSignal | undefined;
}

/** An edit while it is made. */
export type TuningEdit = Pick<Descent<tf.Tensor2D>, "pass" | "settled" | "bounded" | "hint"> & { dispose(): void };

/** At a step, of each layer: the delta that moves, its gradient, and the two moments of Adam. */
const OF_A_STEP = 4;
/** Those that a step of Adam makes on its way (adam.ts), one layer after another. */
const OF_A_MOVE = 4;

/**
 * Float32 matrices that fine-tuning edits take, however many edits: one per layer is kept.
 * @param beside matrices of each layer that an edit holds beside those of every way
 */
export function tuningBytes(
  { layers }: Pick<TuningOptions, "layers">,
  { hiddenSize, intermediateSize }: Pick<LlamaConfig, "hiddenSize" | "intermediateSize">,
  beside = 0,
): EditBytes {
  const matrix = 4 * hiddenSize * intermediateSize;
  const stepping = matrix * layers.length * (OF_A_STEP + beside);
  return { kept: matrix * layers.length, stepping, reading: 0, working: stepping + matrix * OF_A_MOVE, variants: 1 };
}

/** Edits by fine-tuning, from the untouched model or from a state. */
export function startTuning(tuning: Tuning, setting: EditSetting, saved?: EditState): EditSession {
  const { model } = setting;
  const { options, remembers } = tuning;
  const shape: [number, number] = [model.config.hiddenSize, model.config.intermediateSize];
  const sites = sitesOf(options);
  const cut = cutBefore(sites);
  let edits = saved?.edits ?? 0;
  let past = saved === undefined ? [] : pastOf(saved, remembers);
  /** W' - W of each site, [D, M]. */
  let deltas = saved === undefined ? sites.map(() => tf.zeros<tf.Rank.R2>(shape)) : loaded(saved);

  async function edit(request: EditRequest, control: EditControl): Promise<EditTrace> {
    const { signal } = control;
    throwIfAborted(signal, "an edit");
    const clock = [performance.now()];
    const example = tuning.example(request);
    const { row } = example;
    const problem = await problemOf(setting, options, example, signal);
    clock.push(performance.now());
    try {
      const tuned = await tuning.begin({ problem, row, past, deltas, signal });
      clock.push(performance.now());
      const { moved, taken } = await descended(tuned, control).finally(tuned.dispose);
      tf.dispose(deltas);
      deltas = moved;
      edits += 1;
      past = [row, ...past].slice(0, remembers);
      const [started, ran, began] = clock as [number, number, number];
      const seconds = { frozen: (ran - started) / 1000, steps: (began - ran) / 1000 + taken.seconds };
      const { steps, stoppedEarly } = taken;
      return { record: request.record, steps, stoppedEarly, numbers: {}, seconds };
    } finally {
      problem.dispose();
    }
  }

  /** The deltas after the steps of one edit. */
  function descended(tuned: TuningEdit, control: EditControl) {
    const { lr, num_steps: limit } = options;
    return descend(deltas, { ...tuned, lr, limit, standing: async (moved) => overlayOf(moved) }, control);
  }

  function overlayOf(from: readonly tf.Tensor2D[]): Overlay {
    const held = from.map((delta) => delta.clone());
    return unrouted(cut, patchOf(sites, held), () => tf.dispose(held));
  }

  function loaded(from: EditState): tf.Tensor2D[] {
    const values = sites.map((site) => stateTensor(from, siteName(site), shape)); // all proved before the first is made
    return values.map((delta) => tf.tensor2d(delta, shape));
  }

  return {
    edit: oneByOne(edit),
    overlay: async () => (edits === 0 ? untouched(cut) : overlayOf(deltas)),
    async state() {
      const tensors: Record<string, StateTensor> = {};
      for (const [i, site] of sites.entries()) {
        tensors[siteName(site)] = { shape, data: await (deltas[i] as tf.Tensor2D).data<"float32">() };
      }
      return { edits, tensors, json: remembers === 0 ? null : { past } };
    },
    dispose: () => tf.dispose(deltas),
  };
}

const token = z.int().nonnegative();
const pastSchema = z.object({
  past: z.array(z.object({ ids: z.array(token).min(2), promptTokens: z.int().positive() })),
});

/** The remembered edits of a state. @throws {RefusedInput} where they are not those of its edits */
function pastOf({ edits, json }: EditState, remembers: number): TokenRow[] {
  if (remembers === 0) return [];
  const parsed = pastSchema.safeParse(json);
  const count = Math.min(edits, remembers);
  if (parsed.success && parsed.data.past.length === count) return parsed.data.past;
  throw new RefusedInput("saved edits of another form", {
    where: "saved edits",
    found: parsed.success ? `${parsed.data.past.length} past edits` : z.prettifyError(parsed.error),
    expected: `the tokens of the last ${count} edits`,
  });
}
