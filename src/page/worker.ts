import { config } from "zod";
import { Interrupted, LabFailure, RefusedInput } from "../core/errors.js";
import { createEngine } from "./engine.js";
import type { FromWorker, ToWorker } from "./messages.js";

/* The worker of the page: one call after another, so that the page itself never waits. */

config({ jitless: true }); // the page's content security policy allows no code from text

/** The part of a worker's global scope in use. */
const scope = globalThis as unknown as {
  postMessage(message: FromWorker): void;
  onmessage: ((event: { data: ToWorker }) => void) | null;
};

const engine = createEngine((news) => scope.postMessage({ news }));
let last: Promise<void> = Promise.resolve();
let stop = new AbortController();

scope.onmessage = ({ data }) => {
  if ("stop" in data) {
    stop.abort();
    return;
  }
  const { id, name, sent } = data;
  last = last.then(async () => {
    stop = new AbortController();
    try {
      const handle = engine[name] as (sent: unknown, signal: AbortSignal) => Promise<unknown>;
      scope.postMessage({ id, received: await handle(sent, stop.signal) });
    } catch (error) {
      scope.postMessage({ id, refused: error instanceof Error ? error.message : String(error), kind: kindOf(error) });
    }
  });
};

function kindOf(error: unknown): string {
  if (error instanceof Interrupted) return "stopped";
  return error instanceof RefusedInput || error instanceof LabFailure ? "refused" : "failed";
}
