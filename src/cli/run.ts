import { availableParallelism } from "node:os";
import { basename, resolve } from "node:path";
import { Paused, RefusedInput } from "../core/errors.js";
import type { FrozenProgress } from "../model/frozen.js";
import { formatDuration } from "../notebook/progress.js";
import { parsePart, parseT } from "../run/blocks.js";
import { DEFAULT_MODEL } from "../run/inputs.js";
import { type Lab, type LabOptions, openLab } from "../run/lab.js";
import type { RunProgress } from "../run/pace.js";
import { partFolder, partsFolder, readPrepared, writeCommand } from "../run/parts.js";
import { prepareRun } from "../run/prepare.js";
import { type RunRequest, type ScoringRequest, scoringOf } from "../run/request.js";
import type { RunResult, When } from "../run/types.js";
import { byMetrics } from "../run/under-metric.js";
import { wordsOf } from "../run/words.js";
import { renderSummary } from "../tables/format.js";
import { rowFields } from "../tables/protocols.js";
import { type MachineArguments, machineOptions } from "./machine.js";
import { requeueTask } from "./requeue.js";
import { terminal } from "./terminal.js";

/** Options of `wise-lab run`, as the command line gives them. */
export interface RunArguments extends MachineArguments, ScoringRequest {
  T: string;
  model?: string;
  data?: string;
  limit?: number;
  when: When;
  irrelevant?: string;
  method: string;
  hparams?: string;
  preset?: string;
  set?: string[];
  out?: string;
  scoreSteps?: number[];
  saveEdits?: boolean;
  /** Edits of a block from one checkpoint to the next, and most earlier records that are scored at one. */
  checkpointEvery?: number;
  checkpointSample?: number;
  keepEvery?: number;
  processes?: number;
  /** As "3/6". */
  part?: string;
  prepare?: "all" | "templates";
  takeOver?: boolean;
  requeue?: boolean;
}

/** `wise-lab run`. Prints a progress line and the table. @returns the exit status */
export async function runCommand(
  options: RunArguments,
  { signal, pause }: Record<"signal" | "pause", AbortSignal>,
): Promise<number> {
  const part = options.part === undefined ? undefined : parsePart(options.part);
  const whole = part === undefined && !options.prepare;
  const line = createProgressLine();
  const labOptions = shownOn(line, options, signal);
  const request: RunRequest = { ...runRequestOf(options), signal };
  const run = whole ? (options.out ?? `runs/${defaultName(options)}`) : requireOut(options);
  if (options.prepare) {
    await prepareRun(run, labOptions, { ...request, what: options.prepare });
    line.end();
    console.log(`prepared: ${partsFolder(run)}`);
    return 0;
  }
  const out = part === undefined ? run : partFolder(run, part);
  const prepared = part === undefined ? null : await readPrepared(run);
  const lab = await openLab({ ...labOptions, planFor: { ...request, part, out }, templates: prepared?.templates });
  try {
    tellOf(lab, line);
    if (part !== undefined) await writeCommand(run, commandWords(options));
    const result = await showRun(lab, line, {
      ...request,
      part,
      out,
      keepEvery: options.keepEvery,
      processes: options.processes ?? availableParallelism(),
      takeOver: options.takeOver,
      pause,
    });
    line.end();
    if (part === undefined) printRun(result);
    else console.log(`part ${part.index} of ${part.of}: ${result.scores.length} records; wise-lab join ${run}`);
    console.log(`run folder: ${out}`);
    return 0;
  } catch (error) {
    if (error instanceof Paused && options.requeue) await requeueTask(pause);
    throw error;
  } finally {
    lab.close();
  }
}

/** Name of the folder of a run where none is named: known before a model is read, so that what stands there can be refused. */
function defaultName({ model = DEFAULT_MODEL, method, T, when }: RunArguments): string {
  return `${basename(resolve(model))}-${method}-T${parseT(T)}-${when}`;
}

/** The lab of a run, which says on a line how far the frozen part is. */
function shownOn(line: ProgressLine, options: Omit<RunArguments, "out">, signal: AbortSignal): LabOptions {
  return {
    ...labOptionsOf(options),
    signal,
    onNotice: (notice) => console.error(notice),
    onFrozen: (progress) => line.show(frozenText(progress), false),
  };
}

/** Prints what computes, and which options have no effect. */
function tellOf(lab: Lab, line: ProgressLine): void {
  line.clear();
  console.error(lab.backend.detail);
  for (const key of lab.method.ignored) console.error(`no effect here: ${key}`);
}

