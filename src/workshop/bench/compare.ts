import type { Edited, Scored } from "./protocol.js";

/** Results of one contestant: the same for all, up to rounding, or their times compare different computations. */
export interface Computed {
  /** Of an edit of a few steps, and of the scores under it. */
  losses: Edited["losses"];
  scored: Omit<Scored, "seconds">;
  /** W' - W after it. */
  delta: Float32Array;
}

/** The largest differences of a contestant from the cut, relative. */
export interface Differences {
  /** Of ft, act and their sum at any of the few steps, as a share of the loss at that step. */
  loss: number;
  /** || difference || / || W' - W || after them. */
  matrix: number;
  /** Of the routing activations of the probes. */
  activation: number;
  /** Predicted tokens that are not the same, and the number of all: a tie of two logits is decided by rounding. */
  tokens: number;
  ofTokens: number;
  /** As `loss`, of all steps of the edits that are measured: what rounding grows to. Infinite for unlike numbers of steps. */
  lossInTheEnd: number;
}

/** As far as float32 implementations of the same few steps may be apart. */
export const TOLERANCE = { loss: 1e-4, matrix: 1e-3, activation: 1e-3 } as const;
const TIES = 0.1; // share of predicted tokens

/** Compares two computations of the same edit. `edit` is one of those that are measured. */
export function differencesOf(a: Computed & { edit: Edited }, b: Computed & { edit: Edited }): Differences {
  const tokensOf = ({ scored }: Computed) => [...scored.before, ...scored.after].flat();
  const other = tokensOf(b);
  return {
    loss: lossDifference(a.losses, b.losses),
    matrix: relativeNorm(a.delta, b.delta),
    activation: largest(a.scored.activations.map((value, i) => relative(value, b.scored.activations[i] ?? Number.NaN))),
    tokens: tokensOf(a).filter((token, i) => token !== other[i]).length,
    ofTokens: other.length,
    lossInTheEnd: lossDifference(a.edit.losses, b.edit.losses),
  };
}

/** True if two contestants computed the same thing. */
export function alike({ loss, matrix, activation, tokens, ofTokens, lossInTheEnd }: Differences): boolean {
  return (
    loss <= TOLERANCE.loss &&
    matrix <= TOLERANCE.matrix &&
    activation <= TOLERANCE.activation &&
    tokens <= Math.max(1, TIES * ofTokens) &&
    Number.isFinite(lossInTheEnd)
  );
}

function lossDifference(a: Edited["losses"], b: Edited["losses"]): number {
  if (a.length !== b.length) return Number.POSITIVE_INFINITY;
  return largest(a.map((step, i) => stepDifference(step, b[i] as typeof step)));
}

function stepDifference(a: Edited["losses"][number], b: Edited["losses"][number]): number {
  const size = Math.max(Math.abs(a.loss), Math.abs(b.loss));
  return largest((["ft", "act", "loss"] as const).map((key) => Math.abs(a[key] - b[key]))) / size;
}

/** |a - b| as a share of the larger of both. */
export function relative(a: number, b: number): number {
  return a === b ? 0 : Math.abs(a - b) / Math.max(Math.abs(a), Math.abs(b));
}

function relativeNorm(a: Float32Array, b: Float32Array): number {
  if (a.length !== b.length) return Number.NaN;
  let difference = 0;
  let size = 0;
  for (let i = 0; i < a.length; i++) {
    difference += ((a[i] as number) - (b[i] as number)) ** 2;
    size += (a[i] as number) ** 2;
  }
  return Math.sqrt(difference / size);
}

/** NaN where one is. */
export function largest(values: readonly number[]): number {
  return values.reduce((a, b) => (Number.isNaN(b) || b > a ? b : a), 0);
}
