import { z } from "zod";
import type { EditSession, EditSetting } from "../../edit/contract.js";
import type { EditTrace } from "../../edit/trace.js";
import { encodeForced, PLAIN } from "../../model/prompt.js";
import type { SafetensorsFile } from "../../model/safetensors.js";
import {
  compareEvaluation,
  compareLogits,
  type GoldenProbe,
  meanSchema,
  probeOf,
  probeSchema,
  type ScoredProbe,
} from "./evaluation.js";
import { type GoldenScenario, ids, recordAt } from "./golden-files.js";
import { compareSteps } from "./steps.js";
import type { Tally } from "./tally.js";
import { TUNE } from "./tolerances.js";

/*
 * Common parts of the golden files of fine-tuning and memory editors (golden-methods/README-tune.md). A method's own
 * form extends these.
 */

/** `edits[e]` of NAME.json. */
export const tuneEdit = z.object({
  edit: z.number().int(),
  record: z.number().int(),
  prompt: z.string(),
  target: z.string(),
  ids,
  prompt_tokens: z.number().int(),
  n_steps: z.number().int(),
  /** Of a long edit the first and the last ones. */
  steps: z.array(z.object({ step: z.number().int(), loss: z.number() })),
});

/** `evaluation` of NAME.json, with what a method says of each question. */
export function tuneEvaluation<P extends typeof probeSchema>(probe: P) {
  return z.array(z.object({ record: z.number().int(), rewrite: probe, rephrase: probe, loc: probe }));
}

/** NAME.json of a method that says nothing more. */
export const tuneSchema = z.object({
  edits: z.array(tuneEdit),
  evaluation: tuneEvaluation(probeSchema),
  mean: meanSchema,
});

export type TuneEdit = z.infer<typeof tuneEdit>;

/** One scenario on its way. */
export interface TuneComparison {
  golden: GoldenScenario;
  tally: Tally;
  file: SafetensorsFile;
  setting: EditSetting;
  session: EditSession;
  /** Of logits, absolute. */
  logits: number;
}

/** Comparisons of an edit beyond the losses of its steps. */
export interface TuneEditRules<E extends TuneEdit> {
  /** Steps that this edit may take more or less. */
  apart?(edit: E): number;
  /** Steps of a trace as the reference counts them; all, when left out. */
  taken?(trace: EditTrace): number;
  after?(edit: E, trace: EditTrace): Promise<void>;
}

/** Makes the edits one after another, and compares each: tokens, steps, losses, and the logits that follow. */
export async function compareTuneEdits<E extends TuneEdit>(
  comparison: TuneComparison,
  edits: readonly E[],
  { apart = () => 0, taken = ({ steps }) => steps.length, after = async () => {} }: TuneEditRules<E> = {},
): Promise<void> {
  const { tally, setting, session } = comparison;
  for (const edit of edits) {
    const { record, prompt, target } = edit;
    const where = `edit ${edit.edit}`;
    const row = encodeForced(setting.model.tokenizer, { prompt, answer: target }, PLAIN);
    tally.equal("edit tokens", { ours: row, golden: { ids: edit.ids, promptTokens: edit.prompt_tokens }, where });
    const request = { record, prompt, target, subject: null, irrelevant: null };
    const [trace] = (await session.edit([request])) as [EditTrace];
    const { steps } = trace;
    tally.number("steps", { ours: taken(trace), golden: edit.n_steps, where }, apart(edit));
    compareSteps(tally, { ours: steps, golden: edit.steps, where }, [
      { item: "loss", ours: ({ loss }) => loss, golden: ({ loss }) => loss, measure: "relative", tolerance: TUNE.loss },
    ]);
    await compareTuneLogits(comparison, edit.edit);
    await after(edit, trace);
  }
}

/** `apart` of a method that stops at a loss: a step more or less where the loss passes within rounding of it. */
export function apartAtStop({ steps }: TuneEdit): number {
  const { loss, near } = TUNE.stop;
  return steps.some((step) => Math.abs(step.loss - loss) <= near) ? 1 : 0;
}

/** `logits.E.rewrite` and `logits.E.loc`: of the first record, whichever was edited. */
async function compareTuneLogits({ golden, ...comparison }: TuneComparison, edit: number): Promise<void> {
  const { tally, file, setting, session, logits } = comparison;
  const overlay = await session.overlay();
  try {
    for (const question of ["rewrite", "loc"] as const) {
      const where = `logits.${edit}.${question}`;
      const asked = { probe: probeOf(recordAt(golden, 0), question), golden: await file.read(where), where };
      await compareLogits(tally, asked, { ...setting, overlay, tolerance: logits });
    }
  } finally {
    overlay.dispose();
  }
}

/** Compares the evaluation after the last edit. @returns the questions, for what else a method says of them */
export async function compareTuneAnswers<P extends GoldenProbe>(
  { golden, tally, setting, session }: TuneComparison,
  wanted: {
    evaluation: readonly { record: number; rewrite: P; rephrase: P; loc: P }[];
    mean: z.infer<typeof meanSchema>;
  },
): Promise<ScoredProbe<P>[]> {
  const evaluation = wanted.evaluation.map((evaluated) => ({
    ...evaluated,
    record: recordAt(golden, evaluated.record),
    where: `record ${evaluated.record}`,
  }));
  const overlay = await session.overlay();
  try {
    return await compareEvaluation(tally, { evaluation, mean: wanted.mean }, { ...setting, overlay, tie: TUNE.tie });
  } finally {
    overlay.dispose();
  }
}
