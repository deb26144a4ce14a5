import { Session } from "node:inspector";
import { type MessagePort, parentPort, workerData } from "node:worker_threads";
import * as zmq from "zeromq";
import { channelAddress, decodeMessage, encodeMessage, newHeader, readConnectionFile } from "../wire.js";
import { type ControlThreadData, type FromControlThread, InterruptState, type ToControlThread } from "./interrupts.js";

/**
 * A cell that has not even noticed an interrupt by then is ended in the middle of its code. Long, because this can
 * leave the state of libraries half changed; code that looks at its signal stops at once.
 */
const END_BY_FORCE_AFTER_MS = 5000;

const LOOK_EVERY_MS = 100;

/** The kernel's second thread: it answers the control channel and heartbeats while a cell keeps the first one busy. */
async function serve(kernel: MessagePort, { connectionFile, memory }: ControlThreadData): Promise<void> {
  const connection = await readConnectionFile(connectionFile);
  const state = new InterruptState(memory);
  const control = new zmq.Router({ sendHighWaterMark: 0, sendTimeout: 0 });
  const heartbeat = new zmq.Reply();
  await control.bind(channelAddress(connection, "control"));
  await heartbeat.bind(channelAddress(connection, "hb"));
  const tell = (message: FromControlThread) => kernel.postMessage(message);
  kernel.on("message", (message: ToControlThread) => {
    if (message === "close") {
      control.close();
      heartbeat.close();
      kernel.close();
      state.setClosed();
    } else void control.send(message.map((frame) => (typeof frame === "string" ? frame : Buffer.from(frame))));
  });
  tell({ kind: "open" });

  void (async () => {
    for await (const frames of heartbeat) await heartbeat.send(frames);
  })();
  for await (const frames of control) {
    const request = readInterrupt(frames, connection.key);
    if (!request) {
      tell({ kind: "request", frames });
      continue;
    }
    interrupt(state, tell);
    const header = newHeader("interrupt_reply", request.header.session);
    const reply = { identities: request.identities, header, parent: request.header, metadata: {} };
    await control.send(encodeMessage({ ...reply, content: { status: "ok" } }, connection.key));
  }
}

function readInterrupt(frames: Buffer[], key: string) {
  try {
    const message = decodeMessage(frames, key);
    return message.header.msg_type === "interrupt_request" ? message : null;
  } catch {
    return null; // not understood here: the kernel says so
  }
}

function interrupt(state: InterruptState, tell: (message: FromControlThread) => void): void {
  const isNew = state.ask();
  tell({ kind: "interrupt" });
  if (!isNew) return; // its timer runs
  const askedAt = performance.now();
  const timer = setInterval(() => {
    if (!state.isAsked()) clearInterval(timer);
    else if (performance.now() - askedAt >= END_BY_FORCE_AFTER_MS && state.claimForce()) endCellByForce();
  }, LOOK_EVERY_MS);
}

/** Ends whatever JavaScript the kernel's thread runs, back to its event loop. */
function endCellByForce(): void {
  const session = new Session();
  session.connectToMainThread();
  session.post("Runtime.terminateExecution", () => session.disconnect());
}

if (parentPort) await serve(parentPort, workerData as ControlThreadData);
