import { type Decision, MAIN, type Overlay, type RoutedBatch } from "../edit/overlay.js";
import type { TokenRow } from "../edit/rows.js";
import { batchCuts, type Cut, type CutBatch, likeliest, logitsAt, type Spot } from "../model/cut.js";
import type { CutStore } from "../model/cut-store.js";
import { batchesOf } from "../model/frozen.js";
import type { LlamaModel } from "../model/model.js";
import type { Patch } from "../model/patch.js";
import { encodeForced, PLAIN, type PromptStyle } from "../model/prompt.js";
import { agreement } from "./metrics.js";
import type { ProbeReading, ProbeScore } from "./types.js";

/** Kinds of probes. Locality measures if predictions stayed as they were, the others if the answer is predicted. */
export type ProbeKind = "rewrite" | "rephrase" | "locality" | "portability";

export interface Probe {
  kind: ProbeKind;
  prompt: string;
  answer: string;
}

/** Locality prompts are never rendered with the chat template (protocol.md, as EasyEdit). */
export function encodeProbe(model: Pick<LlamaModel, "tokenizer">, probe: Probe, style: PromptStyle): TokenRow {
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
    const rows = encoded.slice(start, end);
    const predictions = await predict(setting.model, overlay, { cuts, rows });
    predictions.forEach((prediction, i) => {
      const probe = probes[start + i] as Probe;
      const { ids, promptTokens } = rows[i] as TokenRow;
      scores.push(scoreOf(probe, ids.slice(promptTokens), prediction));
    });
  }
  return scores;
}

/** Predictions for one probe, by the untouched model and by each variant, with the choice among them. */
interface Prediction {
  pre: number[];
  /** Of the variants that could answer. */
  under: ReadonlyMap<string, number[]>;
  decision: Decision;
}

async function predict(
  model: LlamaModel,
  overlay: Overlay,
  input: { cuts: readonly Cut[]; rows: readonly TokenRow[] },
): Promise<Prediction[]> {
  const spots = input.rows.map(({ ids, promptTokens }, row) => answerSpots(row, promptTokens, ids.length));
  const batch = batchCuts(
    model,
    input.cuts,
    input.rows.map(({ promptTokens }) => promptTokens),
  );
  const routed = await overlay.route(batch).catch((error: unknown) => {
    batch.dispose();
    throw error;
  });
  try {
    const pre = await predictedBy([], input.rows.keys(), { model, batch, spots });
    const predictions = input.rows.map((_, row) => ({
      pre: pre.get(row) as number[],
      under: new Map<string, number[]>(),
      decision: routed.decisions[row] as Decision,
    }));
    for (const variant of variantsOf(routed)) {
      const rows = [...input.rows.keys()].filter((row) => mayAnswer(routed, variant, row));
      const patch = routed.patch(variant);
      // A variant that changes nothing answers as the untouched model does.
      const found = patch.length === 0 ? pre : await predictedBy(patch, rows, { model, batch, spots });
      for (const row of rows) predictions[row]?.under.set(variant, found.get(row) as number[]);
    }
    return predictions;
  } finally {
    routed.dispose();
    batch.dispose();
  }
}

/** Every variant that was chosen or looked at for some sequence, beside the untouched model. */
function variantsOf({ decisions }: RoutedBatch): Set<string> {
  const named = decisions.flatMap(({ variant, readings }) => [variant, ...readings.map((reading) => reading.variant)]);
  const variants = new Set(named);
  variants.delete(MAIN);
  return variants;
}

/** Chosen, or one that could be at another value of an option that is read at inference only: nothing else costs a pass. */
function mayAnswer({ decisions, reachable }: RoutedBatch, variant: string, row: number): boolean {
  const { variant: chosen, readings } = decisions[row] as Decision;
  if (chosen === variant) return true;
  return readings.some((reading) => reading.variant === variant) && reachable(variant, row);
}

/** The answer's tokens are predicted one position before they stand. */
function answerSpots(row: number, promptTokens: number, length: number): Spot[] {
  return Array.from({ length: length - promptTokens }, (_, i) => ({ row, position: promptTokens + i - 1 }));
}

/** Arg max tokens of the answers of some sequences under a patch, by sequence. */
async function predictedBy(
  patch: Patch,
  rows: Iterable<number>,
  { model, batch, spots }: { model: LlamaModel; batch: CutBatch; spots: readonly Spot[][] },
): Promise<Map<number, number[]>> {
  const predicted = new Map<number, number[]>();
  const asked = [...rows].map((row) => [row, spots[row] as Spot[]] as const);
  if (asked.length === 0) return predicted;
  const tokens = await predictedTokens(model, batch, { patch, spots: asked.flatMap(([, own]) => own) });
  for (const [row, own] of asked) predicted.set(row, tokens.splice(0, own.length));
  return predicted;
}

/** Arg max tokens at the spots, in order. */
export async function predictedTokens(
  model: LlamaModel,
  batch: CutBatch,
  at: { patch: Patch; spots: readonly Spot[] },
): Promise<number[]> {
  return [...(await likeliest(() => logitsAt(model, batch, at)))];
}

function scoreOf(probe: Probe, target: number[], { pre, under, decision }: Prediction): ProbeScore {
  const wanted = probe.kind === "locality" ? pre : target;
  const readings = decision.readings.map((reading): ProbeReading => {
    const predicted = under.get(reading.variant) ?? null;
    return { ...reading, predicted, score: predicted === null ? null : agreement(predicted, wanted) };
  });
  const post = decision.variant === MAIN ? pre : (under.get(decision.variant) as number[]);
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
    route: decision.variant,
    readings,
  };
}
