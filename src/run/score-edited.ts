import { RefusedInput, takeTurn } from "../core/errors.js";
import type { EditRecord } from "../data/records.js";
import type { PreparedMethod } from "../edit/contract.js";
import { untouched } from "../edit/overlay.js";
import { agreement } from "../eval/compare.js";
import { judgeOf } from "../eval/judge.js";
import { probesOf, recordScore } from "../eval/records.js";
import { type Probe, scoreProbes } from "../eval/score.js";
import type { Seeing } from "../eval/seeing.js";
import type { ProbeScore } from "../eval/types.js";
import { backendFor } from "../model/backend.js";
import type { LlamaConfig } from "../model/config.js";
import { createCutStore } from "../model/cut-store.js";
import { loadModel, loadTokenizer, openCheckpoint } from "../model/folder.js";
import type { PromptStyle } from "../model/prompt.js";
import { inGroups } from "./blocks.js";
import { environmentOf } from "./environment.js";
import { openRunFolder } from "./folder-writer.js";
import { type FrozenPartOptions, openFrozenPart } from "./frozen-part.js";
import { loadRunInputs } from "./inputs.js";
import { memoryOutput, type RunOutput } from "./output.js";
import { type ProtocolSource, protocolOf } from "./plan.js";
import type { RunRequest } from "./request.js";
import { type MachineOptions, type PlannedWork, settleMemory } from "./settle.js";
import type { RunResult } from "./types.js";

/** The method in the protocol of a model that was edited by other software. */
const EDITED_ELSEWHERE = "edited elsewhere";

/** A model that was edited elsewhere, and what it is scored by. */
export interface ScoreRequest
  extends MachineOptions,
    FrozenPartOptions,
    Omit<RunRequest, "T" | "when" | "irrelevant" | "scoreSteps" | "saveEdits" | "processes" | "keepEvery"> {
  /** Folder of the edited model, and of the model before its edits. */
  model: string;
  before: string;
  /** Questions are put in the model's chat template; plain, when left out. */
  chatTemplate?: boolean | undefined;
}

/**
 * Scores a model that was edited elsewhere, as a run whose edits all stand: one block, scored after all. Each model
 * answers by itself, one after the other, so that one at a time is in memory.
 * @throws {RefusedInput} for models with different tokenizers, and as a run does before its first edit
 */
export async function scoreEdited(request: ScoreRequest): Promise<RunResult> {
  const { before, out, signal, onNotice } = request;
  const { notices, ...inputs } = await loadRunInputs({ ...request, T: "all", model: before }, { irrelevant: false });
  for (const notice of notices) onNotice?.(notice);
  const style: PromptStyle = { chatTemplate: request.chatTemplate ?? false, doubleBos: false };
  const original = await readBy(before, { inputs, style, request });
  const edited = await readBy(request.model, { inputs, style, request });
  requireSameTokens(original, edited, request);
  const protocol = protocolOf(sourceOf({ inputs, style, edited, before: original.model.sha256 }));
  const config = { protocol, templates: ["{}"], scoreSteps: [], saveEdits: false };
  const textOf = (token: number) => edited.textOf(token);
  const environment = await environmentOf(edited.backend);
  const { takeOver } = request;
  const output: RunOutput =
    out === undefined
      ? memoryOutput(config, textOf)
      : await openRunFolder(out, config, { environment, textOf, takeOver, onNotice });
  try {
    await write(inputs.dataset.records, { original, edited, output, signal });
  } finally {
    output.close();
  }
  return output.result();
}

/** Scores of all records, together with the model that answered. */
interface Answers extends Pick<ProtocolSource, "backend"> {
  model: { name: string; sha256: string; precision: ProtocolSource["model"]["precision"] };
  probes: ProbeScore[][];
  textOf(token: number): string;
}

