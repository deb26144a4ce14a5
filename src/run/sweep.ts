import { availableParallelism } from "node:os";
import { join } from "node:path";
import { startChild } from "../core/child.js";
import { LabFailure, RefusedInput, throwIfAborted } from "../core/errors.js";
import { requireWritableFolder } from "../core/files.js";
import { canonicalJson } from "../core/hash.js";
import { openAssets } from "../edit/assets.js";
import type { Asset, PreparedMethod } from "../edit/contract.js";
import type { OptionSource } from "../edit/option-table.js";
import { methodNamed, prepareNamed } from "../edit/registry.js";
import type { TargetStop } from "../edit/target-stop.js";
import { backendFor } from "../model/backend.js";
import { openCheckpoint } from "../model/folder.js";
import type { WeightPrecision } from "../model/weights.js";
import { dealtTo, parseT, type RunPart } from "./blocks.js";
import { countLines, isFinished, readRun, readRunConfig } from "./folder.js";
import { requireRunPlace } from "./folder-files.js";
import { DEFAULT_METHOD, DEFAULT_MODEL, loadRunInputs, projectFile, withDefaultPreset } from "./inputs.js";
import type { LabOptions } from "./lab.js";
import { checkScoreSteps, checkWhen, protocolOf } from "./plan.js";
import { type RunRequest, type ScoringRequest, scoringOf } from "./request.js";
import { type MachineOptions, machineOf } from "./settle.js";
import type { PointTask } from "./sweep-point.js";
import type { Protocol, RunResult } from "./types.js";

/** One run of a sweep. */
export interface SweepPoint {
  /** Name of its folder. */
  name: string;
  /** In place of those that the runs share. */
  method?: string | undefined;
  targetStop?: TargetStop | undefined;
  T: number | string;
  /** "key=value", over what all points share. */
  set: readonly string[];
}

/** Settings that all points of a sweep share: those of a lab and of a run, with their defaults. */
export interface SweepRun
  extends MachineOptions,
    ScoringRequest,
    Pick<LabOptions, "model" | "method" | "hparams">,
    Pick<RunRequest, "data" | "irrelevant" | "limit" | "when" | "scoreSteps"> {}

/** Progress of a sweep; edits and scores of all points together. */
export interface SweepProgress {
  points: number;
  finished: number;
  edited: number;
  scored: number;
  records: number;
  /** Seconds this sweep has worked, and what is left at its pace so far; null before the first edit. */
  seconds: number;
  secondsLeft: number | null;
}

export interface SweepOptions {
  /** Folder of the run folders. */
  out: string;
  /** Points that are run at once, by default one per core. Each gets its share of the cores, as processes or threads. */
  workers?: number | undefined;
  /** Runs these points alone, and checks all. */
  part?: RunPart | undefined;
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: SweepProgress) => void) | undefined;
  /** Told what computes, what was chosen where nothing was named, and what has no effect. */
  onNotice?: ((line: string) => void) | undefined;
}

/** A point that was checked: what its folder must hold, and the task that makes it. */
interface Job {
  name: string;
  folder: string;
  protocol: Protocol;
  task: PointTask;
  running: boolean;
  finished: boolean;
}

/**
 * Runs every point in a process of its own, several at once. Finished points are skipped without
 * loading the model, interrupted ones go on from their last finished block: to the same bytes, given the same points and
 * number of workers.
 * @returns the runs, in the order of the points; those of the part, where one is given
 * @throws {RefusedInput} before the first process starts, for anything that any point cannot be run with
 * @throws {Interrupted} when the signal is aborted; its processes are ended, their finished blocks stay
 * @throws {LabFailure} naming the points that failed, when all others are finished
 */
