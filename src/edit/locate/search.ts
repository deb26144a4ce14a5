import { type CutBatch, logitsAt, type Spot } from "../../model/cut.js";
import type { LlamaModel } from "../../model/model.js";
import type { Change, Patch } from "../../model/patch.js";
import { type Tail, tailAfterValue } from "../../model/tail.js";
import { tf } from "../../tensor/tf.js";
import { createAdam } from "../adam.js";
import type { EditControl } from "../contract.js";
import { crossEntropy, oneHotTargets } from "../loss.js";
import type { Overlay } from "../overlay.js";
import { runSteps, type StepReport, type StepsTaken } from "../steps.js";
import { type LocatedRows, rowsOf } from "./lookup.js";

/** Options of the search for v*, under the released names. */
export type SearchOptions = {
  v_num_grad_steps: number;
  v_lr: number;
  v_weight_decay: number;
  clamp_norm_factor: number;
  kl_factor: number;
  kl_at: "lookup" | "end";
  stop: number;
};

/** Surroundings of the search for v*. */
export interface SearchPlace {
  model: LlamaModel;
  rows: LocatedRows;
  /** Of `rowsOf(rows)`, cut at the value matrix to whose output delta is added, at every row's look-up. */
  batch: CutBatch;
  /** Edits that stand already. */
  earlier: Patch;
  /** v0: the value at the look-up of the bare prompt, [D]. */
  start: Float32Array;
}

/**
 * Searches delta = v* - v0 with Adam, so that the target is predicted under every template and what is predicted of the
 * subject stays (methods-locate.md, "Search for v*"; Meng et al. 2022, eq. 4; released: compute_v.py). A pass first makes
 * the move of the one before it: after n passes stands what a limit of n passes gives, whose last makes no move.
 * @param standing the edits as they would stand with a delta, [D]
 * @returns delta, [D]
 */
export async function searchValue(
  place: SearchPlace,
  options: SearchOptions,
  { control, standing }: { control: EditControl; standing: (delta: Float32Array) => Promise<Overlay> },
): Promise<{ delta: Float32Array; taken: StepsTaken }> {
  const loss = createLoss(place, options);
  const adam = createAdam(options.v_lr);
  const bound = options.clamp_norm_factor * norm(place.start);
  let delta: tf.Tensor2D = tf.zeros([1, place.start.length]);
  let gradient: tf.Tensor | null = null;

  /** One step of Adam, then back into the ball around v0. Its moments stay as they are. */
  function move(by: tf.Tensor): void {
    const before = delta;
    const moved = adam.step(before, by) as tf.Tensor2D;
    delta = tf.tidy(() => tf.mul(moved, tf.minimum(1, tf.div(bound, tf.norm(moved)))));
    tf.dispose([before, moved, by]);
  }

  try {
    const taken = await runSteps(
      {
        limit: options.v_num_grad_steps,
        async pass() {
          if (gradient !== null) move(gradient);
          const made = loss.pass(delta);
          gradient = made.gradient;
          return { report: await made.report(), move: () => {}, dispose: () => {} };
        },
        settled: ({ loss }) => loss < options.stop,
        standing: async () => standing(await delta.data<"float32">()),
        hint: "a smaller v_lr or clamp_norm_factor keeps it finite",
      },
      control,
    );
    return { delta: await delta.data<"float32">(), taken };
  } finally {
    adam.dispose();
    loss.dispose();
    tf.dispose(gradient === null ? delta : [delta, gradient]);
  }
}

/** The loss of a search and what is the same in all of its passes. */
export interface SearchLoss {
  /**
   * One forward pass at delta, [1, D], with the gradient, which the caller disposes. The distribution that the
   * divergence is measured from is that of the first pass.
   */
  pass(delta: tf.Tensor2D): { gradient: tf.Tensor; report(): Promise<StepReport> };
  dispose(): void;
}

