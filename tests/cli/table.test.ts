import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, test, vi } from "vitest";
import { type TableArguments, tableCommand } from "../../src/cli/table.js";
import { summarizeRun } from "../../src/run/summary.js";
import { writeRunSummary } from "../../src/run/summary-file.js";
import { refusal, temporaryFolder } from "../model/support.js";
import { scratchFolder } from "../notebook/support.js";
import { openQuickLab, wiseLab } from "../run/support.js";
import { golden } from "../support/shared.js";

const scratch = scratchFolder();
/** A folder with two runs in it, T1 and T2. */
let runs: string;
/** Summaries of T2 and of the same run with merged memories. */
let retrieve: string;
let merge: string;
beforeAll(async () => {
  runs = join(await scratch(), "runs");
  const lab = await openQuickLab();
  for (const T of [1, 2]) await lab.run({ T, limit: 3, out: join(runs, `T${T}`) });
  lab.close();
  const merging = await openQuickLab("retrieve=false");
  const merged = join(await scratch(), "merged");
  await merging.run({ T: 2, limit: 3, out: merged });
  merging.close();
  retrieve = await summaryOf(join(runs, "T2"), "retrieve");
  merge = await summaryOf(merged, "merge");
});

async function summaryOf(folder: string, name: string): Promise<string> {
  const path = join(await scratch(), `${name}.json`);
  await writeRunSummary(await summarizeRun(folder, "wise-lab run --T 2"), path);
  return path;
}

/** Text that the command writes to a file, in this process. */
async function table(paths: string[], options: Partial<TableArguments> = {}): Promise<string> {
  const out = join(await temporaryFolder(), "tables", "table");
  const silent = vi.spyOn(console, "error").mockImplementation(() => undefined);
  expect(await tableCommand(paths, { format: "text", kind: "methods", out, ...options })).toBe(0);
  silent.mockRestore();
  return readFile(out, "utf8");
}

describe("wise-lab table", () => {
  test("prints a row per run of a folder, and their protocol", async () => {
    const { status, stdout, stderr } = await wiseLab("table", runs);
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout.split("\n").slice(0, 4)).toEqual([
      expect.stringMatching(/^T +Records +Blocks +Rewrite /),
      expect.stringMatching(/^-/),
      expect.stringMatching(/^1 +3 +3 +\d\.\d{3} \[/),
      expect.stringMatching(/^2 +3 +2 +\d\.\d{3} \[/),
    ]);
    expect(stdout).toMatch(/T = 1, 2, scored after-all.*wise on tiny-llama3/);
  });

  test("prints CSV and nothing else, with the protocol on the other stream", async () => {
    const { status, stdout, stderr } = await wiseLab("table", join(runs, "T2"), "--format", "csv", "--kind", "cases");
    expect(status).toBe(0);
    expect(stdout).toMatch(/^record,block,subject,prompt,answer,/);
    expect(stdout.trim().split("\n")).toHaveLength(4);
    expect(stderr).toMatch(/T = 2, scored after-all/);
  });

  test("takes summaries, and says how memories are kept", async () => {
    const text = await table([retrieve, merge], { format: "markdown", allow: ["options.retrieve"] });
    expect(text).toMatch(/^\| T \| memories \| Records \|/);
    expect(text).toMatch(/^\| 2 \| Retrieve \| 3 \|.*\n\| 2 \| Merge \| 3 \|/m);
  });

  test("writes LaTeX: a group per T, intervals, and the protocol as caption", async () => {
    const paths = [join(runs, "T1"), retrieve, merge];
    const latex = await table(paths, { format: "latex", allow: ["options.retrieve"] });
    const rows = latex.split("\n").map((line) => line.trim());
    expect(rows.slice(rows.indexOf("\\midrule"), rows.indexOf("\\bottomrule"))).toEqual([
      "\\midrule",
      expect.stringMatching(/^1 & Retrieve & 3 & .*\d\.\d{3}\}? \{\\scriptsize \[\d\.\d{3}, \d\.\d{3}\]\} .*\\\\$/),
      "\\midrule",
      expect.stringMatching(/^2 & Retrieve & 3 & /),
      expect.stringMatching(/^2 & Merge & 3 & /),
    ]);
    expect(latex).toMatch(/\\caption\{.*T = 1, 2, scored after-all.*seed 0/);
    expect(latex).toContain("\\label{tab:methods}");
  });

  test.each(["text", "markdown", "csv", "latex"] as const)(
    "shows blocks and cases of one run as %s",
    async (format) => {
      const [blocks, cases] = [
        await table([join(runs, "T2")], { format, kind: "blocks" }),
        await table([join(runs, "T2")], { format, kind: "cases" }),
      ];
      for (const text of [blocks, cases]) expect(text).toMatch(/rewrite.*locality/);
      for (const text of [blocks, cases]) expect(text.includes("seed 0")).toBe(format !== "csv");
      expect(blocks).toMatch(/^ *\|? ?1[^\d\n]+2[^\d\n]+2[^\d\n]+1/m); // block 1: from record 2 to 2, one record
      expect(cases).toContain("In which city was Tadeo Quill born?");
    },
  );

  test("marks runs of unlike protocols, ranks them apart, and explains each mark", async () => {
    const text = await table([retrieve, merge], { mark: true });
    expect(text).toMatch(/^T +mark +Records/);
    expect(text).toMatch(/^2 +a +3 /m);
    expect(text).toMatch(/^a: options\.retrieve is false, not true$/m);
    const latex = await table([retrieve, merge], { mark: true, format: "latex" });
    expect(latex).toMatch(/\\caption\{.* a: options\.retrieve is false, not true/);
    expect(latex).not.toMatch(/textbf|underline/);
  });
});

describe("wise-lab table refuses", () => {
  test.each<[string, () => string[], Partial<TableArguments>, { where: RegExp; found: string; expected: RegExp }]>([
    [
      "runs of unlike protocols",
      () => [retrieve, merge],
      {},
      {
        where: /^run 2, compared with run 1/,
        found: "options.retrieve is false, not true",
        expected: /method, T, when/,
      },
    ],
    [
      "a field that no run has",
      () => [retrieve],
      { allow: ["options.retreive"] },
      { where: /--allow/, found: "options.retreive", expected: /options\.NAME/ },
    ],
    [
      "several runs where one is shown",
      () => [runs],
      { kind: "blocks" },
      { where: /--kind blocks/, found: "2 runs", expected: /one run/ },
    ],
    [
      "cases of a summary",
      () => [retrieve],
      { kind: "cases" },
      { where: /--kind cases/, found: "summary", expected: /the run's folder/ },
    ],
    [
      "a folder without a finished run",
      () => [golden],
      {},
      { where: /golden/, found: "no run folder", expected: /the summary of a run/ },
    ],
    ["a path that is not there", () => ["no-such-run"], {}, { where: /no-such-run/, found: "ENOENT", expected: /run/ }],
  ])("%s", async (_, paths, options, { where, found, expected }) => {
    const error = await refusal(() => table(paths(), options));
    expect(error.where).toMatch(where);
    expect(String(error.found)).toContain(found);
    expect(error.expected).toMatch(expected);
  });

  test("an unknown format and no run, with status 1", async () => {
    const [format, nothing] = await Promise.all([wiseLab("table", runs, "--format", "html"), wiseLab("table")]);
    expect([format.status, nothing.status]).toEqual([1, 1]);
    expect(format.stderr).toMatch(/Allowed choices are text, markdown, csv, latex/);
    expect(nothing.stderr).toMatch(/missing required argument 'run'/);
  });
});