/** Answers of one model to the probes of all records. */
async function readBy(
  folder: string,
  { inputs, style, request }: { inputs: PlannedWork & { seeing: Seeing }; style: PromptStyle; request: ScoreRequest },
): Promise<Answers> {
  const checkpoint = await openCheckpoint(folder);
  const { config } = checkpoint;
  if (request.verify) await checkpoint.sha256({ verify: true });
  await checkpoint.close();
  const backend = await backendFor(config, request);
  const tokenizer = await loadTokenizer(folder, config);
  const reading = readingMethod(config, style);
  const { input } = await settleMemory({ config, tokenizer, backend, method: reading }, inputs, request);
  const { weights: residence, precision } = input;
  const model = await loadModel(folder, { residence, precision, cut: reading.cut, sites: [], tokenizer });
  try {
    const frozen = await openFrozenPart(model, { point: reading.cut, backend }, request);
    const cuts = createCutStore(model, reading.cut, frozen);
    const { needs, generation } = inputs.seeing;
    const overlay = untouched(reading.cut);
    const judge = generation?.judge == null ? null : judgeOf(generation.judge);
    const probes: ProbeScore[][] = [];
    for (const group of inGroups(inputs.dataset.records)) {
      await takeTurn(request.signal, "scoring");
      const asked = group.map(probesOf);
      const setting = { model, cuts, style, needs, generation, judge, signal: request.signal };
      const scores = await scoreProbes(asked.flat(), overlay, setting);
      for (const own of asked) probes.push(scores.splice(0, own.length));
      request.onProgress?.({
        ...{ phase: "scoring", block: 0, blocks: 1, edited: 0, seconds: 0, secondsLeft: null },
        ...{ scored: probes.length, records: inputs.dataset.records.length },
      });
    }
    const { name, sha256 } = model;
    return { model: { name, sha256, precision }, backend, probes, textOf: (token) => tokenizer.decode([token]) };
  } finally {
    model.dispose();
  }
}

/** The method, as planning and reading ask of it, where nothing is edited. The last layers alone are read twice, so the cut is late. */
function readingMethod(
  { layers }: LlamaConfig,
  style: PromptStyle,
): Pick<PreparedMethod, "cut" | "sites" | "style" | "needs" | "rows" | "inStep" | "bytes"> {
  return {
    cut: { layer: layers - 1, at: "mlpIn" },
    sites: [],
    style,
    needs: { templates: null, subject: false, irrelevant: false, assets: [] },
    rows: () => [],
    inStep: 1,
    bytes: () => ({ kept: 0, stepping: 0, reading: 0, working: 0, variants: 0 }),
  };
}

function sourceOf({
  inputs,
  style,
  edited,
  before,
}: {
  inputs: Omit<ProtocolSource, "model" | "backend" | "method" | "assets" | "when">;
  style: PromptStyle;
  edited: Answers;
  before: string;
}): ProtocolSource {
  const method = { name: EDITED_ELSEWHERE, options: { before }, seed: 0, style };
  return { ...inputs, method, assets: new Map(), model: edited.model, backend: edited.backend, when: "after-all" };
}

/** @throws {RefusedInput} naming the first probe that the tokenizers read differently */
function requireSameTokens(original: Answers, edited: Answers, { model, before }: ScoreRequest): void {
  const others = edited.probes.flat();
  for (const [i, { target, prompt, answer }] of original.probes.flat().entries()) {
    if (target.join() === others[i]?.target.join()) continue;
    throw new RefusedInput("the models read a text differently", {
      where: `${model} and ${before}: ${prompt} ${answer}`,
      found: `${others[i]?.target.length} tokens of the answer, ${target.length} before`,
      expected: "one tokenizer: the model before the edits, and the same one after them",
    });
  }
}

async function write(
  records: readonly EditRecord[],
  {
    original,
    edited,
    output,
    signal,
  }: { original: Answers; edited: Answers; output: RunOutput; signal: AbortSignal | undefined },
): Promise<void> {
  if (output.start.block > 0) return;
  for (const [i, record] of records.entries()) {
    await takeTurn(signal, "scoring");
    const probes = probesOf(record);
    const scores = probes.map((probe, k) =>
      together(probe, original.probes[i]?.[k] as ProbeScore, edited.probes[i]?.[k] as ProbeScore),
    );
    output.score(recordScore(record, { index: 0 }, scores));
  }
  await output.finishBlock(0, async () => "");
}

/** One probe, answered by the model before its edits and after them. */
function together({ kind }: Probe, before: ProbeScore, after: ProbeScore): ProbeScore {
  const wanted = kind === "locality" ? before.post : after.target;
  const score = agreement(after.post, wanted);
  return {
    ...after,
    pre: before.post,
    score,
    preScore: before.preScore,
    exact: score === 1,
    ...(before.logp && after.logp && { logp: { pre: before.logp.post, post: after.logp.post } }),
    ...(before.free && after.free && { free: { ...after.free, pre: before.free.post } }),
  };
}
