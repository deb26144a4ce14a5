import { shellLine } from "./words.js";

/** Settings of a Slurm job that makes the parts of a run. */
export interface SlurmJob {
  name: string;
  /** Folder in which the script stands, and its logs. */
  folder: string;
  /** Folder that the command is started in. */
  from: string;
  /** Words of the command that makes a part, without it: node, the program, its options. */
  command: readonly string[];
  parts: number;
  cpus: number;
  gpu: boolean;
  /** Bytes of one task. */
  memory: number;
  /** Seconds that one task may take. */
  seconds: number;
  /** Seconds of the longest piece of work that no safe point divides: one record. Null where it is not known. */
  secondsEach: number | null;
  /** Threads of TensorFlow where they decide the last bits of a float; null where one thread computes anyway. */
  threads: number | null;
  /** Further words of sbatch, as --partition=gpu. */
  directives: readonly string[];
}

/** Slurm's default MaxArraySize is 1001, and a task's number is below it. */
export const MOST_PARTS = 1000;
/** Seconds before the time limit at which a task is told to end: Slurm may be a minute late. */
const LEAD = 120;
const MEMORY_MARGIN = 1.1; // the plan is an estimate, and Slurm kills what goes beyond

/**
 * The script that sbatch takes. In an array it makes the parts of a run, without one it prepares them. The program takes the
 * shell's place, so that Slurm's signals reach it; requeued, a part goes on from its last safe point.
 */
export function slurmScript(job: SlurmJob): string {
  const { name, folder, from, command, parts, cpus, gpu, memory, seconds, secondsEach, threads, directives } = job;
  const lead = Math.max(LEAD, Math.ceil(2 * (secondsEach ?? 0)));
  const options = [
    `--job-name=${name}`,
    `--output=${logPattern(folder)}`,
    "--open-mode=append",
    "--requeue",
    `--signal=B:USR2@${lead}`,
    `--cpus-per-task=${cpus}`,
    ...(gpu ? ["--gres=gpu:1"] : []),
    `--mem=${Math.ceil((MEMORY_MARGIN * memory) / 2 ** 20)}M`,
    `--time=${slurmTime(Math.max(seconds, 2 * lead))}`,
    ...directives,
  ];
  const script = scriptFile(folder);
  const first = `first=$(sbatch ${shellLine(prepareWords(folder))})`;
  const then = `sbatch --array=1-${parts} --dependency=afterok:$first --kill-on-invalid-dep=yes ${shellLine([script])}`;
  return [
    "#!/bin/bash",
    ...options.map((option) => `#SBATCH ${option}`),
    "# To submit (wise-lab slurm ... --submit does it):",
    `#   ${first}`,
    `#   ${then}`,
    "set -e",
    `cd ${shellLine([from])}`,
    ...(threads === null ? [] : [`export TF_NUM_INTRAOP_THREADS=${threads}`]),
    `run=(${shellLine(command)})`,
    `if [ -z "$SLURM_ARRAY_TASK_ID" ]; then exec "\${run[@]}" --prepare=templates; fi`,
    `exec "\${run[@]}" --part="$SLURM_ARRAY_TASK_ID/${parts}" --requeue`,
    "",
  ].join("\n");
}

export const scriptFile = (folder: string) => `${folder}/job.sh`;
const logPattern = (folder: string) => `${folder}/logs/%A_%a.log`;

/** Words of sbatch for the job that prepares a run. */
export function prepareWords(folder: string): string[] {
  return ["--parsable", `--output=${folder}/logs/prepare-%j.log`, scriptFile(folder)];
}

/** Seconds as Slurm reads them, in whole minutes: days-hours:minutes:00. */
function slurmTime(seconds: number): string {
  const minutes = Math.ceil(seconds / 60);
  const two = (n: number) => String(n).padStart(2, "0");
  return `${Math.floor(minutes / 1440)}-${two(Math.floor(minutes / 60) % 24)}:${two(minutes % 60)}:00`;
}

/** A list of task numbers as sbatch takes it: "1-3,7". */
export function taskList(tasks: readonly number[]): string {
  const ranges: [number, number][] = [];
  for (const task of [...tasks].sort((a, b) => a - b)) {
    const last = ranges.at(-1);
    if (last !== undefined && last[1] === task - 1) last[1] = task;
    else ranges.push([task, task]);
  }
  return ranges.map(([from, to]) => (from === to ? from : `${from}-${to}`)).join(",");
}
