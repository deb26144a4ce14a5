import { availableParallelism } from "node:os";
import { Interrupted, LabFailure } from "../core/errors.js";
import { formatDuration } from "../notebook/progress.js";
import { type CellEvent, runNotebook } from "../notebook/run.js";

/** A notebook to execute. */
export interface NotebookJob {
  name: string;
  source: string;
  output: string;
  parameters?: Record<string, string>;
}

/** Seconds that the code cells of each notebook once took, by its name: what is left is told from their proportions. */
export type CellTimes = Readonly<Record<string, readonly number[]>>;

/** Seconds of a cell nobody has timed. */
const UNKNOWN_CELL = 5;

/**
 * Executes notebooks, as many at a time as there are cores, the longest first, each in a kernel of its own. Every cell that
 * ends is a line, with the time left.
 * @returns the seconds that the cells took
 * @throws {LabFailure} naming the first cell that failed; the other notebooks are stopped
 */
export async function runSideBySide(
  jobs: readonly NotebookJob[],
  { times, signal }: { times: CellTimes; signal: AbortSignal },
): Promise<Record<string, number[]>> {
  const stop = new AbortController();
  const either = AbortSignal.any([signal, stop.signal]);
  const pace = createPace(jobs, times);
  const taken: Record<string, number[]> = {};
  const waiting = [...jobs].sort((a, b) => sum(times[b.name] ?? []) - sum(times[a.name] ?? []));
  const width = Math.max(...jobs.map(({ name }) => name.length));

  async function execute({ name, source, ...run }: NotebookJob): Promise<void> {
    const seconds: number[] = [];
    taken[name] = seconds;
    const onCell = (event: CellEvent) => {
      if (event.phase === "start") return;
      seconds.push(event.seconds ?? 0);
      const left = pace.left(name, event);
      const cell = `cell ${String(event.cell).padStart(2)} of ${event.cells}`;
      console.log(
        `${name.padEnd(width)}  ${cell}  ${formatDuration(1000 * (event.seconds ?? 0)).padStart(10)}  ${left}`,
      );
    };
    const { errors } = await runNotebook(source, { ...run, signal: either, onCell });
    const [failed] = errors;
    if (failed) throw new LabFailure(`${run.output}, cell ${failed.cell}: ${failed.name}: ${failed.message}`);
  }

  async function work(): Promise<void> {
    for (let job = waiting.shift(); job !== undefined && !either.aborted; job = waiting.shift()) await execute(job);
  }

  const workers = Array.from({ length: Math.min(jobs.length, availableParallelism()) }, () =>
    work().catch((error) => {
      stop.abort();
      throw error;
    }),
  );
  const ended = await Promise.allSettled(workers);
  const failures = ended.flatMap((end) => (end.status === "rejected" ? [end.reason as unknown] : []));
  const first = failures.find((error) => !(error instanceof Interrupted)) ?? failures[0];
  if (first !== undefined) throw first;
  return taken;
}

/** Share of the work before which nothing is told: kernels start meanwhile. */
const TOO_SOON = 0.03;

/** Tells the time left from the share of the work that is done. */
function createPace(jobs: readonly NotebookJob[], times: CellTimes) {
  const started = performance.now();
  const done = new Map<string, number>();
  const costOf = (name: string, cells: number): number => sum(timed(times[name], cells));
  return {
    left(name: string, { cell, cells }: CellEvent): string {
      done.set(name, costOf(name, cells) === 0 ? 0 : sum(timed(times[name], cells).slice(0, cell)));
      const made = sum([...done.values()]);
      const whole = sum(jobs.map((job) => sum(times[job.name] ?? [UNKNOWN_CELL])));
      if (made < TOO_SOON * whole) return "";
      const left = ((performance.now() - started) / made) * Math.max(0, whole - made);
      return left >= 1000 ? `${formatDuration(left)} left` : "";
    },
  };
}

/** Seconds of each cell; the same for all where a notebook has other cells than those that were timed. */
function timed(seconds: readonly number[] | undefined, cells: number): readonly number[] {
  return seconds?.length === cells ? seconds : Array.from({ length: cells }, () => UNKNOWN_CELL);
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
