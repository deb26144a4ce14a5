import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import * as zmq from "zeromq";
import { LabFailure } from "../core/errors.js";
import { largePages } from "../core/large-pages.js";
import { kernelCommand } from "./kernelspec.js";
import {
  CANNOT_LISTEN,
  type ConnectionInfo,
  channelAddress,
  decodeMessage,
  encodeMessage,
  type Message,
  newHeader,
} from "./wire.js";

/** Time limit for a kernel to come up. Seconds are usual; a loaded machine needs more. */
const START_LIMIT_MS = 120_000;
/** A port that is free when it is chosen may be taken before the kernel listens: seldom, and hardly ever twice. */
const START_ATTEMPTS = 3;
const ASK_AGAIN_MS = 300;
const SHUTDOWN_LIMIT_MS = 3000;
const KEPT_STDERR_CHARACTERS = 2000;

/** A kernel process that ended although nobody asked it to. */
export class KernelDied extends LabFailure {
  override readonly name = "KernelDied";
}

interface PendingRequest {
  onOutput: (message: Message) => void;
  reply: Message | null;
  idle: boolean;
  settle: (reply: Message) => void;
}

export interface ExecuteOptions {
  stopOnError: boolean;
  /** Called with each message that the cell causes: streams, displays, errors. */
  onOutput: (message: Message) => void;
}

/** A running kernel and the client's end of its sockets. */
export class KernelClient {
  readonly #connection: ConnectionInfo;
  readonly #process: ChildProcess;
  readonly #folder: string;
  readonly #session = randomUUID();
  readonly #shell = new zmq.Dealer({ linger: 0 });
  readonly #control = new zmq.Dealer({ linger: 0 });
  readonly #iopub = new zmq.Subscriber({ linger: 0, receiveHighWaterMark: 0 });
  readonly #pending = new Map<string, PendingRequest>();
  readonly #exited: Promise<KernelDied>;
  #sawIopub = false;
  /** Content of the kernel_info_reply. */
  info: Record<string, unknown> = {};

