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

/** Work that the system asked to end, and that the same command goes on with: all of it up to a safe point is kept. */
export class Paused extends Interrupted {
  override readonly name = "Paused";
}

/** At a safe point: ends work that was asked to pause. @throws {Paused} */
export function throwIfPaused(pause: AbortSignal | undefined): void {
  if (pause?.aborted) throw new Paused(`stopped at a safe point, as ${pause.reason} asked`);
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
  await turn();
  throwIfAborted(signal, during);
}

/** A MessagePort as Node and browsers have it; Node's types leave out the handler. */
interface Port {
  onmessage: () => void;
  postMessage(message: null): void;
  close(): void;
}

/** A turn of the event loop; unlike a timer, no browser makes it wait. */
function turn(): Promise<void> {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel() as unknown as Record<"port1" | "port2", Port>;
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}

const SHOWN_CHARACTERS = 200; // enough to recognise a value, short enough for a terminal line

/** A value as one short line, for error messages, whatever the value is. */
export function show(value: unknown): string {
  if (value === undefined) return "nothing";
  const text = visible(typeof value === "string" ? value : textOf(value));
  return text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)} ... (${text.length} characters)` : text;
}

/** Text of an error, for `found` and for messages. */
export function errorText(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}

/**
 * A text in which what would act on a terminal or a page, and not be read, is written out as \u001b: control characters but
 * tab and newline, line and paragraph separators, and marks that turn the direction of writing.
 */
export function visible(text: string): string {
  return text.replaceAll(ACTING, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const ACTING = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g;

function textOf(value: unknown): string {
  try {
    return JSON.stringify(value) ?? String(value);
  } catch {
    // A value that holds itself, lies too deep, is a bigint, or has a toJSON that throws.
    return `a value that cannot be shown: ${Object.prototype.toString.call(value)}`;
  }
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
