import type { Route } from "../../../edit/overlay.js";

/** What a probe measures, in the order in which people read them. */
export type CaseKind = "rewrite" | "rephrase" | "locality" | "portability";

/** How much of an answer is as it should be. */
export type Outcome = "right" | "partly right" | "wrong";

/** Why a probe is not right: see `causes`. */
export type CauseName =
  | "not routed"
  | "wrong memory"
  | "over-edited"
  | "not learned"
  | "forgotten"
  | "not carried over";

/** One position of an answer: the token that was wanted, and the arg max before the edit and now. */
export interface CaseToken {
  /** What counts as right: the answer's token, or for locality what the model said before the edit. */
  wanted: string;
  before: string;
  now: string;
  /** By token, not by text: two tokens may read the same. */
  wasRight: boolean;
  right: boolean;
}

/** One memory as the router saw it for a probe, and what it would have answered. */
export interface CaseMemory {
  memory: Exclude<Route, "main">;
  /** Routing activation against this memory, and what it had to reach. */
  delta: number;
  threshold: number;
  /** Arg max tokens when this memory answers, and their score in [0, 1]. */
  predicted: string[];
  score: number;
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
  /** What answered. */
  route: Route;
  /** Memories that hold an edit, largest activation first. */
  memories: CaseMemory[];
  cause: CauseName | null;
  /** The cause in one sentence, with the numbers of this probe; empty where it is right. */
  why: string;
}

export interface CaseEdit {
  /** Losses of each step, in nats for the fine-tuning part. */
  steps: { ft: number; act: number }[];
  stoppedEarly: boolean;
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
