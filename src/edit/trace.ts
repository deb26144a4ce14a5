/** One optimisation step of an edit. */
export interface EditStep {
  /** 0-based. */
  step: number;
  /** The whole loss. */
  loss: number;
  /** The parts that the loss is the sum of, by their names in the method (wise: ft, act; rome: nll, kl, wd), in nats where they are likelihoods. */
  terms: Record<string, number>;
  /** Other numbers of the same pass (wise: in_scope, out_of_scope); empty for most methods. */
  numbers: Record<string, number>;
}

/** Record of one edit, step by step. */
export interface EditTrace {
  /** 0-based position of the record in its file; -1 for an edit made by hand. */
  record: number;
  steps: EditStep[];
  /** True when the loss settled before the step limit. */
  stoppedEarly: boolean;
  /** Numbers that the edit left, by their names in the method (wise: min_act; grace: event); empty for most methods. */
  numbers: Record<string, number | string>;
  /** Seconds spent on the frozen part, and on all steps together. */
  seconds: { frozen: number; steps: number };
}
