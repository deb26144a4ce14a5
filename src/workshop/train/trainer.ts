import { setImmediate } from "node:timers/promises";
import { LabFailure, throwIfAborted } from "../../core/errors.js";
import type { LlamaConfig } from "../../model/config.js";
import { embed, forward, positions } from "../../model/llama.js";
import { tf } from "../../tensor/tf.js";
import { type AdamW, adamwStep, clipFactor, learningRateAt, type Moving } from "./adamw.js";
import type { Batch } from "./batches.js";
import { modelWeights, type NamedTensors } from "./init.js";
import { crossEntropy } from "./loss.js";
import type { Recipe } from "./recipe.js";

/** Everything that training changes. A value: a step makes a new one. */
export interface TrainingState {
  /** Steps done. */
  step: number;
  /** Each weight, by its name in Hugging Face files, with its moments. */
  moving: Record<string, Moving>;
}

export interface TrainingPlan {
  config: LlamaConfig;
  recipe: Pick<Recipe, "steps" | "peakLearningRate" | "warmupSteps" | "maxGradientNorm" | keyof AdamW>;
  /** The batch of a step, counted from 1. */
  batchAt(step: number): Batch;
}

/** Report of one step; a line of the loss curve. */
export interface StepReport {
  step: number;
  /** Weighted mean of -log p over all tokens to learn, in nats. */
  loss: number;
  /** Mean of -log p over tokens of answers and end tokens, in nats. */
  answerLoss: number;
  learningRate: number;
  /** Tokens in the batch, padding left out. */
  tokens: number;
}

/** New weights with moments at 0. Takes the tensors over. */
export function startState(weights: NamedTensors): TrainingState {
  const moving: TrainingState["moving"] = {};
  for (const [name, weight] of Object.entries(weights)) {
    moving[name] = { weight, first: tf.zerosLike(weight), second: tf.zerosLike(weight) };
  }
  return { step: 0, moving };
}

export function disposeState(state: TrainingState): void {
  tf.dispose(Object.values(state.moving).map(({ weight, first, second }) => [weight, first, second]));
}

/**
 * Trains up to the plan's last step. Takes the state over and returns the last one; `onStep` sees every one between,
 * which is disposed when the next is there.
 * @throws {Interrupted} when the signal is aborted, before the next step; every state seen was whole
 * @throws {LabFailure} when a loss is not finite
 */
export async function train(
  start: TrainingState,
  plan: TrainingPlan,
  hooks: { signal?: AbortSignal | undefined; onStep?: (report: StepReport, state: TrainingState) => Promise<void> },
): Promise<TrainingState> {
  let state = start;
  try {
    while (state.step < plan.recipe.steps) {
      throwIfAborted(hooks.signal, `training, after step ${state.step} of ${plan.recipe.steps}`);
      const { report, next } = await trainStep(state, plan);
      disposeState(state);
      state = next;
      await setImmediate(); // a Ctrl-C comes through here, so that onStep can still keep the state
      await hooks.onStep?.(report, state);
    }
    return state;
  } catch (error) {
    disposeState(state);
    throw error;
  }
}

async function trainStep(
  state: TrainingState,
  plan: TrainingPlan,
): Promise<{ report: StepReport; next: TrainingState }> {
  const step = state.step + 1;
  const learningRate = learningRateAt(step, plan.recipe);
  const batch = plan.batchAt(step);
  const weights = Object.fromEntries(Object.entries(state.moving).map(([name, { weight }]) => [name, weight]));
  const { losses, gradients } = lossAndGradients(weights, plan.config, batch);
  const report = { step, ...meanLosses(batch, await losses.data<"float32">()), learningRate, tokens: batch.used };
  losses.dispose();
  if (!Number.isFinite(report.loss)) {
    tf.dispose(gradients);
    throw new LabFailure(
      `the loss of step ${step} is ${report.loss}: a lower learning rate or a longer warm-up may help`,
    );
  }
  const factor = clipFactor(Object.values(gradients), plan.recipe.maxGradientNorm);
  const moving: TrainingState["moving"] = {};
  for (const [name, old] of Object.entries(state.moving)) {
    const gradient = gradients[name] as tf.Tensor;
    const clipped = tf.mul(gradient, factor);
    moving[name] = adamwStep(old, clipped, plan.recipe, { step, learningRate });
    tf.dispose([gradient, clipped]);
  }
  factor.dispose();
  return { report, next: { step, moving } };
}

/**
 * The loss at every position of a batch, [N], and the gradients, in all weights, of their weighted mean.
 * The caller disposes of both.
 */
export function lossAndGradients(
  weights: NamedTensors,
  config: LlamaConfig,
  batch: Batch,
): { losses: tf.Tensor1D; gradients: NamedTensors } {
  const { rows: R, length: T } = batch;
  const total = batch.weights.reduce((sum, weight) => sum + weight, 0);
  const names = Object.keys(weights);
  return tf.tidy(() => {
    const tokens = tf.tensor1d(batch.tokens, "int32");
    const targets = tf.tensor1d(batch.targets, "int32");
    const shares = tf.tensor1d(batch.weights.map((weight) => weight / total));
    const at = { ...positions(config, T), causal: tf.tensor4d(batch.causal, [R, 1, T, T]) };
    let losses: tf.Tensor1D | undefined;
    const { grads } = tf.valueAndGrads((...tensors) => {
      const named = Object.fromEntries(names.map((name, i) => [name, tensors[i] as tf.Tensor]));
      const weights = modelWeights(named, config);
      const logits = forward(embed(tokens, weights.embedding), weights, config, at);
      losses = tf.keep(crossEntropy(logits, targets));
      return tf.sum(tf.mul(losses, shares));
    })(Object.values(weights));
    const gradients = Object.fromEntries(names.map((name, i) => [name, grads[i] as tf.Tensor]));
    return { losses: losses as tf.Tensor1D, gradients };
  });
}

function meanLosses({ weights }: Batch, losses: Float32Array): { loss: number; answerLoss: number } {
  let [sum, total, answerSum, answerTokens] = [0, 0, 0, 0];
  losses.forEach((loss, i) => {
    const weight = weights[i] as number;
    if (weight === 0) return; // what stands at padding means nothing
    sum += weight * loss;
    total += weight;
    if (weight === 1) {
      answerSum += loss;
      answerTokens++;
    }
  });
  return { loss: sum / total, answerLoss: answerSum / answerTokens };
}