  private constructor(connection: ConnectionInfo, child: ChildProcess, folder: string) {
    this.#connection = connection;
    this.#process = child;
    this.#folder = folder;
    let errors = "";
    child.stderr?.on("data", (chunk: Buffer) => {
      errors = (errors + chunk.toString()).slice(-KEPT_STDERR_CHARACTERS);
    });
    this.#exited = new Promise((resolve) => {
      const tell = (how: string) => resolve(new KernelDied(`the kernel ${how}${errors ? `\n${errors.trim()}` : ""}`));
      child.once("error", (error) => tell(`did not start: ${error.message}`));
      child.once("close", (code, signal) => tell(`ended: ${signal ? `signal ${signal}` : `exit code ${code}`}`));
    });
  }

  /**
   * Starts a kernel whose cells run in `folder`. Where another process took one of its ports before it could, it is started
   * again on others.
   * @param connect a connection on ports that are free now
   * @throws {LabFailure} when it does not come up
   */
  static async start(folder: string, connect = newConnection): Promise<KernelClient> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await KernelClient.#startOn(await connect(), folder);
      } catch (error) {
        const taken = error instanceof KernelDied && error.message.includes(CANNOT_LISTEN);
        if (!taken || attempt === START_ATTEMPTS) throw error;
      }
    }
  }

  static async #startOn(connection: ConnectionInfo, folder: string): Promise<KernelClient> {
    const scratch = await mkdtemp(join(tmpdir(), "wise-lab-kernel-"));
    const file = join(scratch, "connection.json");
    await writeFile(file, JSON.stringify(connection), { mode: 0o600 });
    const [program = "", ...args] = kernelCommand(file);
    const child = spawn(program, args, {
      cwd: folder,
      stdio: ["ignore", "ignore", "pipe"],
      env: { ...process.env, ...largePages(), JPY_PARENT_PID: String(process.pid) }, // as Jupyter's own clients say it
    });
    const client = new KernelClient(connection, child, scratch);
    client.#connect();
    try {
      await client.#untilReady();
    } catch (error) {
      await client.close();
      throw error;
    }
    return client;
  }

  /** Resolves when the kernel process has ended, for whatever reason. */
  get exited(): Promise<KernelDied> {
    return this.#exited;
  }

  /** Runs one cell. Resolves with the reply once all its outputs have come. @throws {KernelDied} */
  async execute(code: string, { stopOnError, onOutput }: ExecuteOptions): Promise<Message> {
    const flags = { silent: false, store_history: true, user_expressions: {}, allow_stdin: false };
    return this.#request("execute_request", { code, ...flags, stop_on_error: stopOnError }, onOutput);
  }

  /** Any other request on the shell channel, `complete_request` for one. @throws {KernelDied} */
  async ask(type: string, content: Record<string, unknown>): Promise<Message> {
    return this.#request(type, content, () => undefined);
  }

  /** Stops the running cell; the kernel lives on. */
  interrupt(): void {
    void this.#send(this.#control, "interrupt_request", {});
  }

  /** Asks the kernel to end, and ends it where it does not. Leaves no process and no file. */
  async close(): Promise<void> {
    if (this.#process.exitCode === null && this.#process.signalCode === null && this.#process.pid !== undefined) {
      void this.#send(this.#control, "shutdown_request", { restart: false });
      const ended = await Promise.race([
        this.#exited.then(() => true),
        sleep(SHUTDOWN_LIMIT_MS, false, { ref: false }),
      ]);
      if (!ended) this.kill();
      await this.#exited;
    }
    for (const socket of [this.#shell, this.#control, this.#iopub]) socket.close();
    await rm(this.#folder, { recursive: true, force: true });
  }

  /** Ends a kernel that listens to nothing any more. */
  kill(): void {
    this.#process.kill("SIGKILL");
  }

  #connect(): void {
    this.#shell.connect(channelAddress(this.#connection, "shell"));
    this.#control.connect(channelAddress(this.#connection, "control"));
    this.#iopub.connect(channelAddress(this.#connection, "iopub"));
    this.#iopub.subscribe();
    for (const socket of [this.#shell, this.#control]) {
      void this.#receive(socket, (message, request) => {
        request.reply = message;
      });
    }
    void this.#receive(this.#iopub, (message, request) => {
      if (message.header.msg_type === "status") request.idle ||= message.content.execution_state === "idle";
      else request.onOutput(message);
    });
  }

  /** A subscription takes effect only after a while, so ask until both an answer and its echo on iopub have come. */
  async #untilReady(): Promise<void> {
    const deadline = Date.now() + START_LIMIT_MS;
    while (Date.now() < deadline) {
      const answer = this.ask("kernel_info_request", {});
      const first = await Promise.race([answer, this.#exited, sleep(ASK_AGAIN_MS, null)]);
      if (first instanceof KernelDied) throw first;
      if (first && this.#sawIopub) {
        this.info = first.content;
        return;
      }
      answer.catch(() => undefined); // asked again; the end of the process is seen above
    }
    throw new LabFailure(`the kernel did not answer within ${START_LIMIT_MS / 1000} s`);
  }

  async #request(
    type: string,
    content: Record<string, unknown>,
    onOutput: PendingRequest["onOutput"],
  ): Promise<Message> {
    const id = randomUUID();
    const reply = new Promise<Message>((settle) => {
      this.#pending.set(id, { onOutput, reply: null, idle: false, settle });
    });
    await this.#send(this.#shell, type, content, id);
    const first = await Promise.race([reply, this.#exited]);
    this.#pending.delete(id);
    if (first instanceof KernelDied) throw first;
    return first;
  }

  async #send(
    socket: zmq.Dealer,
    type: string,
    content: Record<string, unknown>,
    id: string = randomUUID(),
  ): Promise<void> {
    const header = { ...newHeader(type, this.#session), msg_id: id };
    await socket.send(
      encodeMessage({ identities: [], header, parent: null, metadata: {}, content }, this.#connection.key),
    );
  }

  async #receive(
    socket: zmq.Dealer | zmq.Subscriber,
    take: (message: Message, request: PendingRequest) => void,
  ): Promise<void> {
    for await (const frames of socket) {
      const message = decodeMessage(frames, this.#connection.key);
      if (socket === this.#iopub) this.#sawIopub = true;
      const request = this.#pending.get(message.parent?.msg_id ?? "");
      if (!request) continue;
      take(message, request);
      if (request.reply && request.idle) request.settle(request.reply);
    }
  }
}

/** Five free ports of this machine and a fresh key. */
export async function newConnection(): Promise<ConnectionInfo> {
  const servers = await Promise.all(Array.from({ length: 5 }, () => listenAnywhere()));
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  const [shell_port = 0, iopub_port = 0, control_port = 0, stdin_port = 0, hb_port = 0] = ports;
  const where = { transport: "tcp", ip: "127.0.0.1", key: randomUUID(), signature_scheme: "hmac-sha256" };
  return { ...where, shell_port, iopub_port, control_port, stdin_port, hb_port };
}

function listenAnywhere(): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => resolve(server));
  });
}
