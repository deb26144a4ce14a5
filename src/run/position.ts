import { z } from "zod";

const count = z.number().int().nonnegative();

/** Position in a run's line files: edits, scored records, and bytes of the files that are the same in every rerun. */
export const positionSchema = z.object({
  edits: count,
  scores: count,
  bytes: z.object({ edits: count, scores: count, steps: count, tokens: count }),
});

export type Position = z.infer<typeof positionSchema>;

export const BEGINNING: Position = { edits: 0, scores: 0, bytes: { edits: 0, scores: 0, steps: 0, tokens: 0 } };
