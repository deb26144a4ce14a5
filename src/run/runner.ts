import { RefusedInput, takeTurn, throwIfPaused } from "../core/errors.js";
import { createRng } from "../core/rng.js";
import type { EditRecord } from "../data/records.js";
import type { EditSession, EditSetting } from "../edit/contract.js";
import type { Overlay } from "../edit/overlay.js";
import { restoreEdits, saveEdits } from "../edit/saved.js";
import type { EditOwner } from "../edit/state.js";
import type { EditStep } from "../edit/trace.js";
import { judgeOf } from "../eval/judge.js";
import { probesOf, recordScore } from "../eval/records.js";
import { type Probe, scoreProbes } from "../eval/score.js";
import type { RecordScore } from "../eval/types.js";
import { type Block, blocksOfPart, RECORDS_TOGETHER, type RunPart } from "./blocks.js";
import { sampleOf } from "./checkpoints.js";
import { cutsOf } from "./cuts.js";
import { environmentOf } from "./environment.js";
import { damaged } from "./folder-files.js";
import { openRunFolder } from "./folder-writer.js";
import { type Hands, makeByHands } from "./hands.js";
import { memoryOutput, type RunConfig, type RunOutput, type RunStart, type SaveEdits } from "./output.js";
import { createPace, type Pace, type RunProgress } from "./pace.js";
import {
  checkCheckpoints,
  checkScoreSteps,
  checkTexts,
  checkWhen,
  protocolOf,
  type RunPlan,
  trainedOn,
} from "./plan.js";
import type { Checkpoints, RunResult } from "./types.js";

export interface RunOptions {
  /** Folder to write the run to; null keeps it in memory only. */
  folder: string | null;
  /** T = 1: score each record also after these numbers of steps of its edit; see `RunResult.stepScores`. */
  scoreSteps?: readonly number[] | undefined;
  /** Keep the edits of every block in the folder, as files that the method restores. */
  saveEdits?: boolean | undefined;
  /** Score earlier records of a block at these times, too; see `RunResult.checkpointScores`. */
  checkpoints?: Checkpoints | undefined;
  /** Make this part of its blocks only; all of them, when left out. */
  part?: RunPart | undefined;
  /** Seconds of work within a block after which it is kept, so that a run that is killed goes on from there. */
  keepEvery?: number | undefined;
  /** Processes that make the blocks; null where this one makes them. */
  hands?: Hands | null | undefined;
  /** Take the folder over from an owner of which nothing can be known from here. */
  takeOver?: boolean | undefined;
  signal?: AbortSignal | undefined;
  /** Aborted when the run shall end at its next safe point, which is then kept. */
  pause?: AbortSignal | undefined;
  onProgress?: ((progress: RunProgress) => void) | undefined;
  /** Told of every step of every edit: at full size a step takes seconds. */
  onStep?: ((step: EditStep) => void) | undefined;
  onNotice?: ((line: string) => void) | undefined;
}

const KEEP_EVERY_SECONDS = 60;

/**
 * The T-rollback protocol: each block of T starts from the untouched model, edits its records one after another and is
 * scored. A folder that holds part of the same run is continued from where it was kept last, to the same bytes.
 * @throws {RefusedInput} before the first edit; {Interrupted} when the signal is aborted, with what was kept
 */
export async function runProtocol(plan: RunPlan, options: RunOptions): Promise<RunResult> {
  checkWhen(plan);
  checkTexts(plan);
  const config = configOf(plan, options);
  const output = await openOutput(plan, config, options);
  try {
    await runBlocks(plan, config, { options, output });
  } finally {
    output.close();
  }
  return output.result();
}

/** @throws {RefusedInput} for numbers of steps that cannot be scored after */
export function configOf(
  plan: RunPlan,
  options: Pick<RunOptions, "scoreSteps" | "saveEdits" | "checkpoints" | "part">,
): RunConfig {
  const { checkpoints, part } = options;
  checkCheckpoints(plan, options);
  return {
    protocol: protocolOf(plan),
    templates: plan.templates,
    scoreSteps: checkScoreSteps(plan, options.scoreSteps ?? []),
    saveEdits: options.saveEdits ?? false,
    ...(checkpoints && { checkpoints }),
    ...(part && { part }),
  };
}

