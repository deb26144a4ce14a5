/** Which value matrix answered a sequence: the untouched model, the side memory in progress, a saved or a merged memory. */
export type Route = "main" | "side" | "merged" | `memory-${number}`;

/** One memory as the router saw it for one sequence. */
export interface MemoryReading {
  memory: Exclude<Route, "main">;
  /** Routing activation of the sequence against this memory. */
  delta: number;
  /** min_act * act_ratio of this memory. */
  threshold: number;
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
  route: Route;
  readings: MemoryReading[];
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
  locality: ProbeScore | null;
  portability: ProbeScore | null;
}
