import { readFileSync, readlinkSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { isRunning } from "../core/child.js";
import { RefusedInput } from "../core/errors.js";

const UNWRITTEN_TRIES = 40; // a lock is empty between its making and its first write: 2 seconds, then nobody writes it
const UNWRITTEN_WAIT_MS = 50;

const text = z.string().nullable();

/** A process, told from every other one on any machine that shares the folder. */
const ownerSchema = z.object({
  host: z.string(),
  /** Of the host, new whenever it starts; null where the system does not tell it (Linux does). */
  boot: text,
  /** Namespace that the number of the process is of: containers have their own. */
  space: text,
  pid: z.number().int(),
  /** Start of the process in the ticks of its host: numbers are used again, in containers soon. */
  start: text,
  /** Slurm's task that the process is of, and how often that was requeued; null outside Slurm. */
  job: z.object({ cluster: text, id: z.string(), restart: z.number() }).nullable(),
});
export type Owner = z.infer<typeof ownerSchema>;

/** This process. */
export function thisProcess(): Owner {
  const { SLURM_JOB_ID: id, SLURM_CLUSTER_NAME: cluster = null, SLURM_RESTART_COUNT: restart } = process.env;
  return {
    host: hostname(),
    boot: readText("/proc/sys/kernel/random/boot_id")?.trim() ?? null,
    space: tryOr(null, () => readlinkSync("/proc/self/ns/pid")),
    pid: process.pid,
    start: startOf(process.pid),
    job: id === undefined ? null : { cluster, id, restart: Number(restart ?? 0) },
  };
}

export interface LockOptions {
  /** Take it from an owner of which nothing can be known from here. One that lives on this machine keeps it. */
  takeOver?: boolean | undefined;
  /** Told why a lock was taken over. */
  onNotice?: ((line: string) => void) | undefined;
  owner?: Owner;
}

/**
 * Takes a run folder for this process. A lock that was left behind is taken over where that is known: its process has ended on
 * this machine, or was an earlier start of the same Slurm task.
 * @returns function that frees it
 * @throws {RefusedInput} when another process has it, or may have it on another machine
 */
export function lockFolder(path: string, options: LockOptions = {}): () => void {
  const file = join(path, "run.lock");
  const { owner: me = thisProcess(), takeOver = false, onNotice } = options;
  for (let tries = 0; ; tries++) {
    try {
      writeFileSync(file, `${JSON.stringify(me)}\n`, { flag: "wx" });
      return () => rmSync(file, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
    const left = readText(file) ?? "";
    if (left === "" && tries < UNWRITTEN_TRIES) {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, UNWRITTEN_WAIT_MS);
      continue;
    }
    const { state, words } = stateOf(ownerIn(left), me);
    if (state === "lives" || (state === "unknown" && !takeOver)) throw inUse(file, state, words);
    if (takeAway(file, left)) onNotice?.(`${file} is taken over: ${words}`);
  }
}

function inUse(where: string, state: "lives" | "unknown", words: string): RefusedInput {
  return new RefusedInput("the run folder is in use", {
    where,
    found: words,
    expected: "one process per run folder",
    hint:
      state === "lives"
        ? "another --out folder, or wait for that process"
        : "wait for that process; --take-over once you know that it has ended",
  });
}

/** Judges the owner of a lock from here. Null is the owner in a lock without a word: it was killed while it wrote. */
function stateOf(
  owner: Owner | null | "unreadable",
  me: Owner,
): { state: "lives" | "ended" | "unknown"; words: string } {
  if (owner === null) return { state: "ended", words: "its process ended before it had written its name" };
  if (owner === "unreadable") return { state: "unknown", words: "a lock that names no owner" };
  const { host, boot, space, pid, start, job } = owner;
  const task = job === null ? "" : `, Slurm job ${job.id}`;
  const name = `process ${pid} on ${host}${task}`;
  if (job !== null && me.job !== null && isEarlier(job, me.job)) {
    return {
      state: "ended",
      words: `${name} was an earlier start of this task, which Slurm ended before it requeued it`,
    };
  }
  if (host !== me.host || boot !== me.boot || space !== me.space) {
    const where =
      host !== me.host ? "" : boot !== me.boot ? ", in another start of the machine" : ", in another container";
    return { state: "unknown", words: `${name}${where}: whether it still writes cannot be seen from here` };
  }
  const runs = isRunning(pid) && startOf(pid) === start;
  return runs
    ? { state: "lives", words: `process ${pid} is writing to it${task}` }
    : { state: "ended", words: `${name} has ended` };
}

/** True for an earlier start of the same task. */
function isEarlier(job: NonNullable<Owner["job"]>, mine: NonNullable<Owner["job"]>): boolean {
  return job.id === mine.id && job.cluster === mine.cluster && job.restart < mine.restart;
}

function ownerIn(left: string): Owner | null | "unreadable" {
  if (left === "") return null;
  const parsed = ownerSchema.safeParse(tryOr(null, () => JSON.parse(left) as unknown));
  return parsed.success ? parsed.data : "unreadable";
}

/** Owner of a run folder, in words; null when nobody has it. */
export function ownerText(path: string): string | null {
  const left = readText(join(path, "run.lock"));
  return left === null ? null : stateOf(ownerIn(left), thisProcess()).words;
}

/**
 * Takes away a lock that was left behind; not one that another process has put in its place meanwhile.
 * @returns true when it was this call that did
 */
function takeAway(file: string, left: string): boolean {
  const aside = `${file}.${process.pid}.part`;
  try {
    renameSync(file, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false; // another process was faster
    throw error;
  }
  if (readText(aside) === left) {
    rmSync(aside);
    return true;
  }
  renameSync(aside, file);
  return false;
}

/** Start of a process, where the system tells it (Linux). One that was killed and that nobody has waited for has ended. */
function startOf(pid: number): string | null {
  const status = readText(`/proc/${pid}/stat`) ?? "";
  const fields = status.slice(status.lastIndexOf(")") + 2).split(" "); // of proc(5), from field 3 on
  return fields[0] === "Z" ? "ended" : (fields[19] ?? null);
}

function readText(file: string): string | null {
  return tryOr(null, () => readFileSync(file, "utf8"));
}

function tryOr<T>(other: T, read: () => T): T {
  try {
    return read();
  } catch {
    return other;
  }
}
