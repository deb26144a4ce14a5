import { z } from "zod";
import { MAIN, type Overlay, untouched } from "../../edit/overlay.js";
import type { TokenRow } from "../../edit/rows.js";
import { agreement } from "../../eval/compare.js";
import { encodeProbe, type Probe, scoreProbes } from "../../eval/score.js";
import type { ProbeScore } from "../../eval/types.js";
import { batchCuts, logitsAt } from "../../model/cut.js";
import type { CutStore } from "../../model/cut-store.js";
import type { LlamaModel } from "../../model/model.js";
import { PLAIN } from "../../model/prompt.js";
import { type GoldenRecord, ids } from "./golden-files.js";
import type { Tally } from "./tally.js";

/** The three questions of a record, as golden files name them. */
export const QUESTIONS = ["rewrite", "rephrase", "loc"] as const;
export type Question = (typeof QUESTIONS)[number];

/** One question after the edits; scenarios add fields of their own. */
export const probeSchema = z.object({
  /** Prompt and answer, and how many of them are the prompt, where the file says so. */
  ids: ids.optional(),
  prompt_tokens: z.number().int().optional(),
  pre: ids,
  post: ids,
  target: ids,
  score: z.number(),
  pre_score: z.number().nullable().optional(),
});

/** Means of the scores over all records, by question. */
export const meanSchema = z.object({ rewrite: z.number(), rephrase: z.number(), loc: z.number() });

export type GoldenProbe = z.infer<typeof probeSchema>;
type Means = z.infer<typeof meanSchema>;

/** The questions of one record. */
export type Evaluated<P extends GoldenProbe> = Record<Question, P> & { record: GoldenRecord; where: string };

/** Surroundings of the questions: the edits, and the model under them. */
export interface Asked {
  model: LlamaModel;
  cuts: CutStore;
  overlay: Overlay;
}

/** One question, as it was scored here. */
export interface ScoredProbe<P extends GoldenProbe> {
  question: Question;
  golden: P;
  probe: Probe;
  score: ProbeScore;
  where: string;
}

/** A record's question as scoring puts it. */
export function probeOf(record: GoldenRecord, question: Question): Probe {
  if (question === "rewrite") return { kind: "rewrite", prompt: record.src, answer: record.alt };
  if (question === "rephrase") return { kind: "rephrase", prompt: record.rephrase, answer: record.alt };
  return { kind: "locality", prompt: record.loc, answer: record.loc_ans };
}

/** Scores every question of an evaluation, in order. */
export async function scoreEvaluation<P extends GoldenProbe>(
  evaluation: readonly Evaluated<P>[],
  { model, cuts, overlay }: Asked,
): Promise<ScoredProbe<P>[]> {
  const scored: ScoredProbe<P>[] = [];
  for (const evaluated of evaluation) {
    const probes = QUESTIONS.map((question) => probeOf(evaluated.record, question));
    const scores = await scoreProbes(probes, overlay, { model, cuts, style: PLAIN });
    QUESTIONS.forEach((question, k) => {
      const where = `${evaluated.where}, ${question}`;
      const [probe, score] = [probes[k] as Probe, scores[k] as ProbeScore];
      scored.push({ question, golden: evaluated[question], probe, score, where });
    });
  }
  return scored;
}

/**
 * Compares an evaluation: tokens, predictions before and after the edits, scores and their means.
 * @param tie two logits this near to each other may have changed places: there another token may be predicted
 * @returns the questions as they were scored, for what else the scenario says of them
 */
