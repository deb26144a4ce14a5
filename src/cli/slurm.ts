import { execFileSync } from "node:child_process";
import { basename, resolve } from "node:path";
import { errorText, LabFailure, RefusedInput } from "../core/errors.js";
import { exists, makeFolder, readText, writeFileAtomic } from "../core/files.js";
import { openJsonl, readJsonl } from "../core/jsonl.js";
import { hasLargeProducts } from "../model/config.js";
import { blocksOfPart, parseT, sharesOf } from "../run/blocks.js";
import { projectFile } from "../run/inputs.js";
import { foreseeMemory, type LabOptions, openLab } from "../run/lab.js";
import { partsFolder, readPrepared } from "../run/parts.js";
import { readPartsProgress } from "../run/parts-progress.js";
import type { RunRequest } from "../run/request.js";
import { MOST_PARTS, prepareWords, type SlurmJob, scriptFile, slurmScript, taskList } from "../run/slurm.js";
import { wordsOf } from "../run/words.js";
import { partLine, totalLine } from "./join.js";
import { labOptionsOf, type RunArguments, runRequestOf } from "./run.js";

/** Options of `wise-lab slurm`, as the command line gives them: those of `wise-lab run`, and of the job. */
export interface SlurmArguments extends Omit<RunArguments, "T" | "out" | "part" | "prepare" | "requeue" | "takeOver"> {
  T?: string;
  parts?: number;
  cpus?: number;
  gpu?: boolean;
  /** Minutes that one task may take. */
  time?: number;
  /** Further words of sbatch. */
  sbatch?: string[];
  submit?: boolean;
  status?: boolean;
  retry?: boolean;
}

/** `wise-lab slurm`: the script of a run's parts, or what became of them. @returns the exit status */
export async function slurmCommand(run: string, options: SlurmArguments, signal: AbortSignal): Promise<number> {
  const folder = resolve(partsFolder(run));
  if (options.status) return showStatus(run, folder);
  if (options.retry) return retry(run, folder);
  const job = await jobOf(run, options, signal);
  const script = slurmScript(job);
  if (!options.submit) {
    process.stdout.write(script);
    return 0;
  }
  await makeFolder(`${folder}/logs`);
  await writeFileAtomic(scriptFile(folder), script);
  const first = (await readPrepared(run)) === null ? [sbatch(prepareWords(folder))] : [];
  const after = first.flatMap((id) => [`--dependency=afterok:${id}`, "--kill-on-invalid-dep=yes"]);
  const all = Array.from({ length: job.parts }, (_, i) => i + 1);
  const id = submitParts(folder, { parts: job.parts, tasks: all, words: after });
  for (const one of first) console.log(`job ${one} prepares`);
  console.log(`job ${id} makes ${job.parts} parts: wise-lab slurm ${run} --status`);
  return 0;
}

async function jobOf(run: string, options: SlurmArguments, signal: AbortSignal): Promise<SlurmJob> {
  const { T: given, parts: wished, cpus: wishedCpus, gpu, time, sbatch: directives = [], submit: _, ...rest } = options;
  if (given === undefined) {
    throw new RefusedInput("a job needs the run that it makes", {
      where: "--T",
      found: undefined,
      expected: "the options of wise-lab run, or --status or --retry",
    });
  }
  const T = parseT(given);
  const ofRun = { ...rest, T: given };
  const lab: LabOptions = { ...labOptionsOf(ofRun), signal, onNotice: (line) => console.error(line) };
  const request: RunRequest = { ...runRequestOf(ofRun), signal };
  const { input, memory } = await foreseeMemory(lab, request);
  const { records } = input.work;
  const parts = wished ?? Math.min(sharesOf(blocksOfPart({ records, T }, undefined)).length, MOST_PARTS);
  if (parts > MOST_PARTS) {
    const expected = `at most ${MOST_PARTS}, which arrays of Slurm allow by default`;
    throw new RefusedInput("too many parts", { where: "--parts", found: parts, expected });
  }
  const each = Array.from({ length: parts }, (_, i) => blocksOfPart({ records, T }, { index: i + 1, of: parts }));
  const most = Math.max(...each.map((own) => own.reduce((sum, { start, end }) => sum + end - start, 0)));
  const large = hasLargeProducts(input.config);
  const cpus = wishedCpus ?? (large ? 8 : 1);
  const measured = time === undefined ? await measure(lab, request) : null;
  const weights = rest.weights ?? input.weights; // as this machine would have chosen: the memory line says what it takes
  const words = wordsOf({ ...rest, T: given, weights, processes: large ? 1 : cpus, out: run });
  return {
    name: basename(resolve(run)),
    folder: resolve(partsFolder(run)),
    from: process.cwd(),
    command: [process.execPath, projectFile("dist", "cli.js"), "run", ...words],
    parts,
    cpus,
    gpu: gpu ?? input.backend.device === "gpu",
    memory: memory * (large || cpus === 1 ? 1 : cpus + 1),
    seconds: time !== undefined ? 60 * time : foreseenSeconds(measured as Measured, most),
    secondsEach: measured?.secondsEach ?? null,
    threads: large ? cpus : null,
    directives,
  };
}

