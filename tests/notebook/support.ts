import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import { type CodeCell, checkNotebook, type Notebook, type Output } from "../../src/notebook/nbformat.js";

/** A folder far from the repository, gone after the tests of the file. */
export function scratchFolder(): () => Promise<string> {
  let folder: Promise<string> | null = null;
  afterAll(async () => {
    if (folder) await rm(await folder, { recursive: true, force: true });
  });
  return () => {
    folder ??= mkdtemp(join(tmpdir(), "wise-lab-test-"));
    return folder;
  };
}

/** Writes a notebook of code cells; `tags` by cell index. */
export async function writeCells(
  path: string,
  sources: string[],
  tags: Record<number, string[]> = {},
): Promise<string> {
  const cells = sources.map((source, index) => ({
    cell_type: "code",
    id: `c${index + 1}`,
    metadata: tags[index] ? { tags: tags[index] } : {},
    execution_count: null,
    outputs: [],
    source,
  }));
  const kernelspec = { name: "wise-lab", display_name: "TypeScript (wise-lab)", language: "typescript" };
  await mkdir(join(path, ".."), { recursive: true });
  await writeFile(path, JSON.stringify({ nbformat: 4, nbformat_minor: 5, metadata: { kernelspec }, cells }));
  return path;
}

/** The code cells of a notebook file. */
export async function readCells(path: string): Promise<CodeCell[]> {
  return codeCells(checkNotebook(JSON.parse(await readFile(path, "utf8")), path));
}

export function codeCells(notebook: Notebook): CodeCell[] {
  return notebook.cells.filter((cell): cell is CodeCell => cell.cell_type === "code");
}

/** All text that a cell printed. */
export function printed(cell: CodeCell | undefined, name = "stdout"): string {
  return (cell?.outputs ?? []).flatMap((o) => (o.output_type === "stream" && o.name === name ? [o.text] : [])).join("");
}

/** The one error of a cell. */
export function errorOf(cell: CodeCell | undefined): Extract<Output, { output_type: "error" }> {
  const errors = (cell?.outputs ?? []).filter((output) => output.output_type === "error");
  if (errors.length !== 1 || !errors[0]) throw new Error(`expected one error, found ${JSON.stringify(cell?.outputs)}`);
  return errors[0];
}

/** The plain text of the last displayed or returned value. */
export function plainText(cell: CodeCell | undefined): unknown {
  const shown = (cell?.outputs ?? []).flatMap((output) => ("data" in output ? [output.data] : []));
  return shown.at(-1)?.["text/plain"];
}
