import { readFile } from "node:fs/promises";
import { MAIN } from "../../edit/overlay.js";
import { sequencesOfRows } from "../../edit/rows.js";
import type { StepReport } from "../../edit/steps.js";
import type { WiseOptions } from "../../edit/wise/options.js";
import { createWiseOverlay } from "../../edit/wise/routing.js";
import { createProblem, descend, type EditProblem, runStep } from "../../edit/wise/step.js";
import { settled } from "../../edit/wise/wise.js";
import { type CutBatch, type Spot, valueInput } from "../../model/cut.js";
import { headLogits, layerBeforeValue, layerForward, positions } from "../../model/llama.js";
import type { LlamaModel } from "../../model/model.js";
import { linear } from "../../model/weight.js";
import { tf } from "../../tensor/tf.js";
import type { Edited, Scored, TokenRows } from "./protocol.js";

/*
 * The same edit with the whole model run at every step, as the released code does it: every layer and, at every
 * position of every row, the output head. Losses, mask, step and clamp are those of the cut; only where the forward
 * pass starts and where it looks at logits differ.
 */

/** One side of the benchmark: makes the edit anew each time it is asked. */
export interface Contestant {
  edit(steps: number): Promise<Edited>;
  /** Scores the record's probes before and under the last edit. */
  score(): Promise<Scored>;
  /** W' - W of the last edit, row-major [D, M]. */
  delta(): Promise<Float32Array>;
}

/** @param mask file of the mask, one byte an entry */
export async function openWhole(
  model: LlamaModel,
  options: WiseOptions,
  { rows, mask: file }: { rows: TokenRows; mask: string },
): Promise<Contestant> {
  const main = model.matrix({ layer: options.layer, matrix: "down" });
  const mask = tf.tensor2d(new Uint8Array(await readFile(file)), main.shape, "bool");
  let side: tf.Tensor2D = tf.zerosLike(main);
  let minAct = Number.NaN;

  /** One step of an edit: the whole model forward, and back to the value matrix. */
  async function step(problem: EditProblem, reports: StepReport[]): Promise<boolean> {
    const made = runStep(problem, side, null);
    try {
      const report = await made.report();
      const stop = settled(reports);
      reports.push(report);
      if (stop) return true;
      const next = descend(side, made.gradient, mask, { main, options });
      side.dispose();
      side = next;
      return false;
    } finally {
      made.dispose();
    }
  }

  async function edit(steps: number): Promise<Edited> {
    const started = performance.now();
    side.dispose();
    side = tf.zerosLike(main);
    const reports: StepReport[] = [];
    const stream = await embedRows(model, sequencesOfRows(rows.edit));
    for (let stop = false; !stop && reports.length < steps; ) {
      const problem = wholeProblem(model, options, stream, rows.edit);
      stop = await step(problem, reports);
      problem.dispose();
    }
    stream.x.dispose();
    minAct = reports.at(-1)?.numbers.in_scope as number;
    return { seconds: (performance.now() - started) / 1000, frozen: null, losses: reports.map(lossesOf) };
  }

  async function score(): Promise<Scored> {
    const started = performance.now();
    const before = await predict(model, options.layer, rows.probes, async (batch) => linear(valueInput(batch), main));
    const overlay = createWiseOverlay(model, [{ name: "side", delta: side.clone(), minAct }], options);
    const activations: number[] = [];
    const after = await predict(model, options.layer, rows.probes, async (batch) => {
      const { decisions, dispose } = await overlay.route(batch);
      dispose();
      activations.push(...decisions.map(({ readings }) => readings[0]?.numbers.delta ?? Number.NaN));
      return tf.tidy(() => {
        const answered = decisions.flatMap(({ variant }) => Array(batch.at.length).fill(variant === MAIN ? 0 : 1));
        const change = linear(valueInput(batch), side); // [N, D]
        const routed = tf.mul(change, tf.tensor2d(answered, [answered.length, 1]));
        return tf.add(linear(valueInput(batch), main), routed) as tf.Tensor2D;
      });
    });
    overlay.dispose();
    return { seconds: (performance.now() - started) / 1000, activations, before, after };
  }

  return { edit, score, delta: () => side.data<"float32">() };
}