async function openOutput(plan: RunPlan, config: RunConfig, options: RunOptions): Promise<RunOutput> {
  const textOf = (token: number) => plan.model.tokenizer.decode([token]);
  if (options.folder !== null) {
    const environment = await environmentOf(plan.backend);
    const { takeOver, onNotice } = options;
    return openRunFolder(options.folder, config, { environment, textOf, takeOver, onNotice });
  }
  if (!config.saveEdits) return memoryOutput(config, textOf);
  throw new RefusedInput("edits of a run that is kept in memory cannot be saved", {
    where: "the run",
    found: "edits to be saved, and no folder",
    expected: "a folder to write the run to",
    hint: "--out FOLDER",
  });
}

async function runBlocks(
  plan: RunPlan,
  config: RunConfig,
  { options, output }: { options: RunOptions; output: RunOutput },
): Promise<void> {
  const { start } = output;
  const { hands, signal, pause } = options;
  const own = blocksOfPart({ records: plan.dataset.records.length, T: plan.T }, config.part);
  const blocks = own.filter(({ index }) => index >= start.block);
  const pace = createPace(own, start, options.onProgress);
  const work = createWork(plan, config, { options, output, pace });
  const inside = start.state === null ? 0 : 1; // a block that was begun here is finished here
  for (const block of hands ? blocks.slice(0, inside) : blocks) {
    throwIfPaused(pause);
    await runBlock(block, work);
  }
  if (hands) await makeByHands(blocks.slice(inside), hands, { config, output, pace, signal, pause });
}

/** Everything that blocks are made with. */
export function createWork(
  plan: RunPlan,
  config: RunConfig,
  { options, output, pace }: { options: Omit<RunOptions, "folder">; output: RunOutput; pace: Pace },
): Work {
  const cuts = cutsOf(plan);
  const { model, method, templates, assets } = plan;
  return {
    plan,
    config,
    output,
    setting: { model, cuts, templates, rng: createRng(method.seed), assets },
    pace,
    keepEvery: 1000 * (options.keepEvery ?? KEEP_EVERY_SECONDS),
    signal: options.signal,
    pause: options.pause,
    onStep: options.onStep,
  };
}

export interface Work {
  plan: RunPlan;
  config: RunConfig;
  output: RunOutput;
  setting: EditSetting;
  pace: Pace;
  /** Milliseconds. */
  keepEvery: number;
  signal: AbortSignal | undefined;
  pause: AbortSignal | undefined;
  onStep: RunOptions["onStep"];
}

/** A block as it is being made. */
interface OpenBlock {
  block: Block;
  session: EditSession;
  save: SaveEdits;
  /** Keeps it when its time has come. */
  keep(): Promise<void>;
}

/** Makes one block, from the untouched model or from where it was kept, into the output. */
export async function runBlock(block: Block, work: Work): Promise<void> {
  const { plan, output } = work;
  const { start } = output;
  const first = block.index === start.block;
  const session = first && start.state !== null ? await restore(start.state, work) : plan.method.start(work.setting);
  const save: SaveEdits = (path) => saveEdits(path, session, ownerOf(plan));
  const open: OpenBlock = { block, session, save, keep: createKeeper(block, save, work) };
  try {
    const edited = first ? start.edits : block.start;
    const records = plan.dataset.records.slice(edited, block.end);
    for (const together of plan.method.together === 1 ? records.map((record) => [record]) : [records]) {
      if (together.length > 0) await editRecords(together, open, work);
      if (plan.when === "after-each") await scoreRecords(together, open, work);
      await scoreCheckpoint(together, open, work);
      await open.keep();
    }
    const scored = first ? start.scores : block.start;
    if (plan.when === "after-all") await scoreRecords(plan.dataset.records.slice(scored, block.end), open, work);
    await output.finishBlock(block.index, save);
  } finally {
    session.dispose(); // the rollback
  }
}

/** Owner of a run's edits. */
export function ownerOf({ method, model, assets }: Pick<RunPlan, "method" | "model" | "assets">): EditOwner {
  return { method, model, assets };
}