export async function runSweep(
  points: readonly SweepPoint[],
  shared: SweepRun,
  options: SweepOptions,
): Promise<RunResult[]> {
  const jobs = await checkPoints(points, shared, options);
  const cores = availableParallelism();
  const workers = Math.max(1, Math.min(options.workers ?? cores, jobs.length));
  // Of all points, not of those that are left: native TensorFlow rounds otherwise with another number of threads, and a
  // point that goes on in a later sweep shall give the same bytes.
  const threads = Math.max(1, Math.floor(cores / workers));
  const failures: string[] = [];
  const own = dealtTo(jobs, options.part);
  const queue = own.filter((job) => !job.finished);
  const stopProgress = followJobs(own, options.onProgress);
  try {
    const work = async () => {
      for (let job = queue.shift(); job && !options.signal?.aborted; job = queue.shift()) {
        job.running = true;
        const problem = await runJob(job, threads, options.signal);
        job.running = false;
        if (problem === null) job.finished = true;
        else failures.push(`${job.name}: ${problem}`);
      }
    };
    await Promise.all(Array.from({ length: workers }, work));
  } finally {
    stopProgress();
  }
  throwIfAborted(options.signal, "the sweep");
  if (failures.length > 0) {
    const count = `${failures.length} of ${own.length} points failed`;
    throw new LabFailure(`${count}; the others are finished\n${failures.join("\n")}`);
  }
  return Promise.all(own.map(({ folder }) => readRun(folder)));
}

/** Checks everything that can be checked without loading the model. */
async function checkPoints(
  points: readonly SweepPoint[],
  shared: SweepRun,
  { out, onNotice = () => {} }: SweepOptions,
): Promise<Job[]> {
  refuseTwins(points, ({ name }) => name);
  const Ts = points.map(({ T }) => parseT(T));
  const { config, model } = await identify(shared.model ?? DEFAULT_MODEL, shared.precision ?? "float32");
  const { scoreSteps = [] } = shared;
  const methods = await Promise.all(
    points.map((point) => {
      const name = methodOf(point, shared);
      const source = withDefaultPreset(hparamsOf(point, shared), config, methodNamed(name));
      return prepareNamed(name, source, config);
    }),
  );
  const when = shared.when ?? "after-all";
  const inputsOf = createInputs({ ...shared, T: Ts[0] ?? 1 });
  const told = new Set<string>();
  for (const [i, method] of methods.entries()) {
    const { dataset, notices } = await inputsOf(method);
    for (const notice of notices) told.add(notice);
    checkScoreSteps({ T: Ts[i] as number | "all", dataset, method }, scoreSteps);
    checkWhen({ method, when });
  }
  const backend = await backendFor(config, shared);
  await requireWritableFolder(out);
  const ignored = new Set(methods.flatMap((method) => method.ignored.map((key) => `no effect here: ${key}`)));
  const opened: ReadonlyMap<string, Asset>[] = [];
  for (const method of methods) opened.push(await openAssets(method, model));
  const jobs: Job[] = [];
  for (const [i, point] of points.entries()) {
    const [T, method, assets] = [Ts[i], methods[i], opened[i]] as [number | "all", PreparedMethod, (typeof opened)[0]];
    const { notices: _, ...inputs } = await inputsOf(method);
    const { targetStop = inputs.targetStop } = point;
    const protocol = protocolOf({ ...inputs, targetStop, model, method, assets, T, backend, when });
    const folder = join(out, point.name);
    const task = taskOf(point, { ...shared, backend: backend.name }, folder);
    jobs.push({ name: point.name, folder, protocol, task, running: false, finished: false });
  }
  refuseTwins(jobs, ({ protocol }) => canonicalJson(protocol));
  for (const { folder } of jobs) await requireRunPlace(folder);
  for (const job of jobs) job.finished = (await isFinished(job.folder, job.protocol)) && (await holds(job, scoreSteps));
  for (const line of [backend.detail, ...told, ...ignored]) onNotice(line);
  return jobs;
}

const methodOf = (point: SweepPoint, shared: SweepRun) => point.method ?? shared.method ?? DEFAULT_METHOD;

function hparamsOf({ set }: SweepPoint, { hparams }: SweepRun): OptionSource {
  return { ...hparams, set: [...(hparams?.set ?? []), ...set] };
}

