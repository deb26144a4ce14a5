import { sequencesOfRows, type TokenRow } from "../edit/rows.js";
import { probesOf } from "../eval/records.js";
import { encodeProbe, SCORE_BATCH_TOKENS } from "../eval/score.js";
import type { Seeing } from "../eval/seeing.js";
import { batchesOf, frozenBatches } from "../model/frozen.js";
import { blocksOf, RECORDS_TOGETHER } from "./blocks.js";
import { editRowsOf, type RunPlan } from "./plan.js";

/** The sizes of a run that decide how much memory it takes, each the largest of the run. In tokens unless said. */
export interface Workload {
  records: number;
  /** Edits of one block. */
  block: number;
  /** Target tokens of the edits of one block. */
  blockTargets: number;
  /** One step of an edit: its sequences, each padded to the longest, and the tokens of their targets. */
  edit: { sequences: number; longest: number; targets: number; targetsOfOne: number };
  /** One batch of scoring, padding included, and the tokens of its answers. */
  score: { padded: number; longest: number; answers: number; sequences: number; answersOfOne: number };
  /** Free answers that are written together: prompts, and the most new tokens of one; null where none are written. */
  written: { sequences: number; longest: number; tokens: number } | null;
  /** The frozen part: one batch, what goes through the layers together, and all of it, padding included; `tokens` without. */
  frozen: { batch: number; longest: number; pass: number; padded: number; tokens: number };
}

/** Parts of a run that `measureWork` reads; of the model, which need not be loaded, only its tokenizer. */
export type WorkSource = Pick<RunPlan, "dataset" | "irrelevant" | "T" | "templates" | "targetStop" | "seeing"> & {
  method: Pick<RunPlan["method"], "style" | "needs" | "rows" | "inStep">;
  model: Pick<RunPlan["model"], "tokenizer" | "config">;
};

/**
 * Tokenizes everything that a run will need, for its sizes alone.
 * @throws {RefusedInput} for a text that cannot be used
 */
export function measureWork(source: WorkSource): Workload {
  const { records } = source.dataset;
  const { method, model } = source;
  const edits = records.map((record) => editRowsOf(record, source));
  const probes = records.map((record) => probesOf(record).map((probe) => encodeProbe(model, probe, method.style)));
  const blocks = blocksOf(records.length, source.T);
  const block = largest(blocks.map(({ start, end }) => end - start));
  const groups = Array.from({ length: Math.ceil(records.length / RECORDS_TOGETHER) }, (_, i) => {
    const [start, end] = [i * RECORDS_TOGETHER, (i + 1) * RECORDS_TOGETHER];
    return { edits: edits.slice(start, end), probes: probes.slice(start, end).flat() };
  });
  return {
    records: records.length,
    block,
    blockTargets: largest(blocks.map(({ start, end }) => sum(edits.slice(start, end).map(targetsOf)))),
    edit: workOfSteps(edits, Math.min(method.inStep ?? 1, block)),
    score: workOfScores(groups.map((group) => group.probes)),
    written: workOfAnswers(
      groups.map((group) => group.probes),
      source.seeing,
    ),
    frozen: workOfFrozen(
      groups.flatMap((group) => [group.edits.flatMap(sequencesOfRows), group.probes.map(({ ids }) => ids)]),
    ),
  };
}

/** @param together most edits that are in a step */
function workOfSteps(edits: readonly TokenRow[][], together: number): Workload["edit"] {
  const most = (sizes: number[]) => sum(sizes.sort((a, b) => b - a).slice(0, together));
  return {
    sequences: most(edits.map((rows) => rows.length)),
    longest: largest(edits.flatMap(sequencesOfRows).map((ids) => ids.length)),
    targets: most(edits.map(targetsOf)),
    targetsOfOne: largest(edits.flat().map((row) => targetsOf([row]))),
  };
}

/** Target tokens of an edit. */
function targetsOf(rows: readonly TokenRow[]): number {
  return sum(rows.map(({ ids, promptTokens }) => ids.length - promptTokens));
}

function workOfScores(groups: readonly (readonly TokenRow[])[]): Workload["score"] {
  const batches = groups.flatMap((group) =>
    [
      ...batchesOf(
        group.map(({ ids }) => ids),
        SCORE_BATCH_TOKENS,
      ),
    ].map(([start, end]) => group.slice(start, end)),
  );
  const answers = batches.map((batch) => batch.map(({ ids, promptTokens }) => ids.length - promptTokens));
  return {
    padded: largest(batches.map((batch) => paddedTokens(batch.map(({ ids }) => ids)))),
    longest: largest(batches.flat().map(({ ids }) => ids.length)),
    answers: largest(answers.map(sum)),
    sequences: largest(batches.map((batch) => batch.length)),
    answersOfOne: largest(answers.flat()),
  };
}

function workOfAnswers(groups: readonly (readonly TokenRow[])[], { generation }: Seeing): Workload["written"] {
  if (generation === null) return null;
  const { maxNewTokens, whole } = generation;
  const rows = groups.flat();
  const expected = rows.map(({ ids, promptTokens }) => ids.length - promptTokens);
  return {
    sequences: largest(groups.map((group) => group.length)),
    longest: largest(rows.map(({ promptTokens }) => promptTokens)),
    tokens: Math.max(maxNewTokens, whole ?? 0, largest(expected)),
  };
}

function workOfFrozen(groups: readonly (readonly number[][])[]): Workload["frozen"] {
  const batches = groups.map(frozenBatches);
  const padded = batches.map((own) => own.map(paddedTokens));
  const lengths = groups.flat().map((ids) => ids.length);
  return {
    batch: largest(padded.flat()),
    longest: largest(lengths),
    pass: largest(padded.map(sum)),
    padded: sum(padded.flat()),
    tokens: sum(lengths),
  };
}

function paddedTokens(sequences: readonly { readonly length: number }[]): number {
  return sequences.length * largest(sequences.map(({ length }) => length));
}

function largest(numbers: readonly number[]): number {
  return numbers.reduce((a, b) => Math.max(a, b), 0);
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((a, b) => a + b, 0);
}
