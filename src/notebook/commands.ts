import { RefusedInput } from "../core/errors.js";
import { installKernel, type KernelspecOptions, kernelspecFolder, uninstallKernel } from "./kernelspec.js";
import { formatDuration } from "./progress.js";
import { type CellEvent, runNotebook } from "./run.js";

/** Options of `wise-lab notebook run`, as the command line gives them. */
export interface NotebookRunArguments {
  /** `--param NAME=VALUE`, once for each. */
  param?: readonly string[];
  out?: string;
  allowErrors?: boolean;
  /** Seconds for each cell. */
  timeout?: string;
  signal?: AbortSignal;
}

/** `wise-lab kernel install|uninstall|path`. @returns the line to print. */
export async function kernelCommandLine(
  action: "install" | "uninstall" | "path",
  options: KernelspecOptions,
): Promise<string> {
  switch (action) {
    case "install":
      return `kernel installed in ${await installKernel(options)}`;
    case "uninstall": {
      const folder = await uninstallKernel(options);
      return folder ? `kernel removed from ${folder}` : `no kernel was installed in ${kernelspecFolder(options)}`;
    }
    case "path":
      return kernelspecFolder(options);
  }
}

/** `wise-lab notebook run FILE`. Prints a line for each cell. @returns the exit status: 0, or 1 after an error. */
export async function notebookRunCommand(file: string, given: NotebookRunArguments): Promise<number> {
  const run = await runNotebook(file, {
    parameters: readParameters(given.param ?? []),
    allowErrors: given.allowErrors ?? false,
    onCell: printCell,
    ...(given.out === undefined ? {} : { output: given.out }),
    ...(given.timeout === undefined ? {} : { timeoutSeconds: readSeconds(given.timeout) }),
    ...(given.signal === undefined ? {} : { signal: given.signal }),
  });
  console.log(run.output);
  return run.ok ? 0 : 1;
}

function printCell({ phase, cell, cells, error, seconds }: CellEvent): void {
  if (phase === "start") return;
  const time = formatDuration((seconds ?? 0) * 1000);
  console.error(
    `cell ${cell}/${cells}  ${error === null ? "done" : "FAILED"}  ${time}${error === null ? "" : `\n${error}`}`,
  );
}

/** @throws {RefusedInput} for a text without `=` or a name given twice. */
function readParameters(texts: readonly string[]): Record<string, string> {
  const values = Object.create(null) as Record<string, string>; // every name is its own, __proto__ too
  for (const text of texts) {
    const [, name, value] = /^([\p{ID_Start}$_][\p{ID_Continue}$]*)=(.*)$/su.exec(text) ?? [];
    if (name === undefined || value === undefined) {
      throw new RefusedInput("a parameter is not understood", {
        where: "--param",
        found: text,
        expected: "NAME=VALUE",
      });
    }
    if (name in values) {
      throw new RefusedInput("a parameter is given twice", {
        where: "--param",
        found: text,
        expected: "each name once",
      });
    }
    values[name] = value;
  }
  return values;
}

function readSeconds(text: string): number {
  const seconds = Number(text);
  if (Number.isFinite(seconds) && seconds > 0) return seconds;
  throw new RefusedInput("a time limit is not understood", {
    where: "--timeout",
    found: text,
    expected: "seconds above 0",
  });
}
