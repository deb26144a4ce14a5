/** One compared quantity: the largest difference seen, where, and what is allowed. */
export interface ParityItem {
  scenario: string;
  item: string;
  compared: number;
  worst: number;
  where: string;
  tolerance: number;
  passed: boolean;
}

/** How a difference is measured. */
export type Measure = "absolute" | "relative";

/** Collects the largest difference per item. */
export interface Tally {
  /** Compares two numbers. A difference that is not a number never passes. */
  number(
    item: string,
    values: { ours: number; golden: number; where: string; measure?: Measure },
    tolerance: number,
  ): void;
  /** Compares two matrices by the Frobenius norm of their difference over that of the golden one. */
  matrix(item: string, values: { ours: Float32Array; golden: Float32Array; where: string }, tolerance: number): void;
  /** Counts what must be equal; `allowed` of them may differ. */
  equal(item: string, values: { ours: unknown; golden: unknown; where: string }, allowed?: number): void;
  items(): ParityItem[];
}

/** Makes an empty tally for one scenario. */
export function createTally(scenario: string): Tally {
  const items = new Map<string, ParityItem>();

  function take(item: string, difference: number, at: { where: string; tolerance: number; add?: boolean }): void {
    const before = items.get(item);
    const worst = at.add ? (before?.worst ?? 0) + difference : Math.max(before?.worst ?? 0, difference);
    // What is not a number is worse than any number, and the first of those is the place to look at.
    const beats = (than: number) => (at.add ? difference > 0 : !Number.isNaN(than) && !(difference <= than));
    items.set(item, {
      scenario,
      item,
      compared: (before?.compared ?? 0) + 1,
      worst,
      where: before === undefined || beats(before.worst) ? at.where : before.where,
      tolerance: at.tolerance,
      passed: (before?.passed ?? true) && worst <= at.tolerance,
    });
  }

  return {
    number(item, { ours, golden, where, measure = "absolute" }, tolerance) {
      const difference = Math.abs(ours - golden);
      take(item, measure === "absolute" ? difference : difference / Math.max(Math.abs(golden), 1e-6), {
        where,
        tolerance,
      });
    },
    matrix(item, { ours, golden, where }, tolerance) {
      take(item, relativeFrobenius(ours, golden), { where, tolerance });
    },
    equal(item, { ours, golden, where }, allowed = 0) {
      const same = JSON.stringify(ours) === JSON.stringify(golden);
      take(item, same ? 0 : 1, { where, tolerance: allowed, add: true });
    },
    items: () => [...items.values()],
  };
}

function relativeFrobenius(ours: Float32Array, golden: Float32Array): number {
  if (ours.length !== golden.length) return Number.NaN;
  let difference = 0;
  let size = 0;
  for (let i = 0; i < golden.length; i++) {
    const wanted = golden[i] as number;
    difference += ((ours[i] as number) - wanted) ** 2;
    size += wanted ** 2;
  }
  return Math.sqrt(size === 0 ? difference : difference / size);
}
