import * as zmq from "zeromq";
import { LabFailure } from "../../core/errors.js";
import {
  type Channel,
  type ConnectionInfo,
  channelAddress,
  decodeMessage,
  encodeMessage,
  type Message,
  newHeader,
} from "../wire.js";

export type RequestHandler = (request: Message, channel: "shell" | "control") => void;

/** The kernel's five sockets. Nothing sent is ever dropped: there is no limit on what waits, and no send waits. */
export class KernelServer {
  readonly #key: string;
  readonly #iopub = new zmq.Publisher();
  readonly #shell = new zmq.Router();
  readonly #control = new zmq.Router();
  readonly #stdin = new zmq.Router();
  readonly #heartbeat = new zmq.Reply();

  private constructor(key: string) {
    this.#key = key;
    for (const socket of [this.#iopub, this.#shell, this.#control]) {
      // As ZeroMQ has them (1000 messages, then waiting or dropping) a fast loop loses its output and its idle status.
      socket.sendHighWaterMark = 0;
      socket.sendTimeout = 0;
    }
  }

  /** Opens the sockets and hands every request to `onRequest`. @throws {LabFailure} when a port is taken. */
  static async open(connection: ConnectionInfo, onRequest: RequestHandler): Promise<KernelServer> {
    const server = new KernelServer(connection.key);
    const sockets = {
      iopub: server.#iopub,
      shell: server.#shell,
      control: server.#control,
      stdin: server.#stdin,
      hb: server.#heartbeat,
    } satisfies Record<Channel, zmq.Socket>;
    for (const [channel, socket] of Object.entries(sockets)) {
      const address = channelAddress(connection, channel as Channel);
      try {
        await socket.bind(address);
      } catch (cause) {
        throw new LabFailure(`the kernel cannot listen at ${address}`, { cause });
      }
    }
    void server.#serve(server.#shell, "shell", onRequest);
    void server.#serve(server.#control, "control", onRequest);
    void server.#answerHeartbeats();
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
    const socket = channel === "shell" ? this.#shell : this.#control;
    const header = newHeader(type, request.header.session);
    const message = { identities: request.identities, header, parent: request.header, metadata: {}, content };
    void socket.send(encodeMessage(message, this.#key));
  }

  close(): void {
    for (const socket of [this.#iopub, this.#shell, this.#control, this.#stdin, this.#heartbeat]) socket.close();
  }

  async #serve(socket: zmq.Router, channel: "shell" | "control", onRequest: RequestHandler): Promise<void> {
    for await (const frames of socket) {
      let request: Message;
      try {
        request = decodeMessage(frames, this.#key);
      } catch (error) {
        console.error(`kernel: ${error instanceof Error ? error.message : error}; ignored`);
        continue;
      }
      onRequest(request, channel);
    }
  }

  async #answerHeartbeats(): Promise<void> {
    for await (const frames of this.#heartbeat) await this.#heartbeat.send(frames);
  }
}