/** Wall seconds of the first records of a run on this machine. */
interface Measured {
  /** Until the model was there. */
  secondsToLoad: number;
  secondsEach: number;
}

const MEASURED_RECORDS = 3;

async function measure(options: LabOptions, request: RunRequest): Promise<Measured> {
  const started = performance.now();
  const few = { ...request, limit: Math.min(MEASURED_RECORDS, request.limit ?? MEASURED_RECORDS) };
  const lab = await openLab({ ...options, planFor: few, onNotice: undefined });
  try {
    const loaded = performance.now();
    const { edits } = await lab.run({ ...few, saveEdits: false });
    const secondsEach = (performance.now() - loaded) / 1000 / edits.length;
    const secondsToLoad = (loaded - started) / 1000;
    console.error(`measured here: ${secondsToLoad.toFixed(1)} s to load, ${secondsEach.toFixed(2)} s a record`);
    return { secondsToLoad, secondsEach };
  } finally {
    lab.close();
  }
}

/** Room for slower nodes and a busy disk. */
const TIME_MARGIN = 2;

function foreseenSeconds({ secondsToLoad, secondsEach }: Measured, records: number): number {
  return TIME_MARGIN * (secondsToLoad + secondsEach * records);
}

interface Submission {
  job: string;
  parts: number;
  tasks: readonly number[];
}

const submissionsFile = (folder: string) => `${folder}/slurm.jsonl`;

/** Hands tasks to sbatch, and notes their job. @returns its number */
function submitParts(
  folder: string,
  { parts, tasks, words }: { parts: number; tasks: readonly number[]; words: readonly string[] },
): string {
  const job = sbatch(["--parsable", `--array=${taskList(tasks)}`, ...words, scriptFile(folder)]);
  const file = openJsonl(submissionsFile(folder), { fsync: true });
  file.append({ job, parts, tasks } satisfies Submission);
  file.close();
  return job;
}

function sbatch(words: readonly string[]): string {
  return slurmProgram("sbatch", words).trim().split(";")[0] as string; // ";cluster" may stand behind it
}

function slurmProgram(name: string, words: readonly string[]): string {
  try {
    return execFileSync(name, words, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  } catch (cause) {
    const { stderr = "" } = cause as { stderr?: string };
    throw new LabFailure(`${name} failed: ${stderr.trim() || errorText(cause)}`, { cause });
  }
}

/** The state that Slurm has for each part that is queued or runs, in words; those it does not know any more are left out. */
async function queuedParts(folder: string): Promise<{ parts: number; queued: Map<number, string> }> {
  const file = submissionsFile(folder);
  if (!(await exists(file))) {
    throw new RefusedInput("nothing was submitted here", {
      where: file,
      found: "no such file",
      expected: "the jobs of wise-lab slurm ... --submit",
    });
  }
  const submitted = (await readJsonl(file)).values as Submission[];
  const jobs = submitted.map(({ job }) => job);
  // All of the user's: one that squeue has forgotten would be an error by its number.
  const lines = slurmProgram("squeue", ["--noheader", "--array", "--me", "--format=%F %K %T %r"]);
  const queued = new Map<number, string>();
  for (const line of lines.split("\n")) {
    const [job, task, state = "", ...reason] = line.trim().split(" ");
    if (!jobs.includes(job ?? "")) continue;
    queued.set(Number(task), reason.join(" ") === "None" ? state : `${state} (${reason.join(" ")})`);
  }
  return { parts: submitted.at(-1)?.parts ?? 0, queued };
}

async function showStatus(run: string, folder: string): Promise<number> {
  const { parts: count, queued } = await queuedParts(folder);
  const parts = await readPartsProgress(run, count);
  for (const part of parts) {
    const { index } = part.part;
    const lost = part.state === "finished" ? "" : "  not in the queue: wise-lab slurm --retry submits it";
    console.log(`${partLine(part)}${queued.has(index) ? `  ${queued.get(index)}` : lost}`);
  }
  console.log(totalLine(parts));
  return 0;
}

/** Submits the parts that are neither finished nor in the queue. */
async function retry(run: string, folder: string): Promise<number> {
  const { parts: count, queued } = await queuedParts(folder);
  const parts = await readPartsProgress(run, count);
  const tasks = parts
    .filter(({ part, state }) => state !== "finished" && !queued.has(part.index))
    .map(({ part }) => part.index);
  if (tasks.length === 0) {
    console.log("nothing to submit: every part is finished, or in the queue");
    return 0;
  }
  await readText(scriptFile(folder)); // refuses where it is gone
  console.log(`job ${submitParts(folder, { parts: count, tasks, words: [] })} makes parts ${taskList(tasks)}`);
  return 0;
}
