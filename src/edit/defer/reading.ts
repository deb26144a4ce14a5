import { RefusedInput } from "../../core/errors.js";
import { type CutBatch, valueInput } from "../../model/cut.js";
import { outputChange } from "../../model/patch.js";
import { linear } from "../../model/weight.js";
import { tf } from "../../tensor/tf.js";
import type { Router } from "../contract.js";
import type { Options } from "../option-table.js";
import { type Decision, MAIN, marginOf, type Overlay, type Reading } from "../overlay.js";
import { answeringChange, moduleOutput, withOne } from "./module.js";
import type { DeferOptions } from "./options.js";

/** The one variant. */
const MODULE = "module";

type Numbers = { gate: number };

const gateIn = (reading: Reading | undefined): number => (reading?.numbers as Numbers | undefined)?.gate ?? 0;

function decideAt<R extends Reading>(given: readonly R[], threshold: number): { variant: string; readings: R[] } {
  const readings = given.map((each) => ({ ...each, margin: marginOf(gateIn(each), threshold) }));
  const [module] = readings;
  return { variant: module !== undefined && module.margin >= 1 ? module.variant : MAIN, readings };
}

/** The router of DEFER. The gate does not depend on the threshold, which is read at inference only. */
export const deferRouter: Router = {
  called: (variant) => (variant === MODULE ? "the module" : variant),
  numbers: { gate: { symbol: "g", meaning: "gate of the module at the last token of the sequence" } },
  inference: {
    key: "threshold",
    answers: "below",
    decide: (readings, options) => decideAt(readings, thresholdOf(options)),
    turn: ([reading]) => (reading === undefined ? Number.NEGATIVE_INFINITY : gateIn(reading)),
  },
};

function thresholdOf({ threshold }: Options): number {
  if (typeof threshold === "number" && threshold >= 0) return threshold;
  throw new RefusedInput("a run does not say how its router decided", {
    where: "options of the protocol",
    found: { threshold },
    expected: "threshold, a number from 0",
  });
}

/**
 * The overlay of a module. A sequence whose gate is open reads its value at every position.
 * @param module its matrix [D + 1, M + 1], which the overlay takes over
 */
export function deferOverlay(module: tf.Tensor2D, { layer, threshold }: DeferOptions): Overlay {
  return {
    cut: { layer, at: "mlpIn" },
    async route(batch) {
      const { gates, values } = tf.tidy(() => ({ ...moduleOutput(linear(withOne(lastInputs(batch)), module)) }));
      const opened = await gates.data<"float32">();
      gates.dispose();
      const decisions = [...opened].map((gate): Decision => {
        return decideAt([{ variant: MODULE, margin: 0, numbers: { gate } }], threshold);
      });
      return {
        decisions,
        patch: () => [{ site: { layer, matrix: "down" }, change: answeringChange(values, batch.at.length) }],
        later: () => [{ site: { layer, matrix: "down" }, change: outputChange(values) }],
        reachable: () => true,
        dispose: () => values.dispose(),
      };
    },
    dispose: () => module.dispose(),
  };
}

/** Inputs of the value matrix at the last token of each sequence, [B, M]. */
export function lastInputs(batch: Pick<CutBatch, "point" | "lengths" | "at" | "mlpIn">): tf.Tensor2D {
  const last = batch.lengths.map((length, row) => row * batch.at.length + length - 1);
  return tf.gather(valueInput(batch), tf.tensor1d(last, "int32"));
}