export function createLoss(
  { model, rows, batch, earlier, start }: SearchPlace,
  options: Pick<SearchOptions, "kl_at" | "kl_factor" | "v_weight_decay">,
): SearchLoss {
  const tail = tailAfterValue(model, batch, { from: rowsOf(rows).map(({ lookup }) => lookup), patch: earlier });
  const { spots, labels } = askedOf(rows, options);
  const n = labels.length;
  const weightDecay = options.v_weight_decay / norm(start) ** 2;
  const made = {
    marks: firstMarks(tail),
    targets: oneHotTargets(labels, model.config.vocabSize), // [n, V]
    weights: tf.fill([n], 1 / n) as tf.Tensor1D,
  };
  const { layer } = batch.point;
  const behind = earlier.filter(({ site }) => site.layer > layer);
  let first: tf.Tensor2D | null = null; // log p of the first pass, [1, V]

  /** nats; delta [1, D] */
  function terms(delta: tf.Tensor2D) {
    const change: Change = (_x, _own, pick) => tf.mul(pick(made.marks), delta); // the stream has the value itself
    const patch: Patch = [...behind, { site: { layer, matrix: "down" }, change }];
    const logits = logitsAt(model, tail, { patch, spots, past: tail.past }); // [n + 1, V]
    const nll = crossEntropy(tf.slice(logits, [0, 0], [n, -1]), made.targets, made.weights);
    const logP: tf.Tensor2D = tf.logSoftmax(tf.slice(logits, [n, 0], [1, -1]));
    first ??= tf.keep(logP.clone());
    const kl = tf.mul(tf.sum(tf.mul(tf.exp(logP), tf.sub(logP, first))), options.kl_factor);
    const length = lengthOf(delta);
    const wd = tf.mul(length, weightDecay);
    const loss = tf.addN([nll, kl, wd]) as tf.Scalar;
    return { loss, numbers: tf.stack([nll, kl, wd, loss, length]) };
  }

  return {
    pass(delta) {
      const { gradient, numbers } = tf.tidy(() => {
        let numbers: tf.Tensor | undefined;
        const { value, grad } = tf.valueAndGrad((x) => {
          const made = terms(x as tf.Tensor2D);
          numbers = tf.keep(made.numbers);
          return made.loss;
        })(delta);
        value.dispose();
        return { gradient: grad, numbers: numbers as tf.Tensor };
      });
      return {
        gradient,
        async report() {
          const values = await numbers.data<"float32">();
          numbers.dispose();
          const [nll, kl, wd, loss, delta_norm] = values as unknown as [number, number, number, number, number];
          return { loss, terms: { nll, kl, wd }, numbers: { delta_norm } };
        },
      };
    },
    dispose() {
      tail.dispose();
      tf.dispose([...Object.values(made), ...(first === null ? [] : [first])]);
    },
  };
}

/** Spots of the tails at which every template predicts its targets, each with its token; at last that of the divergence. */
function askedOf(
  { templates, divergence, targets }: LocatedRows,
  { kl_at }: Pick<SearchOptions, "kl_at">,
): { spots: Spot[]; labels: number[] } {
  const predicting = templates.flatMap(({ promptTokens, lookup }, row) =>
    targets.map((_, j): Spot => ({ row, position: promptTokens - 1 + j - lookup })),
  );
  const position = kl_at === "end" ? divergence.ids.length - 1 - divergence.lookup : 0;
  return { spots: [...predicting, { row: templates.length, position }], labels: templates.flatMap(() => targets) };
}

/** 1 at the look-up, where every tail begins, 0 elsewhere. [B T, 1] */
function firstMarks({ lengths, at: { length: T } }: Tail): tf.Tensor2D {
  const marks = Float32Array.from({ length: lengths.length * T }, (_, row) => (row % T === 0 ? 1 : 0));
  return tf.tensor2d(marks, [marks.length, 1]);
}

/** Length of a vector, with the gradient 0 at 0. -> scalar */
function lengthOf(x: tf.Tensor2D): tf.Scalar {
  const length = tf.customGrad((...inputs) => {
    const [vector, save] = inputs as [tf.Tensor, tf.GradSaveFunc];
    const value = tf.norm(vector);
    save([vector, value]);
    return {
      value,
      gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => {
        const [vector, value] = saved as [tf.Tensor, tf.Tensor];
        return tf.mul(dy, tf.divNoNan(vector, value));
      },
    };
  });
  return length(x) as tf.Scalar;
}

function norm(vector: Float32Array): number {
  return Math.sqrt(vector.reduce((sum, x) => sum + x * x, 0));
}
