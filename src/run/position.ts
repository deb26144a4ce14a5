import { z } from "zod";
import { sha256Bytes } from "../core/hash.js";

/** The line files that are the same bytes in every rerun; beside them are timings and environment. */
export const RERUN_FILES = ["edits", "scores", "steps", "checkpoints", "tokens"] as const;
export type RerunFile = (typeof RERUN_FILES)[number];

const count = z.number().int().nonnegative();
const beginning = z.object({ bytes: count, sha256: z.string() });
const EMPTY = { bytes: 0, sha256: sha256Bytes("") };

/** Position in a run: its edits and scored records, and of each file that is the same in every rerun what stands up to there. */
export const positionSchema = z.object({
  block: count,
  edits: count,
  scores: count,
  files: z.object({
    edits: beginning,
    scores: beginning,
    steps: beginning,
    checkpoints: beginning.default(EMPTY), // came later
    tokens: beginning,
  }),
  /** sha256 of the block's edits where they are in a file, as `hashEdits` takes it. */
  saved: z.string().nullable(),
});

/** End of a block, or the safe point at which it was kept while it was being made. */
export type Position = z.infer<typeof positionSchema>;

/** A position without the block that it is of. */
export type Reached = Omit<Position, "block" | "saved">;

export const BEGINNING: Reached = {
  edits: 0,
  scores: 0,
  files: { edits: EMPTY, scores: EMPTY, steps: EMPTY, checkpoints: EMPTY, tokens: EMPTY },
};
