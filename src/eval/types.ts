import type { Reading } from "../edit/overlay.js";

/** A free answer. */
export interface Written {
  /** The new tokens: up to the end of the answer, and as many as the expected answer has at least. */
  tokens: number[];
  /** Those of the answer: up to ".", a line break or the end of text, which is the last of them. */
  end: number;
  /** Text of the answer, without that end. */
  text: string;
  /** Text of all tokens, where a metric reads longer texts. */
  whole?: string;
  /** The judge's verdict, where there is one. */
  right?: boolean;
}

/** The parts seen of an answer under one variant; those that no metric asked for are not there. */
export interface Seen {
  /** Arg max tokens at the answer's positions. */
  predicted?: readonly number[] | undefined;
  /** log P of the answer's tokens, in nats. */
  logp?: readonly number[] | undefined;
  written?: Written | undefined;
}

/** Free answers to a probe's prompt. Their router saw the prompt alone, and may have chosen otherwise than with the answer. */
export interface FreeScore {
  /** The variant that wrote `post`: "main" is the untouched model. */
  route: string;
  pre: Written;
  post: Written;
  /** Every variant that the router looked at, and what it would have written; null where it could not. */
  readings: (Reading & { written: Written | null })[];
}

/** One variant as the router saw it for one probe, and what it would have answered had it been chosen. */
export interface ProbeReading extends Reading {
  /**
   * Arg max tokens at the answer's positions when this variant answers; null where it could not, at any value of the
   * options that are read at inference only.
   */
  predicted: number[] | null;
  /** Their score, in [0, 1]. */
  score: number | null;
  /** log P of the answer's tokens under it, in nats, where a metric asks for them. */
  logp?: number[];
}

/**
 * One prompt with its expected answer, scored by teacher forcing before and after the edit; with all else that metrics
 * of the run ask for.
 */
export interface ProbeScore {
  prompt: string;
  answer: string;
  /** Name of its group, where the data has groups. */
  group?: string;
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
  /** log P of the answer's tokens before and after the edit, in nats. */
  logp?: { pre: number[]; post: number[] };
  free?: FreeScore;
}

/** The probes of one record, in some form. */
export interface RecordProbes<P> {
  rewrite: P;
  rephrase: P | null;
  /** The others, where the file has several for a record. */
  moreRephrases?: readonly P[];
  /** One probe on zsRE; every probe of every group on KnowEdit. */
  locality: readonly P[];
  portability: readonly P[];
  /** Facts that nobody edits, where such were asked for. */
  unedited?: readonly P[];
  /** A text beyond the target, of a record that has one (temporal set): every token of it behind the first. */
  ood?: P;
}

/** Scores of one record after its block (or right after its own edit, see `Protocol.when`). */
export interface RecordScore extends RecordProbes<ProbeScore> {
  /** 0-based position of the record in its file. */
  record: number;
  /** 0-based block the record was edited in. */
  block: number;
  subject: string;
}
