import type { Reading } from "../edit/overlay.js";

/** One variant as the router saw it for one probe, and what it would have answered had it been chosen. */
export interface ProbeReading extends Reading {
  /**
   * Arg max tokens at the answer's positions when this variant answers; null where it could not, at any value of the
   * options that are read at inference only.
   */
  predicted: number[] | null;
  /** Their score, in [0, 1]. */
  score: number | null;
}

/** One prompt with its expected answer, scored by teacher forcing before and after the edit. */
export interface ProbeScore {
  prompt: string;
  answer: string;
  /** Token ids of the answer, and the arg max tokens at its positions before and after the edit. */
  target: number[];
  pre: number[];
  post: number[];
  /** Share in [0, 1]: of target tokens predicted (rewrite, rephrase, portability) or of predictions unchanged (locality). */
  score: number;
  /** The same before the edit; null for locality, where it is 1 by definition. */
  preScore: number | null;
  /** Every target position right (or unchanged, for locality). */
  exact: boolean;
  /** The variant that answered: "main" is the untouched model. */
  route: string;
  /** Every variant that the router looked at, whichever answered; none where the method has no router. */
  readings: ProbeReading[];
}

/** All probes of one record after its block (or right after its own edit, see `Protocol.when`). */
export interface RecordScore {
  /** 0-based position of the record in its file. */
  record: number;
  /** 0-based block the record was edited in. */
  block: number;
  subject: string;
  rewrite: ProbeScore;
  rephrase: ProbeScore | null;
  /** One probe on zsRE; every probe of every group on KnowEdit. */
  locality: ProbeScore[];
  portability: ProbeScore[];
}
