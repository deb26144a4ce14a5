import { basename, dirname, join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Interrupted, RefusedInput } from "../core/errors.js";
import { requireWritableFolder } from "../core/files.js";
import { KernelClient, KernelDied } from "./client.js";
import { KERNEL_DISPLAY_NAME, KERNEL_NAME } from "./kernelspec.js";
import { type CodeCell, type Notebook, type Output, readNotebook, writeNotebook } from "./nbformat.js";
import { OutputCollector } from "./outputs.js";
import { injectParameters, type ParameterValues } from "./parameters.js";

export interface RunNotebookOptions {
  /** Values for names that the cell tagged `parameters` declares. */
  parameters?: ParameterValues;
  /** Path of the executed notebook; default `NAME.executed.ipynb` beside it. The same path overwrites it in place. */
  output?: string;
  /** Limit for each cell. Default: none. */
  timeoutSeconds?: number;
  /** Go on after a cell with an error, as nbconvert does with --allow-errors. */
  allowErrors?: boolean;
  /** Called before and after each code cell. */
  onCell?: (event: CellEvent) => void;
  /** Stops the run: the cell is interrupted, and what has run is saved. */
  signal?: AbortSignal;
}

export interface CellEvent {
  phase: "start" | "end";
  /** Place among the code cells that will run, from 1, and their number. */
  cell: number;
  cells: number;
  /** Set at the end of a cell that failed. */
  error: string | null;
  /** Set at the end. */
  seconds: number | null;
}

export interface NotebookRun {
  /** Nothing failed, or only cells did and `allowErrors` was given. */
  ok: boolean;
  /** Absolute path of the executed notebook. */
  output: string;
  notebook: Notebook;
  errors: { cell: number; name: string; message: string }[];
}

/** Time a cell that ran into its limit has to stop by itself before the kernel is ended. */
const STOP_GRACE_MS = 10_000;

/**
 * Executes a notebook with the kernel of this package, over the Jupyter protocol; needs no Python and no kernelspec.
 * The output is saved after each cell. Cells run in the notebook's folder. A failed cell ends the run (`ok` is false).
 * @throws {RefusedInput} before anything runs: no notebook, another language, wrong parameters, unwritable output.
 * @throws {Interrupted} when `signal` stopped it.
 */
export async function runNotebook(path: string, options: RunNotebookOptions = {}): Promise<NotebookRun> {
  const source = await readNotebook(path);
  refuseForeignLanguage(source, path);
  const prepared = injectParameters(source, options.parameters ?? {}, path);
  const output = resolve(options.output ?? join(dirname(path), `${basename(path, ".ipynb")}.executed.ipynb`));
  await requireWritableFolder(dirname(output));
  const notebook = withoutOutputs(prepared);
  const kernel = await KernelClient.start(resolve(dirname(path)));
  try {
    describeKernel(notebook, kernel.info);
    return await runCells({ kernel, notebook, output, options });
  } finally {
    await kernel.close();
  }
}

interface Run {
  kernel: KernelClient;
  notebook: Notebook;
  output: string;
  options: RunNotebookOptions;
}

async function runCells({ kernel, notebook, output, options }: Run): Promise<NotebookRun> {
  const { onCell, signal } = options;
  const collector = new OutputCollector();
  const errors: NotebookRun["errors"] = [];
  let fatal = false;
  await writeNotebook(output, notebook);
  const cells = notebook.cells.filter(
    (cell): cell is CodeCell => cell.cell_type === "code" && cell.source.trim() !== "",
  );
  for (const [index, cell] of cells.entries()) {
    if (fatal || signal?.aborted || (errors.length > 0 && !options.allowErrors)) break;
    const place = { cell: index + 1, cells: cells.length };
    onCell?.({ phase: "start", ...place, error: null, seconds: null });
    const startedAt = performance.now();
    const failure = await runCell(kernel, cell, collector, options);
    fatal = failure?.fatal ?? false;
    if (failure) errors.push({ cell: index + 1, name: failure.name, message: failure.message });
    await writeNotebook(output, notebook);
    const error = failure ? `${failure.name}: ${failure.message}` : null;
    onCell?.({ phase: "end", ...place, error, seconds: (performance.now() - startedAt) / 1000 });
  }
  if (signal?.aborted) throw new Interrupted(`the notebook was stopped; what has run is in ${output}`);
  return { ok: errors.length === 0 || (options.allowErrors === true && !fatal), output, notebook, errors };
}

