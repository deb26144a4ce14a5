import { tf } from "../tensor/tf.js";
import { createAdam } from "./adam.js";
import type { EditControl } from "./contract.js";
import type { Overlay } from "./overlay.js";
import { runSteps, type StepReport, type StepsTaken } from "./steps.js";

/** An edit that moves tensors down the gradient of a loss. */
export interface Descent<T extends tf.Tensor> {
  lr: number;
  /** Most passes. */
  limit: number;
  /** Row that every gradient is an outer product with (`Adam.step`); the pass gives the other factor. */
  along?: tf.Tensor2D;
  /** The loss at the tensors, with its gradient with respect to each. The descent disposes the gradients. */
  pass(at: readonly T[]): Promise<{ report: StepReport; gradients: readonly tf.Tensor[] }>;
  /** True if the edit ends with this pass, without a move; never, when left out. */
  settled?(now: StepReport): boolean;
  /** Holds the i-th tensor within bounds after a step; takes the one over that it is given. */
  bounded?(moved: T, i: number): T;
  /** The edits as they would stand with the tensors at these. */
  standing(at: readonly T[]): Promise<Overlay>;
  /** Advice that keeps the loss finite, for the error. */
  hint: string;
}

/**
 * Moves tensors from where they start, each with an Adam of its own. The starts stay.
 * @returns the tensors, the caller's to dispose, and the steps that were taken
 * @throws as `runSteps`; nothing is left then
 */
export async function descend<T extends tf.Tensor>(
  starts: readonly T[],
  { lr, along, pass, settled = () => false, bounded = (moved) => moved, standing, ...edit }: Descent<T>,
  control: EditControl,
): Promise<{ moved: T[]; taken: StepsTaken }> {
  const moved = starts.map((start) => start.clone());
  const adams = starts.map(() => createAdam(lr));
  const move = (gradients: readonly tf.Tensor[]): void => {
    for (const [i, adam] of adams.entries()) {
      const before = moved[i] as T;
      moved[i] = bounded(adam.step(before, gradients[i] as tf.Tensor, along) as T, i);
      before.dispose();
    }
  };
  try {
    const taken = await runSteps(
      {
        ...edit,
        async pass() {
          const { report, gradients } = await pass(moved);
          return { report, move: () => move(gradients), dispose: () => tf.dispose([...gradients]) };
        },
        settled,
        standing: () => standing(moved),
      },
      control,
    );
    return { moved, taken };
  } catch (error) {
    tf.dispose(moved);
    throw error;
  } finally {
    for (const adam of adams) adam.dispose();
  }
}
