import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { largePages } from "./large-pages.js";

const LAST_CHARACTERS = 2000; // of what a failed process said: its error, not its progress before

/**
 * Starts a process that works for this one. Its group is its own, because a terminal's Ctrl-C goes to the whole group, and a signal
 * handler inside a product of native TensorFlow corrupts its memory: it is stopped by SIGKILL, which has no handler, and
 * sees by its channel or its stdin when this one is gone.
 * @param options `stdio[2]` must be "pipe"
 * @param onEnd told once, with null where its status is 0, else with what it wrote last
 */
export function startChild(
  [command, ...args]: readonly [string, ...string[]],
  options: SpawnOptions,
  onEnd: (problem: string | null) => void,
): ChildProcess {
  const child = spawn(command, args, {
    ...options,
    env: { ...(options.env ?? process.env), ...largePages() },
    detached: true,
    killSignal: "SIGKILL",
  });
  let said = "";
  const hear = (text: string) => {
    said = (said + text).slice(-LAST_CHARACTERS);
  };
  child.stderr?.setEncoding("utf8").on("data", hear);
  child.on("error", ({ message }) => hear(message));
  child.on("close", (status, killed) => {
    onEnd(status === 0 ? null : said.trim() || `ended by ${killed ?? `status ${status}`}`);
  });
  return child;
}

/** True if there is such a process. One that has ended stays until its parent asks for its status. */
export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
