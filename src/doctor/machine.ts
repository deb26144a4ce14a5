import { existsSync, readFileSync } from "node:fs";
import { availableParallelism, cpus, release, totalmem, type } from "node:os";
import { type FoundBrowser, findBrowser, prepareBrowser } from "../figures/browser.js";
import { type Answer, ask } from "./ask.js";

export interface MachineFacts {
  os: string;
  cpu: string;
  /** Logical cores that this process may use. */
  cores: number;
  memoryGiB: number;
}

export interface GpuFacts {
  /** One entry a card: name, driver and memory, as nvidia-smi gives them. */
  cards: { name: string; driver: string; memory: string }[];
  /** Failure of nvidia-smi, where it is there but does not work. */
  problem: string | null;
}

export interface BrowserFacts {
  source: FoundBrowser["source"];
  /** As the browser says it; null where it does not start. */
  version: string | null;
}

export interface JupyterFacts {
  /** Version of each part that the commands use; null where that part is missing. */
  notebook: string | null;
  nbconvert: string | null;
}

export function readMachine(): MachineFacts {
  return {
    os: [distribution(), `${type()} ${release().split("-", 1)[0]}`, process.arch].filter(Boolean).join(", "),
    cpu: cpus()[0]?.model.trim() || "unknown",
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
  };
}

/** PRETTY_NAME of https://www.freedesktop.org/software/systemd/man/os-release.html, on Linux. */
function distribution(): string | undefined {
  const file = "/etc/os-release";
  return existsSync(file) ? /^PRETTY_NAME="?([^"\n]+)/m.exec(readFileSync(file, "utf8"))?.[1] : undefined;
}

export async function readGpus(): Promise<GpuFacts> {
  const answer = await ask("nvidia-smi", ["--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]);
  if (answer.kind !== "text") return { cards: [], problem: answer.kind === "failed" ? answer.reason : null };
  const lines = answer.text.split("\n").filter((line) => line !== "");
  const cards = lines.map((line) => {
    const [name = "", driver = "", memory = ""] = line.split(", ");
    return { name, driver, memory };
  });
  return { cards, problem: null };
}

/** The browser that figures are drawn with, started once for its version. Null where there is none. */
export async function readBrowser(): Promise<BrowserFacts | null> {
  const browser = findBrowser();
  if (!browser) return null;
  const { path, env } = await prepareBrowser(browser);
  return { source: browser.source, version: textOf(await ask(path, ["--version"], env)) };
}

/** Null where there is no Jupyter. */
export async function readJupyter(): Promise<JupyterFacts | null> {
  if ((await ask("jupyter", ["--version"])).kind === "absent") return null;
  return {
    notebook: textOf(await ask("jupyter", ["notebook", "--version"])),
    nbconvert: textOf(await ask("jupyter", ["nbconvert", "--version"])),
  };
}

function textOf(answer: Answer): string | null {
  return answer.kind === "text" ? answer.text : null;
}
