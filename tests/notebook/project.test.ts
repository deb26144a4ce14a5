import { join } from "node:path";
import { describe, expect, it, vi } from "vitest";
import type { CodeCell } from "../../src/notebook/nbformat.js";
import { runNotebook } from "../../src/notebook/run.js";
import { TINY_MODEL, TINY_RECORDS } from "../run/support.js";
import { repository } from "../support/shared.js";
import { codeCells, plainText, printed, scratchFolder } from "./support.js";

const folder = scratchFolder();

vi.setConfig({ testTimeout: 180_000 }); // kernels start in seconds, on a busy machine in many

/** Executes a notebook of the project with other parameters, beside the original. @returns its cells */
async function execute(name: string, parameters: Record<string, string | number>): Promise<CodeCell[]> {
  const output = join(await folder(), `${name}.ipynb`);
  const { errors, notebook } = await runNotebook(join(repository, "notebooks", `${name}.ipynb`), {
    output,
    parameters,
  });
  expect(errors).toEqual([]);
  return codeCells(notebook);
}

/** A model that edits in no time, and records that fit it. */
const tiny = { model: TINY_MODEL, data: TINY_RECORDS };

/** All that cells printed. */
const textOf = (cells: readonly CodeCell[]) => cells.map((cell) => printed(cell)).join("");

describe("the notebooks on another model, named by one parameter", () => {
  it("01-one-edit", async () => {
    const text = textOf(await execute("01-one-edit", { model: TINY_MODEL, settings: "n_iter=3" }));
    expect(text).toContain("tiny-llama3: 4 layers, WISE at layer 2");
    expect(text).toContain("as before the edit");
  });

  it("02-t-rollback, on other records", async () => {
    const other = { ...tiny, settings: "n_iter=2", limit: 2, Ts: "1 all" };
    const text = textOf(await execute("02-t-rollback", other));
    expect(text).toContain("tiny-llama3, WISE at layer 2");
    expect(text).toContain("npm run study"); // where the numbers of the whole study come from
  });
});

it("06-methods reads the study and sends one record through the methods named", async () => {
  const text = textOf(await execute("06-methods", { model: TINY_MODEL, methods: "wise ft-m" }));
  expect(text).toMatch(/^\d+ methods; not run yet: /m);
  expect(text).toMatch(/^T = 1, \d+ methods: first here .*; first as published /m);
  expect(text).toContain("\\begin{tabular}");
});

it("every-method runs, too, which npm start leaves out", async () => {
  const cells = await execute("every-method", { ...tiny, methods: "wise ft-m", limit: 2, Ts: "1 2" });
  expect(textOf(cells)).toContain("before: ");
  expect(plainText(cells.at(-2))).toMatch(/^ *method +T .*\n.*\n *wise +1 .*\n *wise +2 .*\n *ft-m +1 .*\n *ft-m +2 /);
});
