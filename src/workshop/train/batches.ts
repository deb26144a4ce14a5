import type { Rng } from "../../core/rng.js";
import { MASKED } from "../../model/llama.js";
import { encodeForced, PLAIN } from "../../model/prompt.js";
import type { Tokenizer } from "../../model/tokenizer.js";
import { EOS_ID } from "./tokenizer-files.js";

/** A question with its answer; joined by one space they are a text to learn. */
export interface Line {
  question: string;
  answer: string;
}

/** A text as the model learns it: BOS, prefix, question, answer, end token. */
export interface Sequence {
  ids: number[];
  /** Index of the answer's first token. */
  answerStart: number;
}

/**
 * Sequences packed into rows: R rows of T positions, N = R T. Rotary positions are relative, so a sequence computes the
 * same wherever in a row it stands, as long as the mask lets it see only itself.
 */
export interface Batch {
  rows: number;
  /** T */
  length: number;
  /** [N] */
  tokens: Int32Array;
  /** The next token of the sequence, 0 where there is none. [N] */
  targets: Int32Array;
  /** Weight of the loss at each position: 1 for answer and end token, 0 where there is no next token. [N] */
  weights: Float32Array;
  /** Additive mask, 0 or MASKED. [R, 1, T, T] */
  causal: Float32Array;
  /** Tokens that are no padding. */
  used: number;
}

export interface BatchOptions {
  /** Lines per step. */
  lines: number;
  /** Positions per row; rows become longer only for a sequence that would not fit. */
  rowLength: number;
  /** Share of lines that get a random prefix. */
  prefixShare: number;
  /** Weight of the loss on tokens of prefix and question, against 1 on the answer. */
  questionWeight: number;
}

/** Tokens of a line, with the prefix and a space in front where there is one. @throws {RefusedInput} for an empty answer */
export function encodeLine(tokenizer: Tokenizer, line: Line, prefix?: string): Sequence {
  const prompt = prefix === undefined ? line.question : `${prefix} ${line.question}`;
  const { ids, promptTokens } = encodeForced(tokenizer, { prompt, answer: line.answer }, PLAIN);
  return { ids: [...ids, EOS_ID], answerStart: promptTokens };
}

/**
 * The batch of every step, counted from 1, as a pure function of the generator and the step: a resumed run sees what
 * an uninterrupted one sees. Lines come in a new random order each time all of them have been seen.
 */
export function createBatches(
  text: { lines: readonly Line[]; prefixes: readonly string[]; tokenizer: Tokenizer },
  options: BatchOptions,
  rng: Rng,
): (step: number) => Batch {
  const { lines, prefixes, tokenizer } = text;
  const order = orders(lines.length, rng);
  return (step) => {
    const chance = rng.fork("prefix", step);
    const sequences = Array.from({ length: options.lines }, (_, i) => {
      const line = lines[order((step - 1) * options.lines + i)] as Line;
      const prefixed = chance.uniform() < options.prefixShare && prefixes.length > 0;
      return encodeLine(tokenizer, line, prefixed ? prefixes[chance.integer(prefixes.length)] : undefined);
    });
    return packBatch(sequences, options);
  };
}

/** Which line stands at a place of the endless sequence of shuffled rounds. Remembers the last round. */
function orders(count: number, rng: Rng): (place: number) => number {
  let round = -1;
  let order: number[] = [];
  return (place) => {
    if (Math.floor(place / count) !== round) {
      round = Math.floor(place / count);
      order = shuffled(count, rng.fork("order", round));
    }
    return order[place % count] as number;
  };
}

function shuffled(count: number, rng: Rng): number[] {
  const order = Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const j = rng.integer(i + 1);
    [order[i], order[j]] = [order[j] as number, order[i] as number];
  }
  return order;
}

/** Puts sequences into as few rows as first-fit finds, longest first. */
export function packBatch(
  sequences: readonly Sequence[],
  { rowLength, questionWeight }: Pick<BatchOptions, "rowLength" | "questionWeight">,
): Batch {
  const longestFirst = sequences.toSorted((a, b) => b.ids.length - a.ids.length);
  const T = Math.max(rowLength, longestFirst[0]?.ids.length ?? 0);
  const filled: number[] = [];
  const places = longestFirst.map(({ ids }) => {
    const fitting = filled.findIndex((used) => used + ids.length <= T);
    const row = fitting < 0 ? filled.length : fitting;
    const start = filled[row] ?? 0;
    filled[row] = start + ids.length;
    return { row, start };
  });
  const N = filled.length * T;
  const batch: Batch = {
    rows: filled.length,
    length: T,
    tokens: new Int32Array(N),
    targets: new Int32Array(N),
    weights: new Float32Array(N),
    causal: new Float32Array(N * T).fill(MASKED),
    used: filled.reduce((sum, used) => sum + used, 0),
  };
  longestFirst.forEach((sequence, i) => {
    const { row, start } = places[i] as { row: number; start: number };
    place(batch, sequence, { at: row * T + start, column: start, questionWeight });
  });
  return batch;
}

/** Writes one sequence into the batch: `at` is the index of its first position, `column` that within its row. */
function place(
  batch: Batch,
  { ids, answerStart }: Sequence,
  { at, column, questionWeight }: { at: number; column: number; questionWeight: number },
): void {
  batch.tokens.set(ids, at);
  batch.targets.set(ids.slice(1), at);
  for (let i = 0; i < ids.length; i++) {
    if (i + 1 < ids.length) batch.weights[at + i] = i + 1 < answerStart ? questionWeight : 1;
    const query = (at + i) * batch.length + column;
    batch.causal.fill(0, query, query + i + 1);
  }
}
