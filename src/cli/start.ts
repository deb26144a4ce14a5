import { existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { basename, join, relative } from "node:path";
import { LabFailure } from "../core/errors.js";
import { makeFolder } from "../core/files.js";
import { runNotebook } from "../notebook/run.js";
import { renderSummary } from "../report/format.js";
import { readRuns } from "../report/measured.js";
import { projectFile } from "../run/inputs.js";
import { readStudy, studyFields } from "../run/study.js";
import { type BackendName, selectBackend } from "../tensor/backend.js";

/** The notebook whose runs are kept in folders, and make the table that is printed at the end. */
const RUNS_NOTEBOOK = "02-t-rollback";

export interface StartArguments {
  out?: string;
  save?: boolean;
  backend?: BackendName;
}

/**
 * `npm start`: executes all notebooks of the project in the TypeScript kernel, in the order of their names, then prints the T-rollback table and where everything is.
 * @returns the exit status: 0, or 1 when a cell failed
 */
export async function startCommand(options: StartArguments, signal: AbortSignal): Promise<number> {
  const { name, detail } = await selectBackend(options.backend);
  process.env.WISE_LAB_BACKEND = name; // the kernel is a process of its own and shall take the same one
  console.log(detail);
  const out = await freshFolder(options.out);
  const figures = options.save ? projectFile("figures") : join(out, "figures");
  await makeFolder(figures);
  for (const notebook of await projectNotebooks()) {
    const parameters: Record<string, string> = { figures };
    if (notebook === RUNS_NOTEBOOK) parameters.runs = join(out, "runs");
    await execute(notebook, { output: join(out, `${notebook}.ipynb`), parameters, signal });
    // Committed notebooks are those that a reader gets by running them as they are: without parameters.
    if (options.save) await execute(notebook, { output: projectFile("notebooks", `${notebook}.ipynb`), signal });
  }
  console.log(`\n${renderSummary(await readRuns(join(out, "runs")), "text")}`);
  console.log(`\nThe whole study, as it stands in data/lab/study (npm run study computes it anew):\n`);
  console.log(renderSummary(await readStudy(), "text", { allow: studyFields }));
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

/** @throws {LabFailure} naming the first cell that failed */
async function execute(
  notebook: string,
  run: { output: string; parameters?: Record<string, string>; signal: AbortSignal },
): Promise<void> {
  const source = projectFile("notebooks", `${notebook}.ipynb`);
  console.log(`running ${here(source)}`);
  const { errors } = await runNotebook(source, run);
  const [failed] = errors;
  if (failed) throw new LabFailure(`${here(run.output)}, cell ${failed.cell}: ${failed.name}: ${failed.message}`);
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
