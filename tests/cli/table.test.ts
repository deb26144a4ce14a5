import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, test, vi } from "vitest";
import { type TableArguments, tableCommand } from "../../src/cli/table.js";
import { STUDY_FOLDER } from "../../src/run/study.js";
import { refusal, temporaryFolder } from "../model/support.js";
import { scratchFolder } from "../notebook/support.js";
import { openQuickLab, wiseLab } from "../run/support.js";

const study = (name: string) => join(STUDY_FOLDER, `${name}.json`);

const scratch = scratchFolder();
let runs: string;
beforeAll(async () => {
  runs = await scratch();
  const lab = await openQuickLab();
  for (const T of [1, 2] as const) await lab.run({ T, limit: 3, out: join(runs, `T${T}`) });
  lab.close();
});

/** What the command writes to a file, in this process. */
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
    const names = ["T10-retrieve", "T10-merge", "T1000-retrieve", "T1000-merge"].map(study);
    const text = await table(names, { format: "markdown", allow: ["options.retrieve"] });
    expect(text).toMatch(/^\| T \| memories \| Records \|/);
    expect(text).toMatch(/^\| 10 \| Retrieve \| 1037 \|.*\n\| 10 \| Merge \| 1037 \|/m);
  });

  test("writes LaTeX: best and second within one T, intervals, and the protocol as caption", async () => {
    const names = ["T10-retrieve", "T10-merge", "T1000-retrieve", "T1000-merge"].map(study);
    const latex = await table(names, { format: "latex", allow: ["options.retrieve"] });
    const rows = latex.split("\n").filter((line) => /^ +10+ & (Retrieve|Merge) & 1037 & /.test(line));
    expect(rows).toHaveLength(4);
    expect(rows[0]).not.toContain("\\textbf"); // both ways are alike at T = 10
    expect(rows[2]).toContain("& \\textbf{0.565} {\\scriptsize [0.546, 0.584]} &");
    expect(rows[3]).toContain("& \\underline{0.526} {\\scriptsize [");
    expect(latex).toMatch(/\\toprule[\s\S]*\\midrule[\s\S]*\\midrule[\s\S]*\\bottomrule/);
    expect(latex).toMatch(/\\caption\{.*T = 10, 1000, scored after-all.*seed 0/);
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
    const unlike = [study("T1-retrieve"), join(runs, "T1")];
    const text = await table(unlike, { mark: true });
    expect(text).toMatch(/^T +mark +Records/);
    expect(text).toMatch(/^1 +a +3 /m);
    expect(text).toMatch(/^a: data is .*model is tiny-llama3, not lab-llama/m);
    const latex = await table(unlike, { mark: true, format: "latex" });
    expect(latex).toMatch(/\\caption\{.* a: data is /);
    expect(latex).not.toMatch(/textbf|underline/);
  });
});

describe("wise-lab table refuses", () => {
  test.each<[string, () => string[], Partial<TableArguments>, { where: RegExp; found: string; expected: RegExp }]>([
    [
      "runs of unlike protocols",
      () => [study("T1-retrieve"), study("T1-merge")],
      {},
      {
        where: /^run 2, compared with run 1/,
        found: "options.retrieve is false, not true",
        expected: /method, T, when/,
      },
    ],
    [
      "a field that no run has",
      () => [study("T1-retrieve")],
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
      () => [study("T1-retrieve")],
      { kind: "cases" },
      { where: /--kind cases/, found: "summary", expected: /the run's folder/ },
    ],
    [
      "a folder without a finished run",
      () => [STUDY_FOLDER],
      {},
      { where: /study/, found: "no run folder", expected: /the summary of a run/ },
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