/** A run with its progress on a line. */
function showRun(lab: Lab, line: ProgressLine, request: RunRequest): Promise<RunResult> {
  let at = "";
  return lab.run({
    ...request,
    onProgress: (progress) => {
      at = progressText(progress);
      line.show(at, progress.scored === progress.records);
    },
    onStep: ({ step }) => line.show(`${at}  step ${step + 1}`.trimStart(), false),
    onNotice: (notice) => console.error(notice),
  });
}

/**
 * A run with its progress on one line. @param options `planOnly`: that many records are run, of a run that was planned whole
 * @returns the run, and seconds that it took from the first edit on
 */
export async function runShown(
  { planOnly, ...options }: RunArguments & { planOnly?: number },
  signal: AbortSignal,
): Promise<{ result: RunResult; seconds: number }> {
  const line = createProgressLine();
  const request: RunRequest = { ...runRequestOf(options), out: options.out, signal };
  const lab = await openLab({ ...shownOn(line, options, signal), planFor: request });
  try {
    tellOf(lab, line);
    const started = performance.now();
    const processes = options.processes ?? availableParallelism();
    const small = planOnly !== undefined && { limit: planOnly, processes: undefined };
    const result = await showRun(lab, line, { ...request, processes, ...small });
    line.end();
    return { result, seconds: (performance.now() - started) / 1000 };
  } finally {
    lab.close();
  }
}

/** The lab of a run. */
export function labOptionsOf(
  options: Partial<Pick<RunArguments, "model" | "method" | "hparams" | "preset" | "set">> & MachineArguments,
): LabOptions {
  const { model, method, hparams: file, preset, set } = options;
  return { model, method, hparams: { file, preset, set }, ...machineOptions(options) };
}

/** The run itself, without its folder. */
export function runRequestOf(options: Omit<RunArguments, "out">): RunRequest {
  const { data, irrelevant, T, when, limit, scoreSteps, saveEdits, checkpointEvery, checkpointSample } = options;
  if (checkpointSample !== undefined && checkpointEvery === undefined) {
    throw new RefusedInput("a sample of records at checkpoints, and no checkpoints", {
      where: "--checkpoint-sample",
      found: checkpointSample,
      expected: "--checkpoint-every beside it",
    });
  }
  const checkpoints = checkpointEvery && { every: checkpointEvery, sample: checkpointSample ?? null };
  const recorded = { scoreSteps, saveEdits, ...(checkpoints && { checkpoints }) };
  return { data, irrelevant, T: parseT(T), when, limit, ...scoringOf(options), ...recorded };
}

/** The table of a run. */
export function printRun(run: RunResult): void {
  const { runs, differ } = byMetrics([run]);
  console.log(renderSummary(runs, "text", { allow: [...rowFields, ...differ], ...terminal() }));
}

/** @throws {RefusedInput} where parts have no folder to stand together in */
function requireOut({ out }: Pick<RunArguments, "out">): string {
  if (out !== undefined) return out;
  throw new RefusedInput("the parts of a run need a folder", {
    where: "--out",
    found: undefined,
    expected: "the folder of the run, the same for all its parts",
    hint: "--out runs/NAME",
  });
}

/** The words of the command that makes the parts of a run, without the part. */
function commandWords({ part: _, prepare: __, takeOver: ___, requeue: ____, ...options }: RunArguments): string[] {
  return ["wise-lab", "run", ...wordsOf(options)];
}

interface ProgressLine {
  show(text: string, isLast: boolean): void;
  clear(): void;
  end(): void;
}

/** One line that is written over: on a terminal at every step, elsewhere once in a while; the last one always. */
export function createProgressLine(): ProgressLine {
  const terminal = process.stderr.isTTY;
  const interval = terminal ? 100 : 10_000; // milliseconds
  let last = Number.NEGATIVE_INFINITY;
  return {
    show(text, isLast) {
      const now = performance.now();
      if (now - last < interval && !isLast) return;
      last = now;
      process.stderr.write(terminal ? `\r${text}\x1b[K` : `${text}\n`);
    },
    /** Takes it away on a terminal, before other lines are written. */
    clear() {
      if (terminal) process.stderr.write("\r\x1b[K");
    },
    end() {
      if (terminal) process.stderr.write("\n");
    },
  };
}

function frozenText({ layer, layers, batch, batches }: FrozenProgress): string {
  return `frozen part: layer ${layer + 1}/${layers}  batch ${batch}/${batches}`;
}

function progressText({ block, blocks, edited, scored, records, seconds, secondsLeft }: RunProgress): string {
  const left = secondsLeft === null ? "" : `, ${formatDuration(secondsLeft * 1000)} left`;
  const spent = formatDuration(seconds * 1000);
  return `block ${block + 1}/${blocks}  edited ${edited}/${records}  scored ${scored}/${records}  ${spent}${left}`;
}
