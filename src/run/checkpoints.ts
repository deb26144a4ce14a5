import { RefusedInput } from "../core/errors.js";
import { createRng } from "../core/rng.js";
import type { EditRecord } from "../data/records.js";
import type { CheckpointScore, Checkpoints, RunResult, When } from "./types.js";

/**
 * The records that are scored at a checkpoint, of those that were edited before: of all, the first ones in an order that
 * the seed draws, so that most stay the same from one checkpoint to the next.
 */
export function sampleOf(earlier: readonly EditRecord[], { sample }: Checkpoints, seed: number): EditRecord[] {
  if (sample === null || earlier.length <= sample) return [...earlier];
  const rng = createRng(seed);
  const drawn = earlier.map((record) => ({ record, place: rng.fork("checkpoint", record.index).uniform() }));
  const chosen = drawn.sort((a, b) => a.place - b.place).slice(0, sample);
  return chosen.map(({ record }) => record).sort((a, b) => a.index - b.index);
}

/**
 * A run with checkpoints as it would be, had its records been scored at another time: right after their own edits, or at the
 * end of their blocks. Both were scored.
 * @throws {RefusedInput} for a run without checkpoints
 */
export function scoredAt(run: RunResult, when: When): RunResult {
  if (run.protocol.when === when) return run;
  const standing = new Map<number, CheckpointScore>();
  // The last of each record is the one at the end of its block, the first the one after its own edit.
  const ordered = when === "after-each" ? [...checkpointsOf(run)].reverse() : checkpointsOf(run);
  for (const score of ordered) standing.set(score.record, score);
  const scores = run.scores.map(({ record }) => {
    const { edits: _, ...score } = standing.get(record) as CheckpointScore;
    return score;
  });
  const { checkpointScores: _, ...rest } = run;
  return { ...rest, protocol: { ...run.protocol, when }, scores, folder: null };
}

/** All scores of a run that was made with checkpoints, those that it is scored by included, in the order of time. */
export function allCheckpointScores(run: RunResult): CheckpointScore[] {
  const { T, records, when } = run.protocol;
  const size = T === "all" ? records : T;
  const own = run.scores.map((score): CheckpointScore => {
    const start = score.block * size;
    const end = Math.min(start + size, records);
    return { edits: (when === "after-each" ? score.record + 1 : end) - start, ...score };
  });
  const known = new Set(own.map(({ record, edits }) => `${record} ${edits}`));
  // The last record of a block is scored alone right after its edit, and with all others at the end.
  const others = checkpointsOf(run).filter(({ record, edits }) => !known.has(`${record} ${edits}`));
  return [...own, ...others].sort((a, b) => a.block - b.block || a.edits - b.edits || a.record - b.record);
}

function checkpointsOf({ checkpointScores, protocol }: RunResult): CheckpointScore[] {
  if (checkpointScores !== undefined) return checkpointScores;
  throw new RefusedInput("this run was not scored at checkpoints", {
    where: `the ${protocol.method} run at T = ${protocol.T}`,
    found: `scores ${protocol.when} alone`,
    expected: "a run made with checkpoints",
    hint: "wise-lab run --checkpoint-every 10, with another --out",
  });
}
