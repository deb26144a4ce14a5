import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import { resultBundle } from "../bundles.js";
import { type DisplayOptions, setKernelHost } from "../host.js";
import { type Message, type MimeBundle, PROTOCOL_VERSION } from "../wire.js";
import type { CellError } from "./cell-errors.js";
import { Interpreter } from "./interpreter.js";
import { CellInterruption, InterruptState } from "./interrupts.js";
import { KernelServer } from "./server.js";
import { captureStandardStreams, StreamBuffer } from "./streams.js";

export interface KernelOptions {
  connectionFile: string;
  /** The project: cells import from here. */
  root: string;
  /** Of the package. */
  version: string;
  /** Called after a shutdown request has been answered. */
  onShutdown: () => void;
}

/** Time that an interrupted cell has to stop by itself before it is left. An interrupt must be over within a second. */
const INTERRUPT_GRACE_MS = 600;
/** Requests sent together with a failed cell may still be on their way; they are aborted, not run. */
const ABORT_WINDOW_MS = 30;
/** Lets the reply to a shutdown leave. */
const SHUTDOWN_DELAY_MS = 30;

/** A Jupyter kernel for TypeScript cells, protocol 5.3. Cells run one at a time; other requests are answered meanwhile. */
export class Kernel {
  readonly #options: KernelOptions;
  readonly #interpreter: Interpreter;
  readonly #streams: StreamBuffer;
  readonly #interruptState = new InterruptState();
  readonly #waiting: Message[] = [];
  #server: KernelServer | null = null;
  /** The interrupt of the running cell. */
  #running: CellInterruption | null = null;
  #draining = false;
  /** The request whose cell gets what is printed now: the running one, or the last one. */
  #outputOf: Message | null = null;
  #executionCount = 0;
  #silentCount = 0;

  private constructor(options: KernelOptions) {
    this.#options = options;
    this.#interpreter = new Interpreter(options.root, this.#interruptState);
    this.#streams = new StreamBuffer((name, text) => this.#publish("stream", { name, text }, this.#outputOf));
  }

  static async start(options: KernelOptions): Promise<Kernel> {
    const kernel = new Kernel(options);
    kernel.#server = await KernelServer.open({
      connectionFile: options.connectionFile,
      interruptState: kernel.#interruptState,
      onRequest: (request, channel) => kernel.#receive(request, channel),
      onInterrupt: () => {
        if (kernel.#interruptState.take()) kernel.interrupt(); // else the cell's signal has seen it
      },
    });
    captureStandardStreams(kernel.#streams);
    const display = (bundle: MimeBundle, options: DisplayOptions) => kernel.#display(bundle, options);
    setKernelHost({ display, signal: () => kernel.#signal() });
    kernel.#interpreter.onDisplay = (content, update) =>
      kernel.#publishInOrder(update ? "update_display_data" : "display_data", { ...content });
    return kernel;
  }

  /** Aborts the signal of the running cell; one that does not stop in time is left. The kernel lives on. */
  interrupt(): void {
    this.#running?.abort();
  }

  /** An error that no cell awaits: shown where output goes now. */
  reportStrayError(kind: string, thrown: unknown): void {
    const { traceback } = this.#interpreter.describe(thrown);
    process.stderr.write(`${kind}, outside any awaited code:\n${traceback.join("\n")}\n`);
  }

  #receive(request: Message, channel: "shell" | "control"): void {
    if (request.header.msg_type === "execute_request") {
      this.#waiting.push(request);
      void this.#drain();
      return;
    }
    const type = request.header.msg_type;
    this.#publish("status", { execution_state: "busy" }, request);
    try {
      const answer = this.#answer(type, request.content);
      const content = { status: "ok", ...answer };
      if (answer) this.#server?.reply(request, channel, type.replace(/_request$/, "_reply"), content);
    } catch (error) {
      this.reportStrayError(type, error);
    } finally {
      this.#publish("status", { execution_state: "idle" }, request);
    }
    if (type === "shutdown_request") setTimeout(this.#options.onShutdown, SHUTDOWN_DELAY_MS);
  }

  /** The fields of a reply; null where the protocol asks for none. */
  #answer(type: string, content: Record<string, unknown>): Record<string, unknown> | null {
    const code = String(content.code ?? "");
    switch (type) {
      case "kernel_info_request":
        return kernelInfo(this.#options.version, this.#interpreter.typescriptVersion);
      case "complete_request": {
        const { start, end, candidates } = this.#interpreter.complete(code, Number(content.cursor_pos));
        return { cursor_start: start, cursor_end: end, matches: candidates, metadata: {} };
      }
      case "inspect_request": {
        const text = this.#interpreter.inspect(code, Number(content.cursor_pos));
        return { found: text !== null, data: text === null ? {} : { "text/plain": text }, metadata: {} };
      }
      case "is_complete_request": {
        const { completed, indent } = this.#interpreter.isComplete(code);
        return completed ? { status: "complete" } : { status: "incomplete", indent: indent ?? "" };
      }
      case "comm_info_request":
        return { comms: {} };
      case "history_request":
        return { history: [] };
      case "shutdown_request":
        return { restart: content.restart === true };
      default: // comm messages and the like: this kernel has no widgets, and the protocol lets it ignore them
        return null;
    }
  }

  /** Runs the waiting cells in order. */
  async #drain(): Promise<void> {
    if (this.#draining) return;
    this.#draining = true;
    for (let request = this.#waiting.shift(); request; request = this.#waiting.shift()) {
      this.#publish("status", { execution_state: "busy" }, request);
      const error = await this.#execute(request);
      if (error && request.content.stop_on_error !== false) await this.#abortWaiting();
      this.#server?.reply(request, "shell", "execute_reply", {
        ...(error ? { status: "error", ...error } : { status: "ok", user_expressions: {}, payload: [] }),
        execution_count: this.#executionCount,
      });
      this.#publish("status", { execution_state: "idle" }, request);
    }
    this.#draining = false;
  }

