import type { EditTrace } from "../edit/trace.js";
import type { ProbeScore, RecordScore } from "../eval/types.js";
import { type Block, blocksOfPart, type RunPart } from "./blocks.js";
import { probeKinds, probesOf } from "./measures.js";
import type { CheckpointScore, Checkpoints, Protocol, RunResult, StepScore } from "./types.js";

/** Configuration that identifies a run: a folder holds one. */
export interface RunConfig {
  protocol: Protocol;
  templates: readonly string[];
  /** Numbers of steps after which each record is scored beside its end; see `RunResult.stepScores`. */
  scoreSteps: readonly number[];
  /** True if the edits of every block are kept as a file. */
  saveEdits: boolean;
  /** When earlier records of a block are scored; never, when left out. */
  checkpoints?: Checkpoints | undefined;
  /** The part of the run that it is; all of it, when left out. */
  part?: RunPart | undefined;
}

/** Point from which a run goes on. */
export interface RunStart {
  /** The first block that is not finished. */
  block: number;
  /** Edits made and records scored so far, of finished blocks and of that one. */
  edits: number;
  scores: number;
  /** The file that holds the edits of that block so far, and their sha256; null when it begins anew. */
  state: { file: string; sha256: string } | null;
}

export const FROM_THE_BEGINNING: RunStart = { block: 0, edits: 0, scores: 0, state: null };

/** The place of a run of which so many blocks, edits and scores have been made. */
export function startAfter(
  { protocol, part }: RunConfig,
  made: { blocks: number; edits: number; scores: number },
): Omit<RunStart, "state"> {
  const [first = { index: 0, start: 0 }] = blocksOfPart(protocol, part);
  const { blocks, edits, scores } = made;
  return { block: first.index + blocks, edits: first.start + edits, scores: first.start + scores };
}

/** Writes the edits that stand to a file. @returns their sha256, as `hashEdits` takes it */
export type SaveEdits = (path: string) => Promise<string>;

/** Destination of a run's results: a folder, or memory. */
export interface RunOutput {
  readonly start: RunStart;
  edit(trace: EditTrace): void;
  score(score: RecordScore): void;
  stepScore(score: StepScore): void;
  checkpointScore(score: CheckpointScore): void;
  /** Keeps a block that is not finished: a run that is killed goes on from here. */
  keep(block: number, save: SaveEdits): Promise<void>;
  /** Closes a block: it will not be made again. */
  finishBlock(block: number, save: SaveEdits): Promise<void>;
  close(): void;
  result(): Promise<RunResult>;
}

/** A line of a run, and the method of its output that takes it. */
export type RunLine =
  | { call: "edit"; value: EditTrace }
  | { call: "score"; value: RecordScore }
  | { call: "stepScore"; value: StepScore }
  | { call: "checkpointScore"; value: CheckpointScore };

/** A block that was made elsewhere. */
export interface MadeBlock {
  block: number;
  /** In the order in which they came. */
  lines: RunLine[];
}

/** The lines of a block, in the order in which a run makes them, from all that it holds. */
export function linesOfBlock(
  { edits, scores, stepScores, checkpointScores = [], protocol }: Omit<RunResult, "tokens" | "folder" | "scoreSteps">,
  { index, start, end }: Block,
): RunLine[] {
  const each = protocol.when === "after-each";
  const timed = [
    // Edits that stood when a line was made; a score that is made after each edit comes before the checkpoint there.
    ...scores
      .slice(start, end)
      .map((value, i) => ({ at: each ? i + 1 : Infinity, line: { call: "score", value } as RunLine })),
    ...checkpointScores
      .filter(({ block }) => block === index)
      .map((value) => ({ at: value.edits, line: { call: "checkpointScore", value } as RunLine })),
  ];
  return [
    ...edits.slice(start, end).map((value): RunLine => ({ call: "edit", value })),
    ...stepScores.filter(({ block }) => block === index).map((value): RunLine => ({ call: "stepScore", value })),
    ...timed.sort((a, b) => (a.at === b.at ? 0 : a.at - b.at)).map(({ line }) => line),
  ];
}

/** Writes a block that was made elsewhere. */
export async function writeBlock({ block, lines }: MadeBlock, output: RunOutput, save: SaveEdits): Promise<void> {
  for (const line of lines) output[line.call](line.value as never);
  await output.finishBlock(block, save);
}

/** Keeps a run in memory. */
export function memoryOutput(config: RunConfig, textOf: (token: number) => string): RunOutput {
  const { protocol, scoreSteps } = config;
  const tokens = new Map<number, string>();
  const checkpointScores: CheckpointScore[] = [];
  const run: RunResult = {
    ...{ protocol, edits: [], scores: [], stepScores: [], scoreSteps, tokens, folder: null },
    ...(config.checkpoints && { checkpointScores }),
  };
  const learn = (score: RecordScore) => {
    for (const token of newTokens(score, tokens)) tokens.set(token, textOf(token));
  };
  return {
    start: { ...startAfter(config, { blocks: 0, edits: 0, scores: 0 }), state: null },
    edit: (trace) => run.edits.push(trace),
    score(score) {
      run.scores.push(score);
      learn(score);
    },
    stepScore(score) {
      run.stepScores.push(score);
      learn(score);
    },
    checkpointScore(score) {
      checkpointScores.push(score);
      learn(score);
    },
    keep: async () => {},
    finishBlock: async () => {},
    close: () => {},
    result: async () => run,
  };
}

/** The tokens in a record's scores that are not known yet, each once, in order. */
export function newTokens(score: RecordScore, known: ReadonlyMap<number, string>): Set<number> {
  const probes = probeKinds.flatMap((kind) => probesOf(score, kind));
  return new Set(probes.flatMap(tokensOf).filter((token) => !known.has(token)));
}

function tokensOf({ target, pre, post, readings, free }: ProbeScore): number[] {
  const written = free === undefined ? [] : [free.pre, free.post, ...free.readings.map((reading) => reading.written)];
  return [
    ...target,
    ...pre,
    ...post,
    ...readings.flatMap(({ predicted }) => predicted ?? []),
    ...written.flatMap((answer) => answer?.tokens ?? []),
  ];
}
