import { spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { constants } from "node:os";
import { join } from "node:path";
import { lacksLargePages, largePages } from "../core/large-pages.js";
import { hasLargeProducts } from "../model/config.js";

/**
 * Starts a command again in large pages, which only a program's start can ask for, where it loads a large model.
 * @param folder the model's
 * @returns the exit status, or null where the command should go on as it is
 */
export async function startAgain(folder: string): Promise<number | null> {
  if (!lacksLargePages() || !(await isLarge(folder))) return null;
  // In a group of its own, so that a Ctrl-C reaches it once: from here.
  const child = spawn(process.execPath, [...process.execArgv, ...process.argv.slice(1)], {
    stdio: ["inherit", "inherit", "inherit", "ipc"],
    env: { ...process.env, ...largePages() },
    detached: true,
  });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => child.kill(signal));
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (status, signal) => resolve(status ?? 128 + constants.signals[signal as NodeJS.Signals]));
  });
}

/** False also for what is no model: the command says what is wrong. */
async function isLarge(folder: string): Promise<boolean> {
  try {
    const { hidden_size: hiddenSize } = JSON.parse(await readFile(join(folder, "config.json"), "utf8"));
    return hasLargeProducts({ hiddenSize });
  } catch {
    return false;
  }
}
