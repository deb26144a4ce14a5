import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { RefusedInput } from "../core/errors.js";

const UNWRITTEN_TRIES = 40; // a lock is empty between its making and its first write: 2 seconds, then nobody writes it
const UNWRITTEN_WAIT_MS = 50;

/**
 * Takes a run folder for this process. A lock left by a process that is gone is taken over.
 * @returns function that frees it
 * @throws {RefusedInput} when another process has it
 */
export function lockFolder(path: string): () => void {
  const file = join(path, "run.lock");
  for (let tries = 0; ; tries++) {
    try {
      writeFileSync(file, identityOf(process.pid), { flag: "wx" });
      return () => rmSync(file, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
    const owner = textOf(file);
    if (owner === "" && tries < UNWRITTEN_TRIES) {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, UNWRITTEN_WAIT_MS);
      continue;
    }
    const pid = Number.parseInt(owner, 10);
    if (isRunning(pid) && identityOf(pid) === owner) {
      throw new RefusedInput("the run folder is in use", {
        where: file,
        found: `process ${pid} is writing to it`,
        expected: "one process per run folder",
        hint: "another --out folder, or wait for that process",
      });
    }
    takeAway(file, owner);
  }
}

/** Takes away a lock that was left behind; not one that another process has put in its place meanwhile. */
function takeAway(file: string, left: string): void {
  const aside = `${file}.${process.pid}.part`;
  try {
    renameSync(file, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return; // another process was faster
    throw error;
  }
  if (textOf(aside) === left) rmSync(aside);
  else renameSync(aside, file);
}

/**
 * A process by its number and, where the system tells it (Linux), its start: numbers are used again, in containers soon.
 * One that was killed and that nobody has waited for still has its number, and is no owner any more.
 */
function identityOf(pid: number): string {
  const status = textOf(`/proc/${pid}/stat`);
  const fields = status.slice(status.lastIndexOf(")") + 2).split(" "); // of proc(5), from field 3 on
  const start = fields[0] === "Z" ? "ended" : fields[19];
  return `${pid} ${start ?? ""}\n`;
}

function isRunning(pid: number): boolean {
  if (!Number.isInteger(pid)) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

function textOf(file: string): string {
  return existsSync(file) ? readFileSync(file, "utf8") : "";
}