  async #execute(request: Message): Promise<CellError | null> {
    const code = String(request.content.code ?? "");
    const silent = request.content.silent === true;
    const counted = !silent && request.content.store_history !== false;
    if (counted) this.#executionCount++;
    const count = this.#executionCount;
    this.#outputOf = request;
    if (!silent) this.#publish("execute_input", { code, execution_count: count }, request);

    this.#running = this.#newInterruption();
    const name = counted ? `cell-${count}` : `silent-${++this.#silentCount}`;
    const outcome = await this.#interpreter.execute(code, name, counted ? `cell ${count}` : "cell");
    let error = outcome.status === "error" ? outcome.error : null;
    if (outcome.status === "ok" && !silent && outcome.value != null) error = this.#showResult(outcome.value, count);
    this.#running.end();
    this.#running = null;
    this.#streams.flush();
    if (error && !silent) this.#publish("error", { ...error }, request);
    return error;
  }

  /** @returns the error of a value that cannot be printed, for its getters or its own way to be inspected throw. */
  #showResult(value: unknown, count: number): CellError | null {
    try {
      const data = resultBundle(value);
      this.#publishInOrder("execute_result", { execution_count: count, data, metadata: {} });
      return null;
    } catch (thrown) {
      return this.#interpreter.describe(thrown);
    }
  }

  #newInterruption(): CellInterruption {
    this.#interruptState.take(); // one that came between cells is not meant for this one
    const interruption = new CellInterruption(this.#interruptState);
    interruption.signal.addEventListener("abort", () => {
      setTimeout(() => {
        if (this.#running === interruption) this.#interpreter.leave();
      }, INTERRUPT_GRACE_MS);
    });
    return interruption;
  }

  async #abortWaiting(): Promise<void> {
    await sleep(ABORT_WINDOW_MS);
    await nextTurn();
    for (const request of this.#waiting.splice(0)) {
      this.#publish("status", { execution_state: "busy" }, request);
      this.#server?.reply(request, "shell", "execute_reply", {
        status: "aborted",
        execution_count: this.#executionCount,
      });
      this.#publish("status", { execution_state: "idle" }, request);
    }
  }

  #display(bundle: MimeBundle, { displayId, update, metadata }: DisplayOptions): void {
    const transient = displayId === undefined ? {} : { display_id: displayId };
    const type = update ? "update_display_data" : "display_data";
    this.#publishInOrder(type, { data: bundle, metadata: metadata ?? {}, transient });
  }

  #signal(): AbortSignal {
    return this.#running?.signal ?? new AbortController().signal;
  }

  /** After everything printed so far. */
  #publishInOrder(type: string, content: Record<string, unknown>): void {
    this.#streams.flush();
    this.#publish(type, content, this.#outputOf);
  }

  #publish(type: string, content: Record<string, unknown>, parent: Message | null): void {
    this.#server?.publish(type, content, parent);
  }

  /** Before the process ends, in whatever way. */
  close(): void {
    this.#streams.flush();
    this.#server?.close();
    this.#server = null;
  }
}

function kernelInfo(version: string, typescriptVersion: string): Record<string, unknown> {
  return {
    protocol_version: PROTOCOL_VERSION,
    implementation: "wise-lab",
    implementation_version: version,
    language_info: {
      name: "typescript",
      version: typescriptVersion,
      mimetype: "text/typescript",
      file_extension: ".ts",
      pygments_lexer: "typescript",
      codemirror_mode: { mode: "typescript", name: "javascript", typescript: true },
    },
    banner: `wise-lab ${version}, TypeScript ${typescriptVersion}, Node ${process.version}`,
    help_links: [],
  };
}
