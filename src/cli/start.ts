import { existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { basename, join, relative } from "node:path";
import { makeFolder, readJsonFile, writeFileAtomic } from "../core/files.js";
import { backendFor } from "../model/backend.js";
import { openCheckpoint } from "../model/folder.js";
import { readRuns } from "../run/finished.js";
import { DEFAULT_MODEL, projectFile } from "../run/inputs.js";
import { readStudy, studyNamed } from "../run/study.js";
import { renderSummary } from "../tables/format.js";
import type { BackendName } from "../tensor/backend.js";
import { showFirstEdit } from "./first-edit.js";
import { type CellTimes, type NotebookJob, runSideBySide } from "./side-by-side.js";

/** The notebook whose runs are kept in folders, and make the table that is printed at the end. */
const RUNS_NOTEBOOK = "02-t-rollback";

export interface StartArguments {
  out?: string;
  save?: boolean;
  /** End after the edit in the terminal. */
  quick?: boolean;
  backend?: BackendName;
}

/**
 * `npm start`: one edit in the terminal, then all notebooks of the project in the TypeScript kernel, side by side, and at the
 * end the T-rollback table and where everything is.
 * @returns the exit status: 0, or 1 when a cell failed
 */
export async function startCommand(options: StartArguments, signal: AbortSignal): Promise<number> {
  const { config, close } = await openCheckpoint(DEFAULT_MODEL);
  await close();
  const { name, detail } = await backendFor(config, options);
  process.env.WISE_LAB_BACKEND = name; // the kernel is a process of its own and shall take the same one
  console.log(`${detail}\n`);
  await showFirstEdit({ backend: name, signal });
  if (options.quick) return 0;
  const out = await freshFolder(options.out);
  const figures = options.save ? projectFile("figures") : join(out, "figures");
  await makeFolder(figures);
  const names = await projectNotebooks();
  const jobs = names.map((name): NotebookJob => {
    const parameters: Record<string, string> = { figures };
    if (name === RUNS_NOTEBOOK) parameters.runs = join(out, "runs");
    return { name, source: sourceOf(name), output: join(out, `${name}.ipynb`), parameters };
  });
  console.log(`\nthe notebooks, ${names.length} of them:`);
  const times = await runSideBySide(jobs, { times: await readTimes(), signal });
  if (options.save) await saveNotebooks(names, times, signal);
  console.log(`\n${renderSummary(await readRuns(join(out, "runs")), "text")}`);
  console.log(`\nThe whole study, as it stands in data/lab/study (npm run study computes it anew):\n`);
  console.log(renderSummary(await readStudy(), "text", { allow: studyNamed().fields }));
  console.log(`notebooks: ${here(options.save ? projectFile("notebooks") : out)}`);
  console.log(`runs:      ${here(join(out, "runs"))}`);
  console.log(`figures:   ${here(figures)}`);
  return 0;
}

/** Names of the project's notebooks, in order. Each has a parameter `figures`, the folder it saves its figures to. */
async function projectNotebooks(): Promise<string[]> {
  const files = await readdir(projectFile("notebooks"));
  return files
    .filter((file) => /^\d\d-.*(?<!\.executed)\.ipynb$/.test(file)) // not what `wise-lab notebook run` left beside one
    .map((file) => basename(file, ".ipynb"))
    .sort();
}

const sourceOf = (notebook: string) => projectFile("notebooks", `${notebook}.ipynb`);

/** Seconds of the notebooks' cells, measured when they were saved last. */
const timesFile = projectFile("data/notebook-times.json");

async function readTimes(): Promise<CellTimes> {
  return (await readJsonFile(timesFile)) as CellTimes;
}

/** Committed notebooks are those that a reader gets by running them as they are: without parameters. */
async function saveNotebooks(names: readonly string[], times: CellTimes, signal: AbortSignal): Promise<void> {
  const jobs = names.map((name): NotebookJob => ({ name, source: sourceOf(name), output: sourceOf(name) }));
  await runSideBySide(jobs, { times, signal });
  const rounded = Object.entries(times).map(([name, seconds]) => [name, seconds.map((s) => Math.round(10 * s) / 10)]);
  await writeFileAtomic(timesFile, `${JSON.stringify(Object.fromEntries(rounded.sort()), null, 1)}\n`);
}

/** The folder named, or the next free runs/start-N: nothing is ever overwritten. */
async function freshFolder(named: string | undefined): Promise<string> {
  let folder = named;
  for (let n = 1; folder === undefined; n++) {
    const candidate = projectFile("runs", `start-${n}`);
    if (!existsSync(candidate)) folder = candidate;
  }
  await makeFolder(folder);
  return folder;
}

function here(path: string): string {
  const shown = relative(process.cwd(), path);
  return shown.startsWith("..") ? basename(path) : shown;
}
