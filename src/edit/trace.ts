/** One optimisation step of an edit. Losses in nats, distances in units of the edit layer's output. */
export interface EditStep {
  step: number;
  /** Cross entropy of the target tokens (wise: L_ft). */
  ft: number;
  /** Routing loss (wise: L_a); 0 for methods without a router. */
  act: number;
  /** Replay loss (wise, appendix B.3); 0 without replay. */
  replay: number;
  loss: number;
  /** Mean over the template rows of the routing activation of the edit prompt. */
  inScope: number;
  /** Routing activation of the irrelevant prompt. */
  outOfScope: number;
}

/** What one edit did, step by step. */
export interface EditTrace {
  /** 0-based position of the record in its file; -1 for an edit made by hand. */
  record: number;
  steps: EditStep[];
  /** True when the loss settled before the step limit. */
  stoppedEarly: boolean;
  /** Smallest in-scope activation of the shard so far: the router's threshold before act_ratio. */
  minAct: number;
  /** Seconds spent on the frozen part, and on all steps together. */
  seconds: { frozen: number; steps: number };
}
