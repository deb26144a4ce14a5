import { LabFailure } from "../core/errors.js";

/*
 * C = L L^T in float64, panel by panel. A panel of columns is packed so that its rows follow each other: then the update
 * of what is right of it, which is nearly all of the work, reads from the cache.
 */

/** Columns of a panel: its part of four rows stays in the nearest cache. */
const PANEL = 64;

/** A pivot below this share of the variance it is left of is rounding: sums are stored as float32. */
const SMALLEST_SHARE = 2 ** -23;
/** The same of sums that were never stored. */
const SMALLEST_SHARE_IN_FLOAT64 = 2 ** -50;

/** Pivot at which a factorisation ended because the matrix is not positive definite. */
export interface BadPivot {
  /** 0-based row. */
  index: number;
  /** Rest of the diagonal entry there; `of` is the entry as it was. */
  left: number;
  of: number;
}

/**
 * Factorises a symmetric matrix in place, a panel at a step; yields the rows that are done.
 * @param a row-major [m, m]. Its lower triangle becomes L; above the diagonal nothing is read, and what was there is lost
 * @param smallest share of its diagonal entry that a pivot may have
 * @returns null, or the pivot at which the matrix proved not to be positive definite
 */
export function* factorise(a: Float64Array, m: number, smallest = SMALLEST_SHARE): Generator<number, BadPivot | null> {
  const diagonal = Float64Array.from({ length: m }, (_, i) => a[i * m + i] as number);
  const panel = new Float64Array(m * PANEL);
  for (let start = 0; start < m; start += PANEL) {
    const width = Math.min(PANEL, m - start);
    const rows = m - start;
    for (let i = 0; i < rows; i++) {
      const from = (start + i) * m + start;
      panel.set(a.subarray(from, from + width), i * PANEL);
    }
    for (let i = 0; i < rows; i++) {
      const left = eliminate(panel, i, width);
      if (i >= width) continue;
      const of = diagonal[start + i] as number;
      if (!(left > of * smallest)) return { index: start + i, left, of };
      panel[i * PANEL + i] = Math.sqrt(left);
    }
    for (let i = 0; i < rows; i++) {
      a.set(panel.subarray(i * PANEL, i * PANEL + Math.min(width, i + 1)), (start + i) * m + start);
    }
    if (start + width < m) subtractProduct(a, m, { start: start + width, panel, skip: width });
    yield start + width;
  }
  return null;
}

/**
 * Turns a row of the panel into the row of L that it holds, by those above.
 * @returns what is left at its diagonal, for rows that have theirs in the panel
 */
function eliminate(panel: Float64Array, row: number, width: number): number {
  const own = row * PANEL;
  const end = Math.min(row, width);
  for (let j = 0; j < end; j++) {
    const above = j * PANEL;
    let value = panel[own + j] as number;
    for (let p = 0; p < j; p++) value -= (panel[own + p] as number) * (panel[above + p] as number);
    panel[own + j] = value / (panel[above + j] as number);
  }
  if (row >= width) return Number.NaN;
  let left = panel[own + row] as number;
  for (let p = 0; p < row; p++) left -= (panel[own + p] as number) ** 2;
  return left;
}

/**
 * A <- A - P P^T for the square from `start` on, in its lower triangle; P are the rows of the panel from `skip` on.
 * Tiles of 4 x 2 sums keep all that they need in registers.
 */
function subtractProduct(
  a: Float64Array,
  m: number,
  { start, panel, skip }: { start: number; panel: Float64Array; skip: number },
): void {
  const rows = m - start;
  let i = 0;
  for (; i + 4 <= rows; i += 4) {
    for (let j = 0; j < i + 4; j += 2) subtractTile(a, m, panel, { row: i, column: j, start, skip });
  }
  for (; i < rows; i++) {
    const own = (skip + i) * PANEL;
    for (let j = 0; j <= i; j++) {
      const other = (skip + j) * PANEL;
      let sum = 0;
      for (let p = 0; p < PANEL; p++) sum += (panel[own + p] as number) * (panel[other + p] as number);
      a[(start + i) * m + start + j] = (a[(start + i) * m + start + j] as number) - sum;
    }
  }
}

function subtractTile(
  a: Float64Array,
  m: number,
  panel: Float64Array,
  { row, column, start, skip }: { row: number; column: number; start: number; skip: number },
): void {
  const [p0, p1, p2, p3] = [0, 1, 2, 3].map((i) => (skip + row + i) * PANEL) as [number, number, number, number];
  const q0 = (skip + column) * PANEL;
  const q1 = q0 + PANEL;
  let [s00, s01, s10, s11, s20, s21, s30, s31] = [0, 0, 0, 0, 0, 0, 0, 0];
  for (let p = 0; p < PANEL; p++) {
    const b0 = panel[q0 + p] as number;
    const b1 = panel[q1 + p] as number;
    const a0 = panel[p0 + p] as number;
    const a1 = panel[p1 + p] as number;
    const a2 = panel[p2 + p] as number;
    const a3 = panel[p3 + p] as number;
    s00 += a0 * b0;
    s01 += a0 * b1;
    s10 += a1 * b0;
    s11 += a1 * b1;
    s20 += a2 * b0;
    s21 += a2 * b1;
    s30 += a3 * b0;
    s31 += a3 * b1;
  }
  let at = (start + row) * m + start + column;
  for (const [left, right] of [
    [s00, s01],
    [s10, s11],
    [s20, s21],
    [s30, s31],
  ] as [number, number][]) {
    a[at] = (a[at] as number) - left;
    a[at + 1] = (a[at + 1] as number) - right;
    at += m;
  }
}

/**
 * Solves L L^T X = B.
 * @param factor L as `factorise` leaves it
 * @param b [m, n]
 * @returns X [m, n]
 */
export function solveFactored(factor: Float64Array, m: number, b: Float64Array): Float64Array {
  const x = b.slice();
  const n = b.length / m;
  const subtract = (row: number, other: number, times: number) => {
    for (let c = 0; c < n; c++) x[row * n + c] = (x[row * n + c] as number) - times * (x[other * n + c] as number);
  };
  const divide = (row: number) => {
    const pivot = factor[row * m + row] as number;
    for (let c = row * n; c < (row + 1) * n; c++) x[c] = (x[c] as number) / pivot;
  };
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < i; j++) subtract(i, j, factor[i * m + j] as number);
    divide(i);
  }
  for (let i = m - 1; i >= 0; i--) {
    divide(i);
    for (let j = 0; j < i; j++) subtract(j, i, factor[i * m + j] as number);
  }
  return x;
}

/**
 * Solves A X = B for a symmetric positive definite matrix that is small enough to do at once.
 * @param a row-major [m, m], of which the lower triangle is read; it is lost
 * @param b [m, n]
 * @returns X [m, n]
 * @throws {LabFailure} for a matrix that is not positive definite
 */
export function solvePositive(a: Float64Array, m: number, b: Float64Array): Float64Array {
  const steps = factorise(a, m, SMALLEST_SHARE_IN_FLOAT64);
  let step = steps.next();
  while (!step.done) step = steps.next();
  const bad = step.value;
  if (bad === null) return solveFactored(a, m, b);
  throw new LabFailure(`a system of ${m} equations is singular: of ${bad.of}, ${bad.left} is left at row ${bad.index}`);
}
