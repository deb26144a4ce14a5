import { EventEmitter, on } from "node:events";
import { rename } from "node:fs/promises";
import { startChild } from "../core/child.js";
import { LabFailure, throwIfAborted, throwIfPaused } from "../core/errors.js";
import { hasLargeProducts } from "../model/config.js";
import { type Block, blocksOfPart, sharesOf } from "./blocks.js";
import { projectFile } from "./inputs.js";
import type { LabOptions } from "./lab.js";
import { type MadeBlock, type RunConfig, type RunOutput, writeBlock } from "./output.js";
import type { Pace } from "./pace.js";
import type { RunPlan } from "./plan.js";
import type { RunRequest } from "./request.js";
import { scoringOf } from "./request.js";
import { machineOf } from "./settle.js";

/*
 * The blocks of a run are independent, so several processes, its hands, can make them. This one alone writes, in the order
 * of the blocks: the bytes are those of one process. A small model computes with one thread everywhere, because native
 * TensorFlow rounds otherwise with another number of threads.
 */

/** Processes that make the blocks of a run. */
export interface Hands {
  count: number;
  /** The lab that each opens for itself, and its run. */
  lab: LabOptions;
  request: RunRequest;
}

/** The first message to a process. */
export interface HandTask extends Omit<Hands, "count"> {
  /** Configuration that the run has here, and must have there. */
  config: RunConfig;
}

/** Every later message: the next blocks to make. */
export interface HandShare {
  blocks: readonly number[];
}

/** A block as a hand made it. */
export interface HandBlock extends MadeBlock {
  /** File of its edits and their sha256, where they are saved. */
  saved: { file: string; sha256: string } | null;
}

/** A message from a process: a block of which it has just made an edit or a score, or all of it. */
export type HandMessage = { edited: number } | { scored: number } | { made: HandBlock };

/** Fewer blocks keep one process, which keeps safe points within a block. */
const MANY_BLOCKS = 8;
/** Fewer edits are made by the time that another process has started. */
const MANY_RECORDS = 64;

/**
 * Processes for a run; null where this one should make its blocks: where they are few, where the model's products keep several
 * threads busy, on a graphics card, and for a streamed model.
 * @param most processes
 * @param request run that they open, of a lab with these options
 */
export function handsFor(
  { model, backend, dataset, T, templates }: Pick<RunPlan, "model" | "backend" | "dataset" | "T" | "templates">,
  most: number,
  { data, irrelevant, when, limit, part, scoreSteps, checkpoints, saveEdits, out, ...request }: RunRequest,
  { method, hparams, ...options }: LabOptions,
): Hands | null {
  const own = blocksOfPart({ records: dataset.records.length, T }, part);
  const records = own.reduce((sum, { start, end }) => sum + end - start, 0);
  const blocks = own.length;
  const threaded = backend.name === "tensorflow" && hasLargeProducts(model.config);
  if (blocks < MANY_BLOCKS || records < MANY_RECORDS || threaded) return null;
  if (backend.device === "gpu" || model.residence === "streamed") return null;
  const count = Math.min(most, blocks);
  if (count < 2) return null;
  const { residence: weights, precision } = model;
  const settled = { backend: backend.name, weights, precision, verify: false };
  return {
    count,
    lab: { ...machineOf(options), ...settled, model: model.folder, method, hparams, templates },
    request: { data, irrelevant, T, when, limit, part, scoreSteps, checkpoints, saveEdits, out, ...scoringOf(request) },
  };
}

/** Has blocks made by other processes, and writes them in their order. @throws {LabFailure} when one of them ends before */
export async function makeByHands(
  blocks: readonly Block[],
  hands: Hands,
  run: { config: RunConfig; output: RunOutput; pace: Pace } & Pick<RunRequest, "signal" | "pause">,
): Promise<void> {
  const { config, output, pace, signal, pause } = run;
  const [first] = blocks;
  if (first === undefined) return;
  const shares = sharesOf(blocks).map((share) => share.map(({ index }) => index));
  const said = new EventEmitter();
  const stop = AbortSignal.any([signal, pause].filter((one) => one !== undefined));
  const messages = on(said, "message", { signal: stop }) as AsyncIterable<[HandMessage]>;
  const { count, lab, request } = hands;
  const start = () => startHand({ lab, request, config }, shares, said);
  const ends = Array.from({ length: Math.min(count, shares.length) }, start);
  const waiting = new Map<number, HandBlock>(); // for the blocks before them
  let next = first.index;
  try {
    for await (const [message] of messages) {
      if ("edited" in message) pace.edited(message.edited);
      if ("scored" in message) pace.scored(message.scored);
      if ("made" in message) waiting.set(message.made.block, message.made);
      for (let made = waiting.get(next); made !== undefined; made = waiting.get(next)) {
        await write(made, output);
        waiting.delete(next);
        next += 1;
      }
      if (next === first.index + blocks.length) return;
    }
  } catch (error) {
    throwIfAborted(signal, "the blocks of a run");
    throwIfPaused(pause);
    throw error;
  } finally {
    for (const end of ends) end();
  }
}

function write({ saved, ...made }: HandBlock, output: RunOutput): Promise<void> {
  return writeBlock(made, output, async (path) => {
    const { file, sha256 } = saved as NonNullable<typeof saved>;
    await rename(file, path);
    return sha256;
  });
}

/**
 * Starts a process and gives it a share whenever it has none.
 * @param said hears its messages, and of its end before this one ends it an error
 * @returns function that ends it
 */
function startHand(task: HandTask, shares: number[][], said: EventEmitter): () => void {
  let over = false;
  let left = 0;
  const child = startChild(
    [process.execPath, projectFile("dist", "run", "hand.js")],
    // "advanced": a number that is not finite arrives as such, and is refused where it is written
    { stdio: ["ignore", "ignore", "pipe", "ipc"], serialization: "advanced" },
    (problem) => {
      const end = `a process that makes blocks of the run failed; those before it stand\n${problem ?? "ended by status 0"}`;
      if (!over) said.emit("error", new LabFailure(end));
    },
  );
  const give = () => {
    const blocks = shares.shift();
    left = blocks?.length ?? 0;
    if (blocks !== undefined) child.send({ blocks } satisfies HandShare);
  };
  child.on("message", (message: HandMessage) => {
    if (over) return;
    said.emit("message", message);
    if ("made" in message) left -= 1;
    if (left === 0) give();
  });
  child.send(task);
  give();
  return () => {
    over = true;
    child.kill("SIGKILL");
  };
}
