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

/** Way of measuring a difference. */
export type Measure = "absolute" | "relative";

/** Numbers of one array, ours and the golden ones, in one order. */
export interface ComparedArrays {
  ours: Float32Array;
  golden: Float32Array;
  where: string;
}

/** Collects the largest difference per item. A difference that is not a number never passes. */
export interface Tally {
  /** Compares two numbers. */
  number(
    item: string,
    values: { ours: number; golden: number; where: string; measure?: Measure },
    tolerance: number,
  ): void;
  /** Compares arrays number by number: the largest absolute difference. */
  entries(item: string, values: ComparedArrays, tolerance: number): void;
  /** Compares arrays by the Frobenius norm of their difference over that of the golden one, or over `norm`. */
  matrix(item: string, values: ComparedArrays & { norm?: number }, tolerance: number): void;
  /** Counts what must be equal; `allowed` of them may differ. */
  equal(item: string, values: { ours: unknown; golden: unknown; where: string }, allowed?: number): void;
  items(): ParityItem[];
}

/** Differences of a golden number under this size are not measured against it. */
const SMALLEST = 1e-6;

/** Makes an empty tally for one scenario. */
export function createTally(scenario: string): Tally {
  const items = new Map<string, ParityItem>();

  function take(item: string, difference: number, at: { where: string; tolerance: number }): void {
    const before = items.get(item);
    const passed = difference <= at.tolerance;
    const now: ParityItem = { scenario, item, compared: 0, worst: difference, passed, ...at };
    const shown = before === undefined || isWorse(now, before) ? now : before;
    items.set(item, { ...shown, compared: (before?.compared ?? 0) + 1 });
  }

  return {
    number(item, { ours, golden, where, measure = "absolute" }, tolerance) {
      const difference = Math.abs(ours - golden);
      const share = measure === "absolute" ? difference : difference / Math.max(Math.abs(golden), SMALLEST);
      take(item, share, { where, tolerance });
    },
    entries(item, { ours, golden, where }, tolerance) {
      take(item, largestDifference(ours, golden), { where, tolerance });
    },
    matrix(item, { ours, golden, where, norm = frobeniusNorm(golden) }, tolerance) {
      const difference = frobeniusDifference(ours, golden);
      take(item, norm === 0 ? difference : difference / norm, { where, tolerance });
    },
    equal(item, { ours, golden, where }, allowed = 0) {
      const differs = JSON.stringify(ours) !== JSON.stringify(golden);
      const others = items.get(item)?.worst ?? 0;
      take(item, differs ? others + 1 : 0, { where, tolerance: allowed });
    },
    items: () => [...items.values()],
  };
}

/** True if `now` is worse than `before`: failed than passed, NaN than any number; of two NaN the first stays shown. */
function isWorse(now: ParityItem, before: ParityItem): boolean {
  if (now.passed !== before.passed) return before.passed;
  return !Number.isNaN(before.worst) && !(now.worst <= before.worst);
}

/** Frobenius norm of an array. */
function frobeniusNorm(values: Float32Array): number {
  return Math.sqrt(values.reduce((sum, value) => sum + value ** 2, 0));
}

function frobeniusDifference(ours: Float32Array, golden: Float32Array): number {
  if (ours.length !== golden.length) return Number.NaN;
  return Math.sqrt(golden.reduce((sum, value, i) => sum + ((ours[i] as number) - value) ** 2, 0));
}

function largestDifference(ours: Float32Array, golden: Float32Array): number {
  if (ours.length !== golden.length) return Number.NaN;
  return golden.reduce((most, value, i) => Math.max(most, Math.abs((ours[i] as number) - value)), 0);
}
