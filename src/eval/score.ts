import { LabFailure } from "../core/errors.js";
import { type Decision, MAIN, type Overlay, type RoutedBatch, untouched } from "../edit/overlay.js";
import type { TokenRow } from "../edit/rows.js";
import { batchCuts, type Cut, type CutBatch, likeliest, logitsAt, readLogits, type Spot } from "../model/cut.js";
import type { CutStore } from "../model/cut-store.js";
import { batchesOf } from "../model/frozen.js";
import type { LlamaModel } from "../model/model.js";
import type { Patch } from "../model/patch.js";
import { encodeForced, encodeQuestion, PLAIN, type PromptStyle } from "../model/prompt.js";
import { freeAnswers } from "./answers.js";
import { agreement } from "./compare.js";
import { endingOf, GENERATION, type GenerationRule, inContext } from "./generation.js";
import type { Judge } from "./judge.js";
import type { Need } from "./metrics.js";
import type { FreeScore, ProbeReading, ProbeScore } from "./types.js";

/**
 * Kinds of probes. Locality measures if predictions stayed as they were, the others if the answer is predicted; of "ood",
 * which has no prompt, every token behind the first.
 */
export type ProbeKind = "rewrite" | "rephrase" | "locality" | "portability" | "unedited" | "ood";

export interface Probe {
  kind: ProbeKind;
  prompt: string;
  answer: string;
  /** Name of its group, where the data has groups. */
  group?: string | undefined;
}

/** Locality prompts and texts without a prompt are never rendered with the chat template (protocol.md, as EasyEdit). */
export function encodeProbe(model: Pick<LlamaModel, "tokenizer">, probe: Probe, style: PromptStyle): TokenRow {
  if (probe.kind === "ood") return { ids: model.tokenizer.encode(probe.answer), promptTokens: 1 };
  return encodeForced(model.tokenizer, probe, styleOf(probe, style));
}

const styleOf = ({ kind }: Probe, style: PromptStyle) => (kind === "locality" ? PLAIN : style);

export interface ScoreSetting {
  model: LlamaModel;
  cuts: CutStore;
  style: PromptStyle;
  /** Parts that are seen beside the arg max tokens; none, when left out. */
  needs?: readonly Need[] | undefined;
  /** The way free answers are written, where they are seen. */
  generation?: GenerationRule | null | undefined;
  /** Says whether a free answer is right, where they are written to be judged. */
  judge?: Judge | null | undefined;
  signal?: AbortSignal | undefined;
}

// Padded tokens that go through the edited part together: bounds the memory of its logits.
export const SCORE_BATCH_TOKENS = 2048;

/**
 * Scores probes by teacher forcing, before and under an overlay, and sees what else is asked for. Reads only: neither
 * model nor overlay changes. Routing is decided once per sequence, prompt and answer together.
 */
export async function scoreProbes(
  probes: readonly Probe[],
  overlay: Overlay,
  setting: ScoreSetting,
): Promise<ProbeScore[]> {
  const { model, needs = [] } = setting;
  const encoded = probes.map((probe) => encodeProbe(model, probe, setting.style));
  const sequences = encoded.map(({ ids }) => ids);
  const predictions: Prediction[] = [];
  for (const [start, end] of batchesOf(sequences, SCORE_BATCH_TOKENS)) {
    const cuts = await setting.cuts.get(sequences.slice(start, end), setting.signal);
    const rows = encoded.slice(start, end);
    predictions.push(...(await predict(model, overlay, { cuts, rows, logp: needs.includes("logp") })));
  }
  const free = needs.includes("written") ? await freeScores({ probes, encoded, overlay, setting }) : [];
  return probes.map((probe, i) => {
    const { ids, promptTokens } = encoded[i] as TokenRow;
    return scoreOf(probe, ids.slice(promptTokens), { ...(predictions[i] as Prediction), free: free[i] ?? null });
  });
}

/** Probes of a call, with all that they are asked under. */
interface Call {
  probes: readonly Probe[];
  encoded: readonly TokenRow[];
  overlay: Overlay;
  setting: ScoreSetting;
}

/** Free answers to the probes that have a prompt, before and under the overlay; null for the others. */
async function freeScores({ probes, encoded, overlay, setting }: Call): Promise<(FreeScore | null)[]> {
  const { model, cuts, style, signal, generation, judge = null } = setting;
  const rule = generation ?? GENERATION;
  if (rule.judge !== null && judge === null) throw new LabFailure(`nobody judges: ${rule.judge}`);
  const asked = [...probes.keys()].filter((i) => (probes[i] as Probe).kind !== "ood");
  const prompts = asked.map((i) => {
    const probe = probes[i] as Probe;
    const put = inContext(probe.prompt, styleOf(probe, style), rule.context);
    return encodeQuestion(model.tokenizer, put.prompt, put.style);
  });
  const ending = endingOf(model, rule);
  const expected = asked.map((i) => {
    const { ids, promptTokens } = encoded[i] as TokenRow;
    return ids.length - promptTokens;
  });
  const freely = {
    model,
    cuts,
    signal,
    routing: rule.routing,
    maxNewTokens: Math.max(rule.maxNewTokens, rule.whole ?? 0, ...expected),
    ends: (i: number, made: readonly number[]) => ending.complete(made, expected[i] as number),
  };
  const once = rule.routing === "once";
  const answers = await freeAnswers(prompts, overlay, { ...freely, beside: once ? whateverCould : () => [] });
  // Decided at each step, only what answers writes: before the edit is another pass, and other variants are not seen.
  const before = once ? null : await freeAnswers(prompts, untouched(overlay.cut), freely);
  const found = answers.map(({ tokens, route, readings, under }, i): FreeScore => {
    const written = (made: readonly number[]) => ending.written(made, expected[i] as number);
    const writtenBy = (variant: string) => {
      const made = under.get(variant);
      return made === undefined ? null : written(made);
    };
    return {
      route,
      pre: written((before === null ? under.get(MAIN) : before[i]?.tokens) ?? []),
      post: written(tokens),
      readings: readings.map((reading) => ({ ...reading, written: once ? writtenBy(reading.variant) : null })),
    };
  });
  for (const [i, free] of found.entries()) {
    const probe = probes[asked[i] as number] as Probe;
    if (judge === null || probe.kind === "locality") continue;
    for (const written of [free.pre, free.post, ...free.readings.map((reading) => reading.written)]) {
      if (written === null) continue;
      written.right = await judge({ question: probe.prompt, gold: probe.answer, answer: written.text });
    }
  }
  return probes.map((_, i) => found[asked.indexOf(i)] ?? null);
}

