import { z } from "zod";
import { RefusedInput } from "../core/errors.js";
import { agreement } from "./compare.js";
import type { ProbeScore, RecordScore } from "./types.js";

const share = z.number().min(0).max(1);
const tokens = z.array(z.number().int().nonnegative());
const readingSchema = z.looseObject({
  variant: z.string(),
  margin: z.number(),
  numbers: z.record(z.string(), z.number()),
  predicted: tokens.nullable(),
  score: share.nullable(),
});
const writtenSchema = z.looseObject({ tokens, end: z.number().int().nonnegative(), text: z.string() });
const freeSchema = z.looseObject({
  route: z.string(),
  pre: writtenSchema,
  post: writtenSchema,
  readings: z.array(
    z.looseObject({
      variant: z.string(),
      margin: z.number(),
      numbers: z.record(z.string(), z.number()),
      written: writtenSchema.nullable(),
    }),
  ),
});
const probeSchema = z.looseObject({
  prompt: z.string(),
  answer: z.string(),
  target: tokens.min(1),
  pre: tokens,
  post: tokens,
  score: share,
  preScore: share.nullable(),
  exact: z.boolean(),
  route: z.string(),
  readings: z.array(readingSchema),
  logp: z.looseObject({ pre: z.array(z.number()), post: z.array(z.number()) }).optional(),
  free: freeSchema.optional(),
});
const recordSchema = z.looseObject({
  record: z.number().int().nonnegative(),
  block: z.number().int().nonnegative(),
  subject: z.string(),
  rewrite: probeSchema,
  rephrase: probeSchema.nullable(),
  locality: z.array(probeSchema),
  portability: z.array(probeSchema),
  moreRephrases: z.array(probeSchema).optional(),
  unedited: z.array(probeSchema).optional(),
  ood: probeSchema.optional(),
});

/**
 * A record's scores as they came from a file.
 * @param where file and line
 * @throws {RefusedInput} when they have another form, or a score is not that of the tokens beside it
 */
export function checkScore(value: unknown, where: string): RecordScore {
  const parsed = recordSchema.safeParse(value);
  if (!parsed.success) {
    throw new RefusedInput("not the scores of a record", {
      where,
      found: z.prettifyError(parsed.error).split("\n→")[0],
      expected: "a line as wise-lab run writes it",
    });
  }
  const score = value as RecordScore;
  const { rewrite, rephrase, moreRephrases = [], locality, portability, unedited = [], ood } = score;
  const answered = [
    rewrite,
    ...(rephrase ? [rephrase] : []),
    ...moreRephrases,
    ...portability,
    ...unedited,
    ...(ood ? [ood] : []),
  ];
  for (const probe of answered) checkProbe(probe, probe.target, where);
  for (const probe of locality) checkProbe(probe, null, where);
  return score;
}

/** @param wanted the tokens that count as right; null where they are those before the edit */
function checkProbe(probe: ProbeScore, wanted: readonly number[] | null, where: string): void {
  const { prompt, target, pre, post, readings, logp } = probe;
  const right = wanted ?? pre;
  const score = agreement(post, right);
  const facts: [string, unknown, unknown][] = [
    ["tokens before the edit", pre.length, target.length],
    ["tokens after the edit", post.length, target.length],
    ...(logp
      ? [
          ["log probabilities", `${logp.pre.length}, ${logp.post.length}`, `${target.length}, ${target.length}`] as [
            string,
            unknown,
            unknown,
          ],
        ]
      : []),
    ["score", probe.score, score],
    ["score before the edit", probe.preScore, wanted && agreement(pre, wanted)],
    ["exact", probe.exact, score === 1],
    ...readings.map(({ variant, predicted, score }): [string, unknown, unknown] => [
      `score under ${variant}`,
      score,
      predicted && agreement(predicted, right),
    ]),
  ];
  for (const [what, found, expected] of facts) {
    if (Object.is(found, expected)) continue;
    throw new RefusedInput("a score does not follow from the tokens beside it", {
      where: `${where}, ${what} of ${JSON.stringify(prompt)}`,
      found,
      expected: `${expected}`,
      hint: "make the run again in another folder",
    });
  }
}
