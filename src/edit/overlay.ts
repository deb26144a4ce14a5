import { type CutBatch, mainOutput } from "../model/cut.js";
import type { LlamaModel } from "../model/model.js";
import { tf } from "../tensor/tf.js";

/** Which value matrix answers a sequence: the untouched model, the side memory in progress, the merged or a saved memory. */
export type Route = "main" | "side" | "merged" | `memory-${number}`;

/** One memory as the router saw it for one sequence. */
export interface MemoryReading {
  memory: Exclude<Route, "main">;
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
  decisions: Decision[];
  /** Output of the untouched value matrix, [N, D]. */
  main: tf.Tensor2D;
  /** Output under each sequence's route, [N, D]; null when every sequence is answered by the untouched model. */
  edited: tf.Tensor2D | null;
  dispose(): void;
}

/**
 * Edits as a value beside the model: it reads batches and changes nothing. Dropping it is the rollback.
 * Scoring and generation know only this.
 */
export interface Overlay {
  /** The layer whose value matrix it stands in for. */
  readonly layer: number;
  /** Routes every sequence and gives its output. With `routes`, takes those instead of deciding. */
  answer(model: LlamaModel, batch: CutBatch, routes?: readonly Route[]): Promise<Answer>;
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
        edited: null,
        dispose: () => main.dispose(),
      };
    },
    dispose: () => {},
  };
}
