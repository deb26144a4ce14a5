import { setImmediate } from "node:timers/promises";

/** Details of a refusal: what was looked at, what stood there, what may stand there. */
export interface RefusalDetails {
  /** File, option, record or tensor that was refused, as the user would name it. */
  where: string;
  /** The value received there. */
  found: unknown;
  /** The values allowed there, in words. */
  expected: string;
  /** One command or change that mends it, where there is one. */
  hint?: string;
  cause?: unknown;
}

/** Input that cannot be used: a file, a record, an option. Raised before anything expensive starts. */
export class RefusedInput extends Error {
  override readonly name: string = "RefusedInput";
  readonly where: string;
  readonly found: unknown;
  readonly expected: string;
  readonly hint: string | undefined;

  constructor(summary: string, details: RefusalDetails) {
    const hint = details.hint ? `\n  try: ${details.hint}` : "";
    super(
      `${summary}\n  where: ${details.where}\n  found: ${show(details.found)}\n  expected: ${details.expected}${hint}`,
      details.cause === undefined ? undefined : { cause: details.cause },
    );
    this.where = details.where;
    this.found = details.found;
    this.expected = details.expected;
    this.hint = details.hint;
  }
}

/** A computation that went wrong although its input was accepted: a NaN loss, an exhausted memory budget. */
export class LabFailure extends Error {
  override readonly name: string = "LabFailure";
}

/** Work that a user stopped. What was written before stays. */
export class Interrupted extends Error {
  override readonly name: string = "Interrupted";
}

/** @throws {Interrupted} when the signal has been aborted. `during` names the work in progress. */
export function throwIfAborted(signal: AbortSignal | undefined, during: string): void {
  if (signal?.aborted) throw new Interrupted(`stopped during ${during}`);
}

/**
 * Between two steps of long work: gives the event loop a turn, then ends the work if it was told to. Reading tensors
 * back gives it none where a backend computes synchronously, and then no Ctrl-C would ever come through.
 * @throws {Interrupted} as `throwIfAborted`
 */
export async function takeTurn(signal: AbortSignal | undefined, during: string): Promise<void> {
  await setImmediate();
  throwIfAborted(signal, during);
}

const SHOWN_CHARACTERS = 200; // enough to recognise a value, short enough for a terminal line

/** A value as one short line, for error messages. */
export function show(value: unknown): string {
  if (value === undefined) return "nothing";
  const text = typeof value === "string" ? value : (JSON.stringify(value) ?? String(value));
  return text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)} ... (${text.length} characters)` : text;
}

/** The candidate closest to `name` by edit distance, for "did you mean"; undefined when nothing is near. */
export function nearest(name: string, candidates: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.floor(name.length / 2)) + 1;
  for (const candidate of candidates) {
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = (previous[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      row.push(Math.min((previous[j] as number) + 1, (row[j - 1] as number) + 1, substitution));
    }
    previous = row;
  }
  return previous[b.length] as number;
}
