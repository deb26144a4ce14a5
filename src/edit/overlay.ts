import type { CutBatch } from "../model/cut.js";
import type { CutPoint, Patch } from "../model/patch.js";

/** The variant of the untouched model. */
export const MAIN = "main";

/** The variant of edits without a router. */
export const UNROUTED = "edited";

/** One variant as the router saw it for one sequence. */
export interface Reading {
  /** One of the variants that the edits can answer with, by its name in the method. */
  variant: string;
  /** Share of its threshold that it reached, at least 0: from 1 on it would answer, were it alone. At most `LARGEST_MARGIN`. */
  margin: number;
  /** Numbers that the margin follows from, by the method's names for it. */
  numbers: Record<string, number>;
}

/** A margin of what answers everything: files hold no infinite number. */
export const LARGEST_MARGIN = 1e9;

/** `value / limit` as a margin. A limit of 0 is always reached. */
export function marginOf(value: number, limit: number): number {
  return limit > 0 ? Math.min(value / limit, LARGEST_MARGIN) : LARGEST_MARGIN;
}

/** The answering variant of one sequence, with everything that was decided on. */
export interface Decision {
  /** `MAIN`, or a variant of the edits. */
  variant: string;
  /** Every variant that the router looked at; none where a method has no router. */
  readings: Reading[];
}

/** A batch as an overlay has decided it. The caller disposes it. */
export interface RoutedBatch {
  /** One per sequence; every one reads the same variants in the same order. */
  decisions: Decision[];
  /**
   * The changes under which a variant answers any sequence of the batch, whatever was decided; they live as long as the
   * batch and this. A variant that changes nothing gives the empty patch.
   */
  patch(variant: string): Patch;
  /**
   * The changes under which a variant answers the tokens that follow the sequences, one of each at a time, as it was
   * decided on the sequences themselves. `pick` takes those in work out of a tensor with a row for each sequence.
   */
  later(variant: string): Patch;
  /**
   * True if a variant could answer a sequence at some value of the options that are read at inference only. Where it could
   * not, nobody asks what it would have said.
   */
  reachable(variant: string, row: number): boolean;
  dispose(): void;
}

/**
 * Edits as a value beside the model: it reads batches and changes nothing. Dropping it is the rollback.
 * Scoring and generation know only this.
 */
export interface Overlay {
  /** Nothing before this point is changed. */
  readonly cut: CutPoint;
  route(batch: CutBatch): Promise<RoutedBatch>;
  dispose(): void;
}

/** The overlay of no edits: every sequence is answered by the untouched model. */
export function untouched(cut: CutPoint): Overlay {
  return { cut, route: async (batch) => always(MAIN, [], batch), dispose: () => {} };
}

/** The overlay of edits without a router: every sequence is answered under one patch. `dispose` frees what the patch holds. */
export function unrouted(cut: CutPoint, patch: Patch, dispose: () => void): Overlay {
  return { cut, route: async (batch) => always(UNROUTED, patch, batch), dispose };
}

function always(variant: string, patch: Patch, batch: CutBatch): RoutedBatch {
  return {
    decisions: batch.lengths.map(() => ({ variant, readings: [] })),
    patch: () => patch,
    later: () => patch,
    reachable: () => true,
    dispose: () => {},
  };
}