export async function compareEvaluation<P extends GoldenProbe>(
  tally: Tally,
  { evaluation, mean }: { evaluation: readonly Evaluated<P>[]; mean: Means },
  asked: Asked & { tie: number },
): Promise<ScoredProbe<P>[]> {
  const before = { ...asked, overlay: untouched(asked.cuts.point) };
  const scored = await scoreEvaluation(evaluation, asked);
  const settled: { question: Question; score: number }[] = [];
  for (const one of scored) {
    const { golden, score, where } = one;
    compareTokens(tally, asked.model, one);
    const pre = await settleTies(one, "pre", { ...before, tie: asked.tie });
    const post = await settleTies(one, "post", asked);
    tally.equal("predictions before", { ours: pre, golden: golden.pre, where });
    tally.equal("predictions after", { ours: post, golden: golden.post, where });
    const asScored = pre === score.pre && post === score.post;
    const own = asScored ? score.score : agreement(post, one.question === "loc" ? pre : golden.target);
    tally.number("score", { ours: own, golden: golden.score, where }, ROUNDING);
    settled.push({ question: one.question, score: own });
  }
  compareMeans(tally, settled, mean);
  return scored;
}

/** Shares of a few positions, in float64. */
export const ROUNDING = 1e-9;

/** Compares the means of scores. @param allowed difference */
export function compareMeans(
  tally: Tally,
  scores: readonly { question: Question; score: number }[],
  mean: Means,
  allowed = ROUNDING,
): void {
  for (const question of QUESTIONS) {
    const own = scores.filter((one) => one.question === question);
    const ours = own.reduce((sum, { score }) => sum + score, 0) / own.length;
    tally.number(`mean ${question}`, { ours, golden: mean[question], where: question }, allowed);
  }
}

/** Compares a question's tokens, and those of its answer. */
export function compareTokens<P extends GoldenProbe>(
  tally: Tally,
  model: LlamaModel,
  { golden, probe, score, where }: ScoredProbe<P>,
): void {
  if (golden.ids !== undefined) {
    const tokens = { ids: golden.ids, promptTokens: golden.prompt_tokens };
    tally.equal("probe tokens", { ours: encodeProbe(model, probe, PLAIN), golden: tokens, where });
  }
  tally.equal("target tokens", { ours: score.target, golden: golden.target, where });
}

/** Our predictions, with the golden one in the place of a token whose logit is so near that rounding decides. */
async function settleTies<P extends GoldenProbe>(
  { golden, probe, score }: ScoredProbe<P>,
  when: "pre" | "post",
  { tie, ...asked }: Asked & { tie: number },
): Promise<number[]> {
  const ours = score[when];
  const wanted = golden[when];
  if (ours.length !== wanted.length || ours.every((token, i) => token === wanted[i])) return ours;
  const row = encodeProbe(asked.model, probe, PLAIN);
  const logits = await answerLogits(row, ours.length, asked);
  const logit = (i: number, token: number) => logits[i * asked.model.config.vocabSize + token] as number;
  return ours.map((token, i) => {
    const other = wanted[i] as number;
    return logit(i, token) - logit(i, other) < tie ? other : token;
  });
}

/**
 * Compares the logits at a question's first predicting positions, as many as the file has.
 * @param tolerance absolute
 */
export async function compareLogits(
  tally: Tally,
  { probe, golden, where }: { probe: Probe; golden: Float32Array; where: string },
  { tolerance, ...asked }: Asked & { tolerance: number },
): Promise<void> {
  const row = encodeProbe(asked.model, probe, PLAIN);
  const ours = await answerLogits(row, golden.length / asked.model.config.vocabSize, asked);
  tally.entries("logits", { ours, golden, where }, tolerance);
}

/** Logits at the first positions that predict a row's answer, as edits answer it; row-major [positions, V]. */
async function answerLogits(row: TokenRow, count: number, { model, cuts, overlay }: Asked): Promise<Float32Array> {
  const spots = Array.from({ length: count }, (_, i) => ({ row: 0, position: row.promptTokens - 1 + i }));
  const batch = batchCuts(model, await cuts.get([row.ids]), [row.promptTokens]);
  try {
    const routed = await overlay.route(batch);
    try {
      const variant = routed.decisions[0]?.variant ?? MAIN;
      const logits = logitsAt(model, batch, { patch: variant === MAIN ? [] : routed.patch(variant), spots });
      const values = await logits.data<"float32">();
      logits.dispose();
      return values;
    } finally {
      routed.dispose();
    }
  } finally {
    batch.dispose();
  }
}
