import { LabFailure } from "../core/errors.js";
import { type CutBatch, mainOutput } from "../model/cut.js";
import type { LlamaModel } from "../model/model.js";
import { tf } from "../tensor/tf.js";

/** Which value matrix answers a sequence: the untouched model, the side memory in progress, the merged or a saved memory. */
export type Route = "main" | "side" | "merged" | `memory-${number}`;

/** A value matrix other than the untouched one. */
export type Memory = Exclude<Route, "main">;

/** One memory as the router saw it for one sequence. */
export interface MemoryReading {
  memory: Memory;
  /** Routing activation of the sequence against this memory. */
  delta: number;
  /** Smallest in-scope activation of this memory's edits; 1e9 before its first edit. */
  minAct: number;
  /** minAct * act_ratio. */
  threshold: number;
}

/** The router's decision for one sequence, with everything it was decided on. */
export interface Decision {
  route: Route;
  readings: MemoryReading[];
}

/** What the edit layer gives for a batch. The caller disposes it. */
export interface Answer {
  /** One per sequence; every one reads the same memories in the same order. */
  decisions: Decision[];
  /** Output of the untouched value matrix, [N, D]. */
  main: tf.Tensor2D;
  /** Output when one memory answers every sequence, whatever was decided, [N, D]. The caller disposes it. */
  under(memory: Memory): tf.Tensor2D;
  dispose(): void;
}

/**
 * Edits as a value beside the model: it reads batches and changes nothing. Dropping it is the rollback.
 * Scoring and generation know only this.
 */
export interface Overlay {
  /** The layer whose value matrix it stands in for. */
  readonly layer: number;
  /** Decides every sequence, and gives the output under each memory. */
  answer(model: LlamaModel, batch: CutBatch): Promise<Answer>;
  dispose(): void;
}

/** The overlay of no edits: every sequence is answered by the untouched model. */
export function untouched(layer: number): Overlay {
  return {
    layer,
    async answer(model, batch) {
      const main = tf.tidy(() => mainOutput(model, batch, layer));
      return {
        decisions: batch.lengths.map(() => ({ route: "main", readings: [] })),
        main,
        under: (memory) => {
          throw new LabFailure(`an untouched model has no memory "${memory}"`);
        },
        dispose: () => main.dispose(),
      };
    },
    dispose: () => {},
  };
}
