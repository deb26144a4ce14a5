import { z } from "zod";
import type { EditRequest, EditSession, EditSetting } from "../../edit/contract.js";
import { type LocatedRows, rowsOf } from "../../edit/locate/lookup.js";
import type { Update } from "../../edit/locate/updates.js";
import type { EditTrace } from "../../edit/trace.js";
import type { SafetensorsFile } from "../../model/safetensors.js";
import { compareEvaluation, compareLogits, meanSchema, probeSchema, QUESTIONS } from "./evaluation.js";
import { goldenRecord, ids } from "./golden-files.js";
import { compareSteps } from "./steps.js";
import type { Tally } from "./tally.js";
import { LOCATE } from "./tolerances.js";

/*
 * Common parts of the golden files of editors that locate first (golden-methods/README-locate.md). A method's own
 * form extends these.
 */

/** `edits[e].requests[j]` of NAME.json. */
const requestSchema = z.object({ prompt: z.string(), subject: z.string(), target: z.string() });

/** `edits[e].searches[j]`: how the vector of one request was found. */
export const searchSchema = z.object({
  rows: z.array(
    z.object({
      ids,
      lookup: z.number().int(),
      /** Position and token that is predicted there. */
      labels: z.array(z.tuple([z.number().int(), z.number().int()])),
    }),
  ),
  log: z.array(
    z.object({
      step: z.number().int(),
      nll: z.number(),
      kl: z.number(),
      wd: z.number(),
      loss: z.number(),
      /** Before the step. */
      delta_norm: z.number(),
    }),
  ),
});

/** `edits[e]`: one batch. */
export const locateEdit = z.object({ requests: z.array(requestSchema) });

/** NAME.json of a method that says nothing more. */
export const locateSchema = z.object({
  templates: z.array(z.string()),
  records: z.array(goldenRecord),
  edits: z.array(locateEdit),
  evaluation: z.array(z.object({ rewrite: probeSchema, rephrase: probeSchema, loc: probeSchema })),
  scores: meanSchema,
});

type Search = z.infer<typeof searchSchema>;
type GoldenLocate = z.infer<typeof locateSchema>;

/** One scenario on its way. */
export interface LocateComparison {
  wanted: GoldenLocate;
  tally: Tally;
  file: SafetensorsFile;
  setting: EditSetting;
  session: EditSession;
}

/** The requests of a batch. A request's record is the one that has its prompt; -1 where none has. */
export function locateRequests({ records }: GoldenLocate, { requests }: z.infer<typeof locateEdit>): EditRequest[] {
  return requests.map((request) => ({
    ...request,
    record: records.findIndex(({ src }) => src === request.prompt),
    irrelevant: null,
  }));
}

/** Compares the rows of a search: their tokens, look-ups, and what is predicted where. */
export function compareRows(
  tally: Tally,
  { rows, golden, where }: { rows: LocatedRows; golden: Search; where: string },
): void {
  const ours = rowsOf(rows);
  for (const [i, { ids, lookup, labels }] of golden.rows.entries()) {
    const row = ours[i] ?? { ids: [], lookup: -1, promptTokens: 0 };
    const targets = i === rows.templates.length ? [] : rows.targets;
    const predicted = targets.map((token, j) => [row.promptTokens - 1 + j, token]);
    const values = {
      ours: { ids: row.ids, lookup: row.lookup, labels: predicted },
      golden: { ids, lookup, labels },
    };
    tally.equal("rows and look-ups", { ...values, where: `${where}, row ${i}` });
  }
}

/** Compares the passes of a search with the steps of its edit. */
export function compareSearch(
  tally: Tally,
  { trace, golden, where }: { trace: EditTrace | undefined; golden: Search; where: string },
): void {
  const steps = trace?.steps ?? [];
  tally.equal("passes", { ours: steps.length, golden: golden.log.length, where });
  const likelihood = { measure: "relative", tolerance: LOCATE.loss } as const;
  const penalty = { tolerance: LOCATE.penalty };
  compareSteps(tally, { ours: steps, golden: golden.log, where }, [
    { item: "loss", ours: ({ loss }) => loss, golden: ({ loss }) => loss, ...likelihood },
    { item: "loss nll", ours: ({ terms }) => terms.nll, golden: ({ nll }) => nll, ...likelihood },
    { item: "loss kl", ours: ({ terms }) => terms.kl, golden: ({ kl }) => kl, ...penalty },
    { item: "loss wd", ours: ({ terms }) => terms.wd, golden: ({ wd }) => wd, ...penalty },
    {
      item: "length of delta",
      ours: ({ numbers }) => numbers.delta_norm,
      golden: ({ delta_norm }) => delta_norm,
      measure: "relative",
      tolerance: LOCATE.result,
    },
  ]);
}

/** Compares what is answered after the last batch: logits of the first answer token, predictions and scores. */
export async function compareLocateAnswers(comparison: LocateComparison): Promise<void> {
  const { wanted, tally, file, setting, session } = comparison;
  const evaluation = wanted.evaluation.map((evaluated, i) => ({
    ...evaluated,
    record: wanted.records[i] as GoldenLocate["records"][number],
    where: `record ${i}`,
  }));
  const overlay = await session.overlay();
  try {
    const asked = { ...setting, overlay, tie: LOCATE.tie, tolerance: LOCATE.logits };
    const scored = await compareEvaluation(tally, { evaluation, mean: wanted.scores }, asked);
    for (const [i, { question, probe }] of scored.entries()) {
      const where = `after.${Math.floor(i / QUESTIONS.length)}.${question}.logits`;
      await compareLogits(tally, { probe, golden: await file.read(where), where }, asked);
    }
  } finally {
    overlay.dispose();
  }
}

/** Sum of the updates of a matrix, row-major [out, in]. */
export function sumOf(updates: readonly Update[]): Float32Array {
  const [first] = updates as [Update];
  const M = first.right.length;
  return Float32Array.from({ length: first.left.length * M }, (_, i) =>
    updates.reduce((sum, { left, right }) => sum + (left[Math.floor(i / M)] as number) * (right[i % M] as number), 0),
  );
}
