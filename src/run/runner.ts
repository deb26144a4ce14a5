import { takeTurn } from "../core/errors.js";
import { createRng } from "../core/rng.js";
import type { EditRecord } from "../data/records.js";
import type { EditSession, EditSetting } from "../edit/contract.js";
import type { EditTrace } from "../edit/trace.js";
import { scoreProbes } from "../eval/score.js";
import type { ProbeScore, RecordScore } from "../eval/types.js";
import { createCutStore } from "../model/cut-store.js";
import { type Block, blocksOf } from "./blocks.js";
import { openRunFolder, type RunFolder, readRun } from "./folder.js";
import { checkTexts, probesOf, protocolOf, type RunPlan, requestOf, sequencesOf } from "./plan.js";
import type { RunResult } from "./types.js";

/** Where a run stands. */
export interface RunProgress {
  phase: "editing" | "scoring";
  /** 0-based block and the number of blocks. */
  block: number;
  blocks: number;
  /** Edits made and scores taken so far, resumed ones included, and the number there will be of each. */
  edited: number;
  scored: number;
  records: number;
  /** Seconds this process has worked, and what is left at its pace so far; null before the first edit. */
  seconds: number;
  secondsLeft: number | null;
}

export interface RunOptions {
  /** Where to write the run; null keeps it in memory only. */
  folder: string | null;
  signal?: AbortSignal | undefined;
  onProgress?: (progress: RunProgress) => void;
}

// Records whose prompts go through the frozen part together: enough rows to fill the matrix products.
const RECORDS_TOGETHER = 8;

/**
 * The T-rollback protocol: each block of T starts from the untouched model, edits its records one after another and is
 * scored. A folder that holds part of the same run is continued from its last finished block, to the same bytes.
 * @throws {RefusedInput} before the first edit; {Interrupted} when the signal is aborted, with finished blocks kept
 */
export async function runProtocol(plan: RunPlan, options: RunOptions): Promise<RunResult> {
  checkTexts(plan);
  const config = { protocol: protocolOf(plan), templates: plan.templates };
  const folder = options.folder === null ? null : await openRunFolder(options.folder, config);
  const memory: RunResult = { protocol: config.protocol, edits: [], scores: [], folder: null };
  try {
    const sink: Sink = {
      edit: (trace) => (folder ? folder.edit(trace) : memory.edits.push(trace)),
      score: (score) => (folder ? folder.score(score) : memory.scores.push(score)),
    };
    await runBlocks(plan, options, { folder, sink });
  } finally {
    folder?.close();
  }
  return options.folder === null ? memory : readRun(options.folder);
}

interface Sink {
  edit(trace: EditTrace): void;
  score(score: RecordScore): void;
}

async function runBlocks(
  plan: RunPlan,
  options: RunOptions,
  output: { folder: RunFolder | null; sink: Sink },
): Promise<void> {
  const { records } = plan.dataset;
  const blocks = blocksOf(records.length, plan.T);
  const finished = output.folder?.finishedBlocks ?? 0;
  const done = blocks[finished]?.start ?? records.length;
  const pace = createPace(records.length, blocks.length, done, options.onProgress);
  const cuts = createCutStore(plan.model, plan.method.layer);
  const setting: EditSetting = { model: plan.model, cuts, templates: plan.templates, rng: createRng(plan.method.seed) };
  for (const chunk of chunksOf(blocks)) {
    const open = chunk.filter(({ index }) => index >= finished);
    if (open.length === 0) continue;
    // A chunk computes its frozen part in the same batches whether or not some of its blocks are finished already:
    // batching decides the last bits of a float, and a resumed run must give the same bytes.
    cuts.clear();
    const [first, last] = [chunk[0] as Block, chunk[chunk.length - 1] as Block];
    const together = records.slice(first.start, Math.min(last.end, first.start + RECORDS_TOGETHER));
    await cuts.get(
      together.flatMap((record) => sequencesOf(record, plan)),
      options.signal,
    );
    for (const block of open) {
      await runBlock(block, plan, { setting, pace, sink: output.sink, signal: options.signal });
      output.folder?.finishBlock(block.index);
    }
  }
}

