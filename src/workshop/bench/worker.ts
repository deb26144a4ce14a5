import { readFileSync, writeFileSync } from "node:fs";
import { LabFailure } from "../../core/errors.js";
import { backendFor } from "../../model/backend.js";
import { loadModel, openCheckpoint } from "../../model/folder.js";
import { measureMatmul } from "../../tensor/gflops.js";
import { openCut } from "./cut.js";
import type { OpenCut, Opened, OpenedCut, OpenWhole, Question } from "./protocol.js";
import { serve } from "./serve.js";
import { type Contestant, openWhole } from "./whole.js";

/* The process of one contestant on TensorFlow.js. */

async function open(question: OpenCut | OpenWhole): Promise<{ contestant: Contestant; opened: Opened | OpenedCut }> {
  const { options, side } = question;
  const { config, close } = await openCheckpoint(question.model);
  await close();
  const { detail, device } = await backendFor(config, question);
  const runsOn = detail.split("; not ")[0] as string;
  const residence = side === "cut" ? question.residence : "whole";
  const model = await loadModel(question.model, { residence, cut: { layer: options.layer, at: "mlpIn" } });
  if (side === "whole") {
    return { contestant: await openWhole(model, options, question), opened: { runsOn, device } };
  }
  const contestant = await openCut(model, options, question);
  return { contestant, opened: { runsOn, device, modelSha256: model.sha256, rows: contestant.rows } };
}

async function answer(question: Exclude<Question, { ask: "open" }>, contestant: Contestant): Promise<object> {
  switch (question.ask) {
    case "edit":
      return contestant.edit(question.steps);
    case "score":
      return contestant.score();
    case "delta":
      writeFileSync(question.file, await contestant.delta());
      return {};
    case "memory":
      return { peakBytes: peakMemory() };
    case "rate":
      return { rate: await measureMatmul(...question.of) };
  }
}

/** The most memory this process has had resident, in bytes. */
function peakMemory(): number {
  if (process.platform !== "linux") return process.resourceUsage().maxRSS * 1024;
  // What getrusage says starts with the parent's peak; this is of the program alone.
  const [, kilobytes] = /^VmHWM:\s*(\d+) kB$/m.exec(readFileSync("/proc/self/status", "utf8")) as RegExpExecArray;
  return Number(kilobytes) * 1024;
}

let contestant: Contestant | undefined;
await serve<Question>(async (question) => {
  if (question.ask === "open") {
    const made = await open(question);
    contestant = made.contestant;
    return made.opened;
  }
  if (contestant === undefined) throw new LabFailure("nothing was opened yet");
  return answer(question, contestant);
});