interface CellFailure {
  name: string;
  message: string;
  /** The kernel is gone: no other cell can run. */
  fatal: boolean;
}

async function runCell(
  kernel: KernelClient,
  cell: CodeCell,
  collector: OutputCollector,
  options: RunNotebookOptions,
): Promise<CellFailure | null> {
  const limit = limitTime(kernel, options);
  collector.begin(cell);
  try {
    const onOutput = (message: Parameters<OutputCollector["take"]>[0]) => collector.take(message);
    const { content } = await kernel.execute(cell.source, { stopOnError: !options.allowErrors, onOutput });
    if (content.status !== "error" || limit.stoppedBy() === "user") return null;
    const failure = { name: String(content.ename), message: String(content.evalue), fatal: false };
    return limit.stoppedBy() === "time" ? timeFailure(cell, options, false) : failure;
  } catch (error) {
    if (!(error instanceof KernelDied)) throw error;
    if (limit.stoppedBy() === "time") return timeFailure(cell, options, true);
    addError(cell, error.name, error.message);
    return { name: error.name, message: error.message, fatal: true };
  } finally {
    limit.end();
  }
}

/** Interrupts the cell at its time limit or at the user's wish, and ends the kernel where that does not help. */
function limitTime(kernel: KernelClient, { timeoutSeconds, signal }: RunNotebookOptions) {
  const ended = new AbortController();
  let stoppedBy: "time" | "user" | null = null;
  const stop = async (by: "time" | "user") => {
    stoppedBy ??= by;
    kernel.interrupt();
    await sleep(STOP_GRACE_MS, undefined, { signal: ended.signal });
    kernel.kill();
  };
  const ignoreEnd = () => undefined; // the sleep was cut short: the cell stopped
  const onAbort = () => void stop("user").catch(ignoreEnd);
  signal?.addEventListener("abort", onAbort);
  const timer =
    timeoutSeconds === undefined
      ? undefined
      : setTimeout(() => void stop("time").catch(ignoreEnd), timeoutSeconds * 1000);
  return {
    stoppedBy: (): "time" | "user" | null => stoppedBy,
    end() {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
      ended.abort();
    },
  };
}

function timeFailure(cell: CodeCell, { timeoutSeconds }: RunNotebookOptions, fatal: boolean): CellFailure {
  const failure = { name: "TimeLimit", message: `the cell ran longer than ${timeoutSeconds} s`, fatal };
  addError(cell, failure.name, failure.message);
  return failure;
}

function addError(cell: CodeCell, ename: string, evalue: string): void {
  const error: Output = { output_type: "error", ename, evalue, traceback: [`${ename}: ${evalue}`] };
  cell.outputs.push(error);
}

function refuseForeignLanguage({ metadata }: Notebook, path: string): void {
  const { language, name } = (metadata.kernelspec ?? {}) as { language?: string; name?: string };
  if (language === undefined || language === "typescript") return;
  throw new RefusedInput("a notebook is of another language", {
    where: path,
    found: `kernel ${name}, language ${language}`,
    expected: `language typescript (kernel ${KERNEL_NAME})`,
  });
}

function withoutOutputs(notebook: Notebook): Notebook {
  const cells = notebook.cells.map((cell) =>
    cell.cell_type === "code" ? { ...cell, outputs: [], execution_count: null } : cell,
  );
  return { ...notebook, cells, metadata: { ...notebook.metadata } };
}

/** Writes the metadata that Jupyter would write into the notebook; nothing of this machine. */
function describeKernel(notebook: Notebook, info: Record<string, unknown>): void {
  notebook.metadata.kernelspec = { display_name: KERNEL_DISPLAY_NAME, language: "typescript", name: KERNEL_NAME };
  notebook.metadata.language_info = info.language_info;
}