/** The untouched model, and every variant that could answer: other values of the router's option then need no new answers. */
function whateverCould({ readings }: Decision, { reachable }: RoutedBatch, row: number): string[] {
  return [MAIN, ...readings.map(({ variant }) => variant).filter((variant) => reachable(variant, row))];
}

/** Predictions for one probe, by the untouched model and by each variant, with the choice among them. */
interface Prediction {
  pre: Forced;
  /** Of the variants that could answer. */
  under: ReadonlyMap<string, Forced>;
  decision: Decision;
}

/** Arg max tokens at the answer's positions and, where asked for, log P of its tokens. */
interface Forced {
  tokens: number[];
  logp: number[] | null;
}

async function predict(
  model: LlamaModel,
  overlay: Overlay,
  input: { cuts: readonly Cut[]; rows: readonly TokenRow[]; logp: boolean },
): Promise<Prediction[]> {
  const answers = input.rows.map(({ ids, promptTokens }, row): AnswerSpots => {
    const target = ids.slice(promptTokens);
    const spots = target.map((_, i) => ({ row, position: promptTokens + i - 1 }));
    return { spots, target: input.logp ? target : null };
  });
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
    const pre = await predictedBy([], input.rows.keys(), { model, batch, answers });
    const predictions = input.rows.map((_, row) => ({
      pre: pre.get(row) as Forced,
      under: new Map<string, Forced>(),
      decision: routed.decisions[row] as Decision,
    }));
    for (const variant of variantsOf(routed)) {
      const rows = [...input.rows.keys()].filter((row) => mayAnswer(routed, variant, row));
      const patch = routed.patch(variant);
      // A variant that changes nothing answers as the untouched model does.
      const found = patch.length === 0 ? pre : await predictedBy(patch, rows, { model, batch, answers });
      for (const row of rows) predictions[row]?.under.set(variant, found.get(row) as Forced);
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

/** Places of an answer: its tokens are predicted one position before they stand. */
interface AnswerSpots {
  spots: Spot[];
  /** The tokens, where log P of them is asked for. */
  target: number[] | null;
}

/** Answers of some sequences under a patch, by sequence. */
async function predictedBy(
  patch: Patch,
  rows: Iterable<number>,
  { model, batch, answers }: { model: LlamaModel; batch: CutBatch; answers: readonly AnswerSpots[] },
): Promise<Map<number, Forced>> {
  const predicted = new Map<number, Forced>();
  const asked = [...rows].map((row) => [row, answers[row] as AnswerSpots] as const);
  if (asked.length === 0) return predicted;
  const spots = asked.flatMap(([, own]) => own.spots);
  const targets = asked.flatMap(([, own]) => own.target ?? []);
  const logits = () => logitsAt(model, batch, { patch, spots });
  const { best, logp } = await readLogits(logits, targets.length === 0 ? null : targets);
  let start = 0;
  for (const [row, { spots: own }] of asked) {
    const end = start + own.length;
    predicted.set(row, { tokens: [...best.subarray(start, end)], logp: logp && [...logp.subarray(start, end)] });
    start = end;
  }
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

function scoreOf(
  probe: Probe,
  target: number[],
  { pre, under, decision, free }: Prediction & { free: FreeScore | null },
): ProbeScore {
  const wanted = probe.kind === "locality" ? pre.tokens : target;
  const readings = decision.readings.map((reading): ProbeReading => {
    const seen = under.get(reading.variant) ?? null;
    return {
      ...reading,
      predicted: seen?.tokens ?? null,
      score: seen && agreement(seen.tokens, wanted),
      ...(seen?.logp && { logp: seen.logp }),
    };
  });
  const post = decision.variant === MAIN ? pre : (under.get(decision.variant) as Forced);
  const score = agreement(post.tokens, wanted);
  return {
    prompt: probe.prompt,
    answer: probe.answer,
    ...(probe.group !== undefined && { group: probe.group }),
    target,
    pre: pre.tokens,
    post: post.tokens,
    score,
    preScore: probe.kind === "locality" ? null : agreement(pre.tokens, target),
    exact: score === 1,
    route: decision.variant,
    readings,
    ...(pre.logp && post.logp && { logp: { pre: pre.logp, post: post.logp } }),
    ...(free !== null && { free }),
  };
}