/** Runs of whole blocks that together hold enough records for one pass of the frozen part. */
function chunksOf(blocks: readonly Block[]): Block[][] {
  const chunks: Block[][] = [];
  let size = 0;
  for (const block of blocks) {
    if (size === 0 || size + block.end - block.start > RECORDS_TOGETHER) {
      chunks.push([]);
      size = 0;
    }
    chunks[chunks.length - 1]?.push(block);
    size += block.end - block.start;
  }
  return chunks;
}

interface BlockWork {
  setting: EditSetting;
  pace: Pace;
  sink: Sink;
  signal: AbortSignal | undefined;
}

async function runBlock(block: Block, plan: RunPlan, work: BlockWork): Promise<void> {
  const records = plan.dataset.records.slice(block.start, block.end);
  const session = plan.method.start(work.setting);
  try {
    for (const [i, record] of records.entries()) {
      await prefetch(records, i, { plan, work });
      work.sink.edit(await session.edit(requestOf(record, plan.irrelevant), { signal: work.signal }));
      work.pace.edited(block.index);
      if (plan.when === "after-each") await scoreRecords([record], block, { plan, work, session });
    }
    if (plan.when === "after-all") await scoreRecords(records, block, { plan, work, session });
  } finally {
    session.dispose(); // the rollback
  }
}

/** In a long block, sends the prompts of the next few records through the frozen part together. */
async function prefetch(
  records: readonly EditRecord[],
  i: number,
  { plan, work }: { plan: RunPlan; work: BlockWork },
): Promise<void> {
  if (i === 0 || i % RECORDS_TOGETHER !== 0) return; // the first ones came with the chunk
  const next = records.slice(i, i + RECORDS_TOGETHER);
  await work.setting.cuts.get(
    next.flatMap((record) => sequencesOf(record, plan)),
    work.signal,
  );
}

async function scoreRecords(
  records: readonly EditRecord[],
  block: Block,
  { plan, work, session }: { plan: RunPlan; work: BlockWork; session: EditSession },
): Promise<void> {
  const overlay = await session.overlay();
  try {
    for (let start = 0; start < records.length; start += RECORDS_TOGETHER) {
      await takeTurn(work.signal, "scoring");
      const group = records.slice(start, start + RECORDS_TOGETHER);
      const probes = group.map(probesOf);
      const scores = await scoreProbes(probes.flat(), overlay, {
        model: plan.model,
        cuts: work.setting.cuts,
        style: plan.method.style,
        signal: work.signal,
      });
      for (const [i, record] of group.entries()) {
        const own = scores.splice(0, (probes[i] as unknown[]).length);
        work.sink.score(recordScore(record, block, own));
        work.pace.scored(block.index);
      }
    }
  } finally {
    overlay.dispose();
  }
}

/** Puts scores back in the order of `probesOf`. */
function recordScore(record: EditRecord, block: Block, scores: readonly ProbeScore[]): RecordScore {
  const rest = [...scores];
  const take = (count: number) => rest.splice(0, count);
  const [rewrite] = take(1) as [ProbeScore];
  const [rephrase = null] = take(record.rephrase === null ? 0 : 1);
  return {
    record: record.index,
    block: block.index,
    subject: record.subject,
    rewrite,
    rephrase,
    locality: take(record.locality.length),
    portability: take(record.portability.length),
  };
}

interface Pace {
  edited(block: number): void;
  scored(block: number): void;
}

function createPace(
  records: number,
  blocks: number,
  done: number,
  onProgress: ((progress: RunProgress) => void) | undefined,
): Pace {
  const started = performance.now();
  const count = { edited: done, scored: done };
  const report = (phase: RunProgress["phase"], block: number) => {
    const seconds = (performance.now() - started) / 1000;
    const here = count.edited - done;
    const secondsLeft = here === 0 ? null : (seconds / here) * (records - count.edited);
    onProgress?.({ phase, block, blocks, ...count, records, seconds, secondsLeft });
  };
  return {
    edited: (block) => {
      count.edited += 1;
      report("editing", block);
    },
    scored: (block) => {
      count.scored += 1;
      report("scoring", block);
    },
  };
}
