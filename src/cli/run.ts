import { availableParallelism } from "node:os";
import { basename, resolve } from "node:path";
import type { FrozenProgress } from "../model/frozen.js";
import { formatDuration } from "../notebook/progress.js";
import { parseT } from "../run/blocks.js";
import { DEFAULT_MODEL } from "../run/inputs.js";
import { openLab } from "../run/lab.js";
import { type ScoringRequest, scoringOf } from "../run/request.js";
import type { RunProgress } from "../run/runner.js";
import type { RunResult, When } from "../run/types.js";
import { byMetrics } from "../run/under-metric.js";
import { renderSummary } from "../tables/format.js";
import { rowFields } from "../tables/protocols.js";
import { type MachineArguments, machineOptions } from "./machine.js";
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
  keepEvery?: number;
  processes?: number;
}

/** `wise-lab run`. Prints a progress line and the table. @returns the exit status */
export async function runCommand(options: RunArguments, signal: AbortSignal): Promise<number> {
  const out = options.out ?? `runs/${defaultName(options)}`;
  const { result } = await runShown({ ...options, out }, signal);
  const { runs, differ } = byMetrics([result]);
  console.log(renderSummary(runs, "text", { allow: [...rowFields, ...differ], ...terminal() }));
  console.log(`run folder: ${out}`);
  return 0;
}

/** Name of the folder of a run where none is named. */
function defaultName({ model = DEFAULT_MODEL, method, T, when }: RunArguments): string {
  return `${basename(resolve(model))}-${method}-T${parseT(T)}-${when}`;
}

/**
 * A run with its progress on one line. @param options `planOnly`: that many records are run, of a run that was planned whole
 * @returns the run, and seconds that it took from the first edit on
 */
export async function runShown(
  { planOnly, ...options }: RunArguments & { planOnly?: number },
  signal: AbortSignal,
): Promise<{ result: RunResult; seconds: number }> {
  const T = parseT(options.T);
  const line = createProgressLine();
  const lab = await openLab({
    model: options.model,
    method: options.method,
    hparams: { file: options.hparams, preset: options.preset, set: options.set },
    ...machineOptions(options),
    planFor: options,
    signal,
    onNotice: (notice) => console.error(notice),
    onFrozen: (progress) => line.show(frozenText(progress), false),
  });
  try {
    line.clear();
    console.error(lab.backend.detail);
    for (const key of lab.method.ignored) console.error(`no effect here: ${key}`);
    let at = "";
    const started = performance.now();
    const result = await lab.run({
      data: options.data,
      irrelevant: options.irrelevant,
      T,
      when: options.when,
      limit: planOnly ?? options.limit,
      ...scoringOf(options),
      out: options.out,
      scoreSteps: options.scoreSteps,
      saveEdits: options.saveEdits,
      keepEvery: options.keepEvery,
      processes: planOnly === undefined ? (options.processes ?? availableParallelism()) : undefined,
      signal,
      onProgress: (progress) => {
        at = progressText(progress);
        line.show(at, progress.scored === progress.records);
      },
      onStep: ({ step }) => line.show(`${at}  step ${step + 1}`.trimStart(), false),
      onNotice: (notice) => console.error(notice),
    });
    line.end();
    return { result, seconds: (performance.now() - started) / 1000 };
  } finally {
    lab.close();
  }
}

/** One line that is written over: on a terminal at every step, elsewhere once in a while; the last one always. */
export function createProgressLine(): { show(text: string, isLast: boolean): void; clear(): void; end(): void } {
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
