import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { constants } from "node:os";
import { join } from "node:path";
import { lacksLargePages, largePages } from "../core/large-pages.js";
import { hasLargeProducts } from "../model/config.js";

/**
 * Starts a command again in large pages, which only a program's start can ask for, where it loads a large model.
 * This process then ends with it.
 * @param folder the model's
 */
export async function startAgain(folder: string): Promise<void> {
  if (!lacksLargePages() || !(await isLarge(folder))) return;
  // In a group of its own, so that a Ctrl-C reaches it once: from here.
  const child = spawn(process.execPath, [...process.execArgv, ...process.argv.slice(1)], {
    stdio: ["inherit", "inherit", "inherit", "ipc"],
    env: { ...process.env, ...largePages() },
    detached: true,
  });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR2"] as const)
    process.on(signal, () => child.kill(signal));
  const [status, killed] = (await once(child, "close")) as [number | null, NodeJS.Signals];
  process.exit(status ?? 128 + constants.signals[killed]);
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
