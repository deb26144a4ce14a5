import type { EditStep } from "../edit/trace.js";
import type { FrozenProgress } from "../model/frozen.js";
import type { RunProgress } from "../run/pace.js";
import { type Progress, progress } from "./progress.js";

/** Shows a T-rollback run as one progress line: pass `onProgress` to `lab.run`, and call `finish` when it is over. */
export function followRun(label: string): { onProgress(at: RunProgress): void; finish(): void } {
  let line: Progress | null = null;
  return {
    onProgress({ block, blocks, edited, scored, records }) {
      line ??= progress(label, records);
      // Blocks are scored after their edits: the slower of the two counts says how far the run is.
      line.update(Math.min(edited, scored), `block ${block + 1}/${blocks}, edited ${edited}, scored ${scored}`);
    },
    finish: () => line?.finish(),
  };
}

/**
 * Shows the passes through the frozen part of a model, which take minutes at full size, as one progress line: pass
 * `onFrozen` to `openLab`, and call `finish` when the work is over.
 */
export function followFrozen(): { onFrozen(at: FrozenProgress): void; finish(): void } {
  let line: Progress | null = null;
  return {
    onFrozen({ layer, layers, batch, batches }) {
      line ??= progress("frozen part", layers);
      line.update(layer + 1, `batch ${batch}/${batches}`);
    },
    finish: () => line?.finish(),
  };
}

/** Shows the steps of an edit as one progress line: pass `onStep` to `lab.edit`, and call `finish` when it is over. */
export function followEdit(label: string, steps: number): { onStep(step: EditStep): void; finish(): void } {
  const line = progress(label, steps);
  return {
    onStep: ({ step, loss }) => line.update(step + 1, `loss ${loss.toFixed(3)}`),
    finish: () => line.finish(),
  };
}