/** Inputs of runs with a method: read once for all methods with the same needs. */
function createInputs(request: Parameters<typeof loadRunInputs>[0]) {
  const known = new Map<boolean, ReturnType<typeof loadRunInputs>>();
  return ({ needs }: Pick<PreparedMethod, "needs">) => {
    const found = known.get(needs.irrelevant) ?? loadRunInputs(request, needs);
    known.set(needs.irrelevant, found);
    return found;
  };
}

/** True if a finished run was scored after all of these numbers of steps. */
async function holds({ folder }: Job, scoreSteps: readonly number[]): Promise<boolean> {
  const { scoreSteps: recorded } = await readRunConfig(folder);
  return scoreSteps.every((steps) => recorded.includes(steps));
}

/** A model as protocols name it; no weights are loaded. */
async function identify(folder: string, precision: WeightPrecision) {
  const checkpoint = await openCheckpoint(folder);
  try {
    const { name, config, folder: path } = checkpoint;
    return { config, model: { name, folder: path, config, sha256: await checkpoint.sha256(), precision } };
  } finally {
    await checkpoint.close();
  }
}

/** @throws {RefusedInput} when two points are the same by what `key` says of them */
function refuseTwins<P extends { name: string }>(points: readonly P[], key: (point: P) => string): void {
  const names = new Map<string, string>();
  for (const point of points) {
    const twin = names.get(key(point));
    if (twin !== undefined) {
      throw new RefusedInput("two points of a sweep are the same", {
        where: "the points of the sweep",
        found: `${twin} and ${point.name}`,
        expected: "every point once",
      });
    }
    names.set(key(point), point.name);
  }
}

function taskOf(point: SweepPoint, shared: SweepRun, out: string): PointTask {
  const { model, data, irrelevant, limit, when, scoreSteps, targetStop } = shared;
  const recorded = { ...scoringOf(shared), targetStop: point.targetStop ?? targetStop, scoreSteps };
  return {
    lab: { ...machineOf(shared), model, method: methodOf(point, shared), hparams: hparamsOf(point, shared) },
    request: { data, irrelevant, limit, when, T: point.T, ...recorded, out },
  };
}

/** Runs a point to its end, in a process of its own. @returns null, or the last lines that it wrote when it failed */
function runJob({ task }: Job, threads: number, signal: AbortSignal | undefined): Promise<string | null> {
  return new Promise((resolve) => {
    const command = [process.execPath, projectFile("dist", "run", "sweep-point.js")] as const;
    // The environment goes first: for a small model it says one thread by now.
    const env = { TF_NUM_INTRAOP_THREADS: String(threads), ...process.env };
    const child = startChild(command, { stdio: ["ignore", "ignore", "pipe", "ipc"], env, signal }, resolve);
    child.send({ ...task, request: { ...task.request, processes: threads } } satisfies PointTask);
  });
}

const PROGRESS_EVERY_MS = 1000;

/** Reports from what stands in the folders, until the returned function is called, which reports the end. */
function followJobs(jobs: readonly Job[], onProgress: SweepOptions["onProgress"]): () => void {
  if (!onProgress) return () => {};
  const started = performance.now();
  const known = new Map(jobs.map((job) => [job, linesOf(job)]));
  const count = () => {
    const total = { finished: 0, edited: 0, scored: 0, records: 0 };
    for (const job of jobs) {
      if (job.running || job.finished) known.set(job, linesOf(job));
      const { edited, scored } = known.get(job) as ReturnType<typeof linesOf>;
      total.finished += job.finished ? 1 : 0;
      total.edited += edited;
      total.scored += scored;
      total.records += job.protocol.records;
    }
    return total;
  };
  const before = count().edited;
  const report = () => {
    const total = count();
    const seconds = (performance.now() - started) / 1000;
    const here = total.edited - before;
    const secondsLeft = here <= 0 ? null : (seconds / here) * (total.records - total.edited);
    onProgress({ points: jobs.length, ...total, seconds, secondsLeft });
  };
  const timer = setInterval(report, PROGRESS_EVERY_MS);
  return () => {
    clearInterval(timer);
    report();
  };
}

function linesOf({ finished, folder, protocol: { records } }: Job): { edited: number; scored: number } {
  return finished ? { edited: records, scored: records } : countLines(folder);
}
