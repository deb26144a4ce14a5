import type { EditStep } from "../../edit/trace.js";
import type { Measure, Tally } from "./tally.js";

/** A number of every step, here and in the golden file. */
export interface StepNumber<S> {
  item: string;
  ours(step: EditStep): number | undefined;
  golden(step: S): number;
  measure?: Measure;
  tolerance: number;
}

/** Compares the numbers of an edit's steps. A file may leave steps out; one that was not taken here is the count's concern. */
export function compareSteps<S extends { step: number }>(
  tally: Tally,
  { ours, golden, where }: { ours: readonly EditStep[]; golden: readonly S[]; where: string },
  numbers: readonly StepNumber<S>[],
): void {
  for (const wanted of golden) {
    const taken = ours[wanted.step];
    if (taken === undefined) continue;
    for (const { item, measure = "absolute", tolerance, ...of } of numbers) {
      const values = { ours: of.ours(taken) ?? Number.NaN, golden: of.golden(wanted), measure };
      tally.number(item, { ...values, where: `${where}, step ${wanted.step}` }, tolerance);
    }
  }
}