/** @throws {RefusedInput} when the file does not hold the edits that the run says were made */
async function restore(
  { file, sha256 }: NonNullable<RunStart["state"]>,
  { plan, setting }: Work,
): Promise<EditSession> {
  const restored = await restoreEdits(file, setting, ownerOf(plan));
  if (restored.sha256 === sha256) return restored.session;
  restored.session.dispose();
  throw damaged(file, {
    found: `edits with sha256 ${restored.sha256}`,
    expected: `sha256 ${sha256}, as block.json says`,
  });
}

/**
 * Keeps a block once its share of work has been done since it was kept last, and when the run is to pause; one of a single
 * edit is soon finished.
 */
function createKeeper(block: Block, save: SaveEdits, { output, keepEvery, pause }: Work): () => Promise<void> {
  let last = performance.now();
  return async () => {
    const due = block.end - block.start > 1 && performance.now() - last >= keepEvery;
    if (!due && !pause?.aborted) return;
    await output.keep(block.index, save);
    throwIfPaused(pause);
    last = performance.now();
  };
}

/** Edits one record, or all those that the method takes at once. */
async function editRecords(records: readonly EditRecord[], { block, session }: OpenBlock, work: Work): Promise<void> {
  const { plan, config, output, signal, onStep } = work;
  const read = async (steps: number, overlay: Overlay) => {
    for (const score of await scoresUnder(overlay, records, { block, work })) output.stepScore({ steps, ...score });
  };
  const requests = records.map((record) => trainedOn(record, plan));
  const checkpoints = { steps: config.scoreSteps, read };
  for (const trace of await session.edit(requests, { signal, checkpoints, onStep })) {
    output.edit(trace);
    work.pace.edited(block.index);
  }
}

async function scoreRecords(records: readonly EditRecord[], open: OpenBlock, work: Work): Promise<void> {
  await scoreGroups(records, open, {
    work,
    keep: open.keep,
    take: (score) => {
      work.output.score(score);
      work.pace.scored(open.block.index);
    },
  });
}

/** Scores the record that was edited last, and earlier ones, where it is time for them. */
async function scoreCheckpoint(edited: readonly EditRecord[], open: OpenBlock, work: Work): Promise<void> {
  const { plan, config, output } = work;
  const { checkpoints } = config;
  const last = edited.at(-1);
  if (checkpoints === undefined || last === undefined) return;
  const { start, end } = open.block;
  const edits = last.index + 1 - start;
  const take = (score: RecordScore) => output.checkpointScore({ edits, ...score });
  const keep = async () => {}; // a checkpoint is made whole, or again
  const records = plan.dataset.records.slice(start, last.index);
  if (last.index + 1 < end && edits % checkpoints.every === 0) {
    await scoreGroups(sampleOf(records, checkpoints, plan.method.seed), open, { work, take, keep });
  }
  // What the run itself does not score: a record after its own edit, or all of them at the end.
  if (plan.when === "after-all") await scoreGroups([last], open, { work, take, keep });
  else if (last.index + 1 === end) await scoreGroups([...records, last], open, { work, take, keep });
}

async function scoreGroups(
  records: readonly EditRecord[],
  { block, session }: OpenBlock,
  { work, take, keep }: { work: Work; take: (score: RecordScore) => void; keep: () => Promise<void> },
): Promise<void> {
  const overlay = await session.overlay();
  try {
    for (let start = 0; start < records.length; start += RECORDS_TOGETHER) {
      await takeTurn(work.signal, "scoring");
      const group = records.slice(start, start + RECORDS_TOGETHER);
      for (const score of await scoresUnder(overlay, group, { block, work })) take(score);
      if (start + RECORDS_TOGETHER < records.length) await keep();
    }
  } finally {
    overlay.dispose();
  }
}

async function scoresUnder(
  overlay: Overlay,
  records: readonly EditRecord[],
  { block, work }: { block: Block; work: Work },
): Promise<RecordScore[]> {
  const { plan, setting, signal } = work;
  const probes = records.map(probesOf);
  const { model, cuts } = setting;
  const { needs, generation } = plan.seeing;
  const judge = generation?.judge == null ? null : judgeOf(generation.judge);
  const reading = { model, cuts, style: plan.method.style, needs, generation, judge, signal };
  const scores = await scoreProbes(probes.flat(), overlay, reading);
  return records.map((record, i) => recordScore(record, block, scores.splice(0, (probes[i] as Probe[]).length)));
}
