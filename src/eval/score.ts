import { LabFailure } from "../core/errors.js";
import type { Answer, Decision, Memory, Overlay } from "../edit/overlay.js";
import { batchCuts, type Cut, type CutBatch, logitsAt, type Spot } from "../model/cut.js";
import type { CutStore } from "../model/cut-store.js";
import { batchesOf } from "../model/frozen.js";
import type { LlamaModel } from "../model/model.js";
import { encodeForced, type ForcedSequence, PLAIN, type PromptStyle } from "../model/prompt.js";
import { tf } from "../tensor/tf.js";
import { agreement } from "./metrics.js";
import type { ProbeReading, ProbeScore } from "./types.js";

/** What a probe measures: whether the answer is predicted, or whether predictions stayed what they were. */
export type ProbeKind = "rewrite" | "rephrase" | "locality" | "portability";

export interface Probe {
  kind: ProbeKind;
  prompt: string;
  answer: string;
}

/** Locality prompts are never rendered with the chat template (protocol.md, as EasyEdit). */
export function encodeProbe(model: Pick<LlamaModel, "tokenizer">, probe: Probe, style: PromptStyle): ForcedSequence {
  return encodeForced(model.tokenizer, probe, probe.kind === "locality" ? PLAIN : style);
}

export interface ScoreSetting {
  model: LlamaModel;
  cuts: CutStore;
  style: PromptStyle;
  signal?: AbortSignal | undefined;
}

// Padded tokens that go through the edited part together: bounds the memory of its logits.
export const SCORE_BATCH_TOKENS = 2048;

/**
 * Scores probes by teacher forcing, before and under an overlay. Reads only: neither model nor overlay changes.
 * Routing is decided once per sequence, prompt and answer together.
 */
export async function scoreProbes(
  probes: readonly Probe[],
  overlay: Overlay,
  setting: ScoreSetting,
): Promise<ProbeScore[]> {
  const encoded = probes.map((probe) => encodeProbe(setting.model, probe, setting.style));
  const sequences = encoded.map(({ ids }) => ids);
  const scores: ProbeScore[] = [];
  for (const [start, end] of batchesOf(sequences, SCORE_BATCH_TOKENS)) {
    const cuts = await setting.cuts.get(sequences.slice(start, end), setting.signal);
    const forced = encoded.slice(start, end);
    const predictions = await predict(setting.model, overlay, { cuts, forced });
    predictions.forEach((prediction, i) => {
      const probe = probes[start + i] as Probe;
      const { ids, promptTokens } = forced[i] as ForcedSequence;
      scores.push(scoreOf(probe, ids.slice(promptTokens), prediction));
    });
  }
  return scores;
}

/** What one probe is answered by the untouched model and by each memory, and which of them the router chose. */
interface Prediction {
  pre: number[];
  under: ReadonlyMap<Memory, number[]>;
  decision: Decision;
}

async function predict(
  model: LlamaModel,
  overlay: Overlay,
  input: { cuts: readonly Cut[]; forced: readonly ForcedSequence[] },
): Promise<Prediction[]> {
  const spots = input.forced.flatMap(({ ids, promptTokens }, row) => answerSpots(row, promptTokens, ids.length));
  const batch = batchCuts(model, input.cuts);
  try {
    const answer = await overlay.answer(model, batch);
    try {
      const at = { layer: overlay.layer, spots };
      const pre = await predictedTokens(model, batch, answer.main, at);
      const under = await predictedUnder(answer, { model, batch, at });
      const spotsOf = (row: number) => (_: unknown, i: number) => (spots[i] as Spot).row === row;
      return input.forced.map((_, row) => ({
        pre: pre.filter(spotsOf(row)),
        under: new Map(under.map(([memory, tokens]) => [memory, tokens.filter(spotsOf(row))])),
        decision: answer.decisions[row] as Decision,
      }));
    } finally {
      answer.dispose();
    }
  } finally {
    batch.dispose();
  }
}

/** Predictions of all spots under each memory: every route a router could choose is then known, at any act_ratio. */
async function predictedUnder(
  answer: Answer,
  { model, batch, at }: { model: LlamaModel; batch: CutBatch; at: { layer: number; spots: readonly Spot[] } },
): Promise<[Memory, number[]][]> {
  const under: [Memory, number[]][] = [];
  for (const { memory } of answer.decisions[0]?.readings ?? []) {
    const output = answer.under(memory);
    try {
      under.push([memory, await predictedTokens(model, batch, output, at)]);
    } finally {
      output.dispose();
    }
  }
  return under;
}

/** The answer's tokens are predicted one position before they stand. */
function answerSpots(row: number, promptTokens: number, length: number): Spot[] {
  return Array.from({ length: length - promptTokens }, (_, i) => ({ row, position: promptTokens + i - 1 }));
}

/** Arg max tokens at the spots, in order. @throws {LabFailure} when a logit is NaN: it must never become a score */
export async function predictedTokens(
  model: LlamaModel,
  batch: CutBatch,
  mlpOut: tf.Tensor2D,
  at: { layer: number; spots: readonly Spot[] },
): Promise<number[]> {
  const { best, total } = tf.tidy(() => {
    const logits = logitsAt(model, batch, mlpOut, at); // [n, V]
    return { best: tf.argMax(logits, 1), total: tf.sum(logits) };
  });
  try {
    const [tokens, [sum]] = await Promise.all([best.data<"int32">(), total.data<"float32">()]);
    if (!Number.isFinite(sum)) throw new LabFailure(`the logits of the model are not finite (their sum is ${sum})`);
    return Array.from(tokens);
  } finally {
    tf.dispose([best, total]);
  }
}

function scoreOf(probe: Probe, target: number[], { pre, under, decision }: Prediction): ProbeScore {
  const wanted = probe.kind === "locality" ? pre : target;
  const readings = decision.readings.map((reading): ProbeReading => {
    const predicted = under.get(reading.memory) as number[];
    return { ...reading, predicted, score: agreement(predicted, wanted) };
  });
  const post = readings.find(({ memory }) => memory === decision.route)?.predicted ?? pre;
  const score = agreement(post, wanted);
  return {
    prompt: probe.prompt,
    answer: probe.answer,
    target,
    pre,
    post,
    score,
    preScore: probe.kind === "locality" ? null : agreement(pre, target),
    exact: score === 1,
    route: decision.route,
    readings,
  };
}
