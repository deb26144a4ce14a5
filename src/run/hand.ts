import { on } from "node:events";
import { LabFailure } from "../core/errors.js";
import { canonicalJson } from "../core/hash.js";
import { type Block, blocksOf } from "./blocks.js";
import { savedEditsFile } from "./folder-files.js";
import type { HandMessage, HandShare, HandTask } from "./hands.js";
import { openPlan } from "./lab.js";
import { FROM_THE_BEGINNING, type RunLine, type RunOutput } from "./output.js";
import { configOf, createWork, runBlock } from "./runner.js";

/*
 * A process that makes blocks of a run for another one, which writes them. It ends when that one is gone. It has no signal
 * handlers: one that ran inside a product of native TensorFlow would corrupt its memory.
 */

const say = (message: HandMessage) => process.send?.(message);

/** Gathers a block, and sends it when it is made. */
function sendingOutput(folder: string | undefined): RunOutput {
  let lines: RunLine[] = [];
  return {
    start: FROM_THE_BEGINNING,
    edit: (value) => void lines.push({ call: "edit", value }),
    score: (value) => void lines.push({ call: "score", value }),
    stepScore: (value) => void lines.push({ call: "stepScore", value }),
    checkpointScore: (value) => void lines.push({ call: "checkpointScore", value }),
    keep: async () => {},
    async finishBlock(block, save) {
      const file = folder === undefined ? null : `${savedEditsFile(folder, block)}.${process.pid}.part`;
      const saved = file === null ? null : { file, sha256: await save(file) };
      say({ made: { block, lines, saved } });
      lines = [];
    },
    close: () => {},
    result: () => Promise.reject(new LabFailure("the results of a run are where its blocks are written")),
  };
}

/** @throws {LabFailure} when this process would make another run: a file has changed since it was checked */
async function openWork({ lab, request, config }: HandTask) {
  const plan = await openPlan(lab, request);
  if (canonicalJson(configOf(plan, request)) !== canonicalJson(config)) {
    throw new LabFailure("the model, the records or the side data have changed since the run began");
  }
  const pace = {
    edited: (edited: number) => say({ edited }),
    scored: (scored: number) => say({ scored }),
  };
  const output = sendingOutput(request.saveEdits ? request.out : undefined);
  const work = createWork(plan, config, { options: {}, output, pace });
  const blocks = blocksOf(plan.dataset.records.length, plan.T);
  return {
    async makeAll(share: HandShare): Promise<void> {
      for (const index of share.blocks) await runBlock(blocks[index] as Block, work);
    },
  };
}

process.once("disconnect", () => process.exit());
try {
  let opened: Awaited<ReturnType<typeof openWork>> | undefined;
  for await (const [message] of on(process, "message") as AsyncIterable<[HandTask | HandShare]>) {
    if ("lab" in message) opened = await openWork(message);
    else if (opened !== undefined) await opened.makeAll(message);
  }
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1); // the channel is still open
}
