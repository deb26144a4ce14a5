/*
 * Differences that a float32 implementation may have, as the READMEs of the golden folders say. Matrices and vectors:
 * relative Frobenius norm of the difference.
 */

/** Of WISE (golden/README.md). */
export interface WiseTolerances {
  /** Relative. */
  loss: number;
  distance: number;
  /** Distances at inference, against merged memories. */
  readDistance: number;
  gradient: number;
  side: number;
  memory: number;
  steps: number;
  /** Predicted token lists or routes that may differ. */
  readings: number;
}

export const WISE: WiseTolerances = {
  loss: 1e-3,
  distance: 5e-3,
  readDistance: 5e-3,
  gradient: 2e-3,
  side: 2e-3,
  memory: 2e-3,
  steps: 0.01,
  readings: 0,
};

/** With weight decay on masked entries a merge decides by rounding which of them survive. */
export const WISE_DECAYED_MERGE: WiseTolerances = { ...WISE, memory: 4e-2, readDistance: 3e-2, readings: 3 };

/** Fine-tuning and memory editors (golden-methods/README-tune.md). */
export const TUNE = {
  /** Absolute. */
  logits: 2e-3,
  /** Logits of methods that move the model far, absolute: LoRA and FT-M. */
  farLogits: 1e-2,
  gradient: 1e-4,
  key: 1e-4,
  /** Weight deltas and values. */
  trained: 5e-3,
  /** Relative. */
  loss: 1e-3,
  /** Radii and distances, absolute. */
  distance: 1e-3,
  /** Absolute. */
  gate: 1e-4,
  /** Two logits this near to each other may change places, and an edit that waits for one may take a step more. */
  tie: 0.02,
  /** The loss at which an edit stops, and how near to it a step more or less may be taken. */
  stop: { loss: 1e-2, near: 1e-4 },
} as const;

/** Editors that locate first (golden-methods/README-locate.md). */
export const LOCATE = {
  /** start, keys, k, key_mean, u, first_gradient, grads, mean, var */
  input: 2e-4,
  /** delta, r, residual, weight_delta, v */
  result: 1e-3,
  /** Entries of P, absolute. */
  nullSpace: 1e-6,
  /** residual_after, as a share of the norm of layers.0.residual. */
  residualAfter: 2e-4,
  /** loss and nll of each pass, relative. */
  loss: 1e-4,
  /** kl and wd of each pass, absolute. */
  penalty: 1e-4,
  /** Absolute. */
  logits: 5e-3,
  /** Two logits this near to each other may change places. */
  tie: 5e-3,
} as const;
