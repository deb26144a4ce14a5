import { once } from "node:events";
import { Worker } from "node:worker_threads";
import * as zmq from "zeromq";
import { errorText, LabFailure } from "../../core/errors.js";
import {
  CANNOT_LISTEN,
  channelAddress,
  decodeMessage,
  encodeMessage,
  type Message,
  newHeader,
  readConnectionFile,
} from "../wire.js";
import type { ControlThreadData, FromControlThread, InterruptState } from "./interrupts.js";

const CLOSE_LIMIT_MS = 1000;

export interface ServerOptions {
  connectionFile: string;
  onRequest: (request: Message, channel: "shell" | "control") => void;
  /** Called when the control thread has received an interrupt. */
  onInterrupt: () => void;
  /** Shared with the control thread. */
  interruptState: InterruptState;
}

/**
 * The kernel's end of the five channels: shell, iopub and stdin here, control and heartbeat in a thread of their own.
 * Nothing sent is ever dropped: there is no limit on what waits, and no send waits.
 */
export class KernelServer {
  readonly #key: string;
  readonly #options: ServerOptions;
  // As ZeroMQ has them (1000 messages, then waiting or dropping) a fast loop loses its output and its idle status.
  readonly #iopub = new zmq.Publisher({ sendHighWaterMark: 0, sendTimeout: 0 });
  readonly #shell = new zmq.Router({ sendHighWaterMark: 0, sendTimeout: 0 });
  readonly #stdin = new zmq.Router();
  readonly #controlThread: Worker;

  private constructor(key: string, options: ServerOptions) {
    this.#key = key;
    this.#options = options;
    const workerData: ControlThreadData = {
      connectionFile: options.connectionFile,
      memory: options.interruptState.memory,
    };
    this.#controlThread = new Worker(new URL("./control-thread.js", import.meta.url), { workerData });
  }

  /** Opens the channels. @throws {LabFailure} when a port is taken. */
  static async open(options: ServerOptions): Promise<KernelServer> {
    const connection = await readConnectionFile(options.connectionFile);
    const server = new KernelServer(connection.key, options);
    try {
      await Promise.all([
        server.#iopub.bind(channelAddress(connection, "iopub")),
        server.#shell.bind(channelAddress(connection, "shell")),
        server.#stdin.bind(channelAddress(connection, "stdin")),
        once(server.#controlThread, "message"), // its sockets are open
      ]);
    } catch (cause) {
      throw new LabFailure(`${CANNOT_LISTEN}: ${errorText(cause)}`, { cause });
    }
    server.#controlThread.on("message", (message: FromControlThread) => {
      if (message.kind === "interrupt") options.onInterrupt();
      else if (message.kind === "request")
        server.#receive(
          message.frames.map((frame) => Buffer.from(frame)),
          "control",
        );
    });
    void server.#serveShell();
    return server;
  }

  /** To every client, as a consequence of `parent`. */
  publish(type: string, content: Record<string, unknown>, parent: Message | null): void {
    const session = parent?.header.session ?? "";
    const message = {
      identities: [Buffer.from(type)],
      header: newHeader(type, session),
      parent: parent?.header ?? null,
    };
    void this.#iopub.send(encodeMessage({ ...message, metadata: {}, content }, this.#key));
  }

  /** To the client that sent `request`. */
  reply(request: Message, channel: "shell" | "control", type: string, content: Record<string, unknown>): void {
    const header = newHeader(type, request.header.session);
    const message = { identities: request.identities, header, parent: request.header, metadata: {}, content };
    const frames = encodeMessage(message, this.#key);
    if (channel === "shell") void this.#shell.send(frames);
    else this.#controlThread.postMessage(frames);
  }

  /** Closes the channels before the process ends: a thread that is ended with open sockets would abort it. */
  close(): void {
    this.#controlThread.postMessage("close");
    this.#options.interruptState.waitUntilClosed(CLOSE_LIMIT_MS);
    for (const socket of [this.#iopub, this.#shell, this.#stdin]) socket.close();
  }

  async #serveShell(): Promise<void> {
    for await (const frames of this.#shell) this.#receive(frames, "shell");
  }

  #receive(frames: Buffer[], channel: "shell" | "control"): void {
    let request: Message;
    try {
      request = decodeMessage(frames, this.#key);
    } catch (error) {
      console.error(`kernel: ${errorText(error)}; ignored`);
      return;
    }
    this.#options.onRequest(request, channel);
  }
}
