import { join } from "node:path";
import { afterEach, expect, test, vi } from "vitest";
import { showFirstEdit } from "../../src/cli/first-edit.js";
import { type NotebookJob, runSideBySide } from "../../src/cli/side-by-side.js";
import { printed, readCells, scratchFolder, writeCells } from "../notebook/support.js";

const folder = scratchFolder();
vi.setConfig({ testTimeout: 180_000 }); // kernels start in seconds, on a busy machine in many

/** All that is printed meanwhile. */
function listen(): string[] {
  const lines: string[] = [];
  vi.spyOn(console, "log").mockImplementation((line: string) => void lines.push(line));
  return lines;
}

afterEach(() => vi.restoreAllMocks());

const never = new AbortController().signal;

test("one edit in the terminal: answers before, every step, what answers after it, and the rollback", async () => {
  const lines = listen();
  await showFirstEdit({ backend: "wasm", signal: never });
  const text = lines.join("\n");
  expect(text.match(/Skisod Mills +\(from the side memory\)/g)).toHaveLength(1);
  expect(text.match(/Broltomb/g)).toHaveLength(3); // the unrelated answer, never another
  expect(text).toMatch(/Broltomb +\(from the untouched model\)/);
  expect(text.match(/step +\d+ +loss +[\d.]+ +fine-tuning [\d.]+, routing [\d.]+/g)).toHaveLength(10);
  expect(text).toContain("word for word the answers of before");
});

/** Notebooks of these cells, ready to be executed. */
async function jobsOf(cells: Readonly<Record<string, string[]>>): Promise<NotebookJob[]> {
  const place = await folder();
  return Promise.all(
    Object.entries(cells).map(async ([name, sources]) => ({
      name,
      source: await writeCells(join(place, `${name}.source.ipynb`), sources),
      output: join(place, `${name}.ipynb`),
    })),
  );
}

test("notebooks run side by side, with a line for every cell and the time left", async () => {
  const jobs = await jobsOf({
    a: ["console.log(1 + 1)", "await new Promise((done) => setTimeout(done, 1500))"],
    b: ["40 + 2"],
  });
  const lines = listen();
  const taken = await runSideBySide(jobs, { times: { a: [1, 30], b: [1] }, signal: never });
  expect({ a: taken.a?.length, b: taken.b?.length }).toEqual({ a: 2, b: 1 });
  expect(lines).toHaveLength(3);
  expect(lines.find((line) => /^a +cell +1 of 2/.test(line))).toMatch(/ left$/);
  const [first] = jobs as [NotebookJob];
  const cells = await readCells(first.output);
  expect(cells.map((cell) => printed(cell)).join("")).toBe("2\n");
});

test("a cell that fails ends them all, and is named", async () => {
  const jobs = await jobsOf({
    long: ["await new Promise((done) => setTimeout(done, 120_000))", "0"],
    wrong: ['throw new Error("no such fact")'],
  });
  listen();
  await expect(runSideBySide(jobs, { times: {}, signal: never })).rejects.toThrow(
    /wrong.ipynb, cell 1: Error: no such fact/,
  );
});
