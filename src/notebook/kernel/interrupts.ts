import { Interrupted } from "../../core/errors.js";

const ASKED = 0;
const CELL_CODE_RUNS = 1;
const ENDED_BY_FORCE = 2;
const THREAD_CLOSED = 3;
const WORDS = 4;

/** Start data of the control thread. */
export interface ControlThreadData {
  connectionFile: string;
  memory: SharedArrayBuffer;
}

/** From the control thread to the kernel: its sockets are open, an interrupt was asked for, another request came. */
export type FromControlThread = { kind: "open" } | { kind: "interrupt" } | { kind: "request"; frames: Uint8Array[] };

/** From the kernel to the control thread: the frames of a reply, or the wish that it ends. */
export type ToControlThread = (Uint8Array | string)[] | "close";

/**
 * The state of an interrupt, in memory that the kernel's thread and its control thread share. A loop that awaits only
 * finished promises (as reading tensors of the native backend does) never lets messages in; this it can still see.
 */
export class InterruptState {
  readonly memory: SharedArrayBuffer;
  readonly #words: Int32Array;

  constructor(memory: SharedArrayBuffer = new SharedArrayBuffer(WORDS * Int32Array.BYTES_PER_ELEMENT)) {
    this.memory = memory;
    this.#words = new Int32Array(memory);
  }

  /** Control thread: the user wants the running cell to stop. False when that is known already and not yet noticed. */
  ask(): boolean {
    return Atomics.exchange(this.#words, ASKED, 1) === 0;
  }

  /** Control thread: true if the kernel has yet to notice an interrupt. */
  isAsked(): boolean {
    return Atomics.load(this.#words, ASKED) === 1;
  }

  /** Kernel: true if an interrupt was asked for since the last call. */
  take(): boolean {
    return Atomics.exchange(this.#words, ASKED, 0) === 1;
  }

  /** Kernel: `runs` is true in code of a cell, which may be ended at any point, and false in the compiler. */
  setCellCodeRuns(runs: boolean): void {
    Atomics.store(this.#words, CELL_CODE_RUNS, runs ? 1 : 0);
  }

  /** Control thread: true when the kernel has not noticed an interrupt and is in code of a cell, which is then to be ended. */
  claimForce(): boolean {
    const isStuck = this.isAsked() && Atomics.load(this.#words, CELL_CODE_RUNS) === 1;
    if (isStuck) Atomics.store(this.#words, ENDED_BY_FORCE, 1);
    return isStuck;
  }

  /** Control thread: its sockets are closed. */
  setClosed(): void {
    Atomics.store(this.#words, THREAD_CLOSED, 1);
    Atomics.notify(this.#words, THREAD_CLOSED);
  }

  /** Kernel: waits, blocking, until the control thread has closed its sockets. */
  waitUntilClosed(milliseconds: number): void {
    Atomics.wait(this.#words, THREAD_CLOSED, 0, milliseconds);
  }

  /** Kernel: whether code of a cell was ended by force since the last call. */
  takeForce(): boolean {
    return Atomics.exchange(this.#words, ENDED_BY_FORCE, 0) === 1;
  }
}

/** The interrupt of one cell: a signal that looks for interrupts itself whenever it is asked. */
export class CellInterruption {
  readonly #controller = new AbortController();
  readonly #state: InterruptState;
  #ended = false;
  readonly signal: AbortSignal;

  constructor(state: InterruptState) {
    this.#state = state;
    this.signal = Object.defineProperties(this.#controller.signal, {
      aborted: { get: () => this.#isAborted() },
      throwIfAborted: {
        value: () => {
          if (this.#isAborted()) throw this.signal.reason;
        },
      },
    });
  }

  /** The cell is over: work it left behind must not take the interrupt of a later one. */
  end(): void {
    this.#ended = true;
  }

  abort(): void {
    this.#controller.abort(new Interrupted("the cell was interrupted"));
  }

  #isAborted(): boolean {
    const isAborted = () => Reflect.get(AbortSignal.prototype, "aborted", this.signal) as boolean;
    if (!this.#ended && !isAborted() && this.#state.take()) this.abort();
    return isAborted();
  }
}