/** The losses of a step that all sides compute. */
export function lossesOf({ loss, terms }: Pick<StepReport, "loss" | "terms">): Edited["losses"][number] {
  return { ft: terms.ft as number, act: terms.act as number, loss };
}

/** Embedded rows: the stream before the first layer, right-padded. */
interface EmbeddedRows {
  x: tf.Tensor2D; // [B T, D]
  lengths: number[];
}

async function embedRows(model: LlamaModel, sequences: readonly (readonly number[])[]): Promise<EmbeddedRows> {
  const lengths = sequences.map((ids) => ids.length);
  const T = Math.max(...lengths);
  const padded = sequences.flatMap((ids) => [...ids, ...Array<number>(T - ids.length).fill(0)]);
  return { x: await model.embed(padded), lengths };
}

/** Runs the layers up to the value matrix of the edit layer. The caller disposes the batch. */
function frozenPass(model: LlamaModel, { x: start, lengths }: EmbeddedRows, layer: number): CutBatch {
  const T = Math.max(...lengths);
  const made = tf.tidy(() => {
    const at = positions(model.config, T);
    let x = start;
    for (let i = 0; i < layer; i++) x = layerForward(x, model.layer(i), model.config, { at });
    const { stream, mlpIn } = layerBeforeValue(x, model.layer(layer), model.config, { at });
    const shares = lengths.map((n) => Array.from({ length: T }, (_, t) => (t < n ? 1 / n : 0)));
    return { stream, mlpIn, shares: tf.tensor2d(shares), ...at };
  });
  const { stream, mlpIn, shares, ...at } = made;
  const point = { layer, at: "mlpIn" } as const;
  return {
    point,
    lengths,
    promptTokens: lengths,
    answers: "forced",
    stream,
    mlpIn,
    shares,
    at,
    dispose: () => tf.dispose(made),
  };
}

/** The rest of the whole model: the layers after the edit layer and the head, all rows at every position. [N, V] */
function allLogits(model: LlamaModel, batch: CutBatch, output: tf.Tensor2D, layer: number): tf.Tensor2D {
  let x: tf.Tensor2D = tf.add(batch.stream, output);
  for (let i = layer + 1; i < model.config.layers; i++) {
    x = layerForward(x, model.layer(i), model.config, { at: batch.at });
  }
  return headLogits(x, model.output, model.config);
}

/** The problem of one step, from a whole pass of its own. */
function wholeProblem(
  model: LlamaModel,
  options: WiseOptions,
  stream: EmbeddedRows,
  rows: TokenRows["edit"],
): EditProblem {
  const batch = frozenPass(model, stream, options.layer);
  const problem = createProblem(model, options, batch, rows);
  return {
    ...problem,
    logits: (edited) =>
      tf.tidy(() => {
        const output: tf.Tensor2D = tf.matMul(problem.spread, edited); // of all rows
        return pickRows(allLogits(model, batch, output, options.layer), problem.spots, batch.at.length);
      }),
  };
}

function pickRows(logits: tf.Tensor2D, spots: readonly Spot[], T: number): tf.Tensor2D {
  const rows = spots.map(({ row, position }) => row * T + position);
  return tf.gather(logits, tf.tensor1d(rows, "int32"));
}

/** Predicted answer tokens of each probe from one whole pass, under the output of the value matrix that is given. */
async function predict(
  model: LlamaModel,
  layer: number,
  probes: TokenRows["probes"],
  outputFor: (batch: CutBatch) => Promise<tf.Tensor2D>,
): Promise<number[][]> {
  const stream = await embedRows(
    model,
    probes.map(({ ids }) => ids),
  );
  const batch = frozenPass(model, stream, layer);
  const output = await outputFor(batch);
  const best = tf.tidy(() => tf.argMax(allLogits(model, batch, output, layer), 1)); // [N]
  const tokens = await best.data<"int32">();
  tf.dispose([stream.x, output, best]);
  batch.dispose();
  return probes.map(({ ids, promptTokens }, row) => {
    const start = row * batch.at.length - 1; // a token is predicted one position before it stands
    return [...tokens.slice(start + promptTokens, start + ids.length)];
  });
}
