import type { CauseName } from "../../run/causes.js";
/** Kinds of probes, in the order in which people read them. */
export type CaseKind = "rewrite" | "rephrase" | "locality" | "portability" | "unedited" | "ood";

/** Outcome of a probe: all, some or none of its answer is as it should be. */
export type Outcome = "right" | "partly right" | "wrong";

/** Cause of a probe that is not right: see `causes`. */
export type { CauseName } from "../../run/causes.js";

/** One position of an answer: the token that was wanted, and the arg max before the edit and now. */
export interface CaseToken {
  /** The token that counts as right: the answer's, or for locality the one predicted before the edit. */
  wanted: string;
  before: string;
  now: string;
  /** By token, not by text: two tokens may read the same. */
  wasRight: boolean;
  right: boolean;
}

/** The words that the method of a run has for its numbers. */
export interface MethodWords {
  title: string;
  /** The numbers of a reading, in the order of tables; null where the method has no router: its edits always answer. */
  numbers: { symbol: string; meaning: string }[] | null;
  /** Names of a loss's terms; where one has none, its own stands. */
  terms: Readonly<Record<string, string>>;
  /** The term that is the mean of -log p over the target's tokens. */
  targetTerm: string;
}

/** One variant as the router saw it for a probe, and what it would have answered. */
export interface CaseReading {
  variant: string;
  /** From 1 on it would answer, were it alone. */
  margin: number;
  /** In the order of `MethodWords.numbers`. */
  numbers: number[];
  /** Arg max tokens when this variant answers, and their score in [0, 1]; null where it never could have. */
  predicted: string[] | null;
  score: number | null;
}

export interface CaseProbe {
  kind: CaseKind;
  prompt: string;
  answer: string;
  /** In [0, 1]; before the edit null for locality, where it is 1 by definition. */
  score: number;
  preScore: number | null;
  outcome: Outcome;
  tokens: CaseToken[];
  /** The variant that answered: "main" is the untouched model. */
  route: string;
  /** Variants that hold an edit, largest margin first; none where the method has no router. */
  readings: CaseReading[];
  cause: CauseName | null;
  /** The cause in one sentence, with the numbers of this probe; empty where it is right. */
  why: string;
}

export interface CaseEdit {
  /** The terms of the loss at each step, by their names in the method. */
  steps: Record<string, number>[];
  stoppedEarly: boolean;
  /** Values that the edit left, by their names in the method. */
  numbers: Record<string, number | string>;
  /** With the frozen part. */
  seconds: number;
}

/** Everything a run knows about one record. */
export interface Case {
  /** 0-based, as in the files of a run. */
  record: number;
  block: number;
  subject: string;
  /** Rewrite first, then rephrase, locality and portability, where the record has them. */
  probes: CaseProbe[];
  edit: CaseEdit | null;
}
