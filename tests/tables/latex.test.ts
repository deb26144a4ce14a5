import { spawnSync } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { RefusedInput } from "../../src/core/errors.js";
import { publishedCaption, publishedFrame, readPublished } from "../../src/published/published.js";
import type { ScoredRun } from "../../src/run/types.js";
import { escapeLatex, summaryLatex, toLatex } from "../../src/tables/latex.js";
import { caption } from "../../src/tables/protocols.js";
import { frameOf, type SummaryOptions, summaryFrame } from "../../src/tables/tables.js";
import { requires } from "../support/requires.js";
import { sampleRun } from "./sample.js";

const scores = frameOf(
  [
    { set: "A", method: "one", rewrite: 0.9804, perplexity: 3, edits: 10 },
    { set: "A", method: "two", rewrite: 0.98, perplexity: 2, edits: 9 },
    { set: "A", method: "three", rewrite: 0.5, perplexity: null, edits: 8 },
    { set: "B", method: "one", rewrite: 0.2, perplexity: 4, edits: 7 },
    { set: "B", method: "two", rewrite: 0.1, perplexity: 4, edits: 6 },
  ],
  "rows",
);
const about = { caption: "Scores", label: "tab:scores" };

/** Lines of the table between its head and its end, without blanks in front. */
function body(latex: string): string[] {
  const lines = latex.split("\n").map((line) => line.trim());
  return lines.slice(lines.indexOf("\\midrule") + 1, lines.indexOf("\\bottomrule"));
}

describe("toLatex", () => {
  it("writes a whole table", () => {
    const frame = frameOf(
      [{ method: "WISE", T: 10, rewrite: 0.9, rewriteLow: 0.85, rewriteHigh: 0.95, rewriteRecords: 7 }],
      "rows",
    );
    expect(toLatex(frame, { ...about, columns: ["method", "T", { name: "rewrite", head: "Rel. [95%]" }] })).toBe(
      [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}[t]",
        "  \\centering",
        "  \\caption{Scores}",
        "  \\label{tab:scores}",
        "  \\begin{tabular}{lrr}",
        "    \\toprule",
        "    method & T & Rel. {[}95\\%{]} \\\\",
        "    \\midrule",
        "    WISE & 10 & 0.900 {\\scriptsize [0.850, 0.950]} \\\\",
        "    \\bottomrule",
        "  \\end{tabular}",
        "\\end{table}",
        "",
      ].join("\n"),
    );
  });

  it("marks best and second of each group, whatever prints alike alike", () => {
    expect(
      body(
        toLatex(scores, {
          ...about,
          columns: ["method", "rewrite", "perplexity", "edits"],
          groupBy: ["set"],
          digits: 2,
        }),
      ),
    ).toEqual([
      "one & \\textbf{0.98} & \\underline{3.00} & 10 \\\\",
      "two & \\textbf{0.98} & \\textbf{2.00} & 9 \\\\",
      "three & \\underline{0.50} & -- & 8 \\\\",
      "\\midrule",
      "one & \\textbf{0.20} & 4.00 & 7 \\\\",
      "two & \\underline{0.10} & 4.00 & 6 \\\\",
    ]);
  });

  it("takes another word on what is best", () => {
    const columns = [
      { name: "rewrite", best: "none" },
      { name: "edits", best: "lower" },
    ] as const;
    expect(body(toLatex(scores, { ...about, columns, digits: 1 }))).toEqual([
      "1.0 & 10.0 \\\\",
      "1.0 & 9.0 \\\\",
      "0.5 & 8.0 \\\\",
      "0.2 & \\underline{7.0} \\\\",
      "0.1 & \\textbf{6.0} \\\\",
    ]);
  });

  it("never calls a NaN best", () => {
    const frame = frameOf([{ rewrite: Number.NaN }, { rewrite: 0.25 }, { rewrite: -0.5 }], "rows");
    expect(body(toLatex(frame, { ...about, digits: 2 }))).toEqual([
      "NaN \\\\",
      "\\textbf{0.25} \\\\",
      "\\underline{$-$0.50} \\\\",
    ]);
  });

  it("shows the intervals of a summary with their means, and the same bytes each time", () => {
    const runs = [sampleRun({ T: 1 }), sampleRun({ T: 10 })];
    const write = () =>
      toLatex(summaryFrame(runs), { caption: caption(runs), label: "tab:summary", groupBy: ["method"] });
    const latex = write();
    expect(latex).toMatch(/\\textbf\{\d\.\d{3}\} \{\\scriptsize \[\d\.\d{3}, \d\.\d{3}\]\}/);
    expect(latex).not.toMatch(/rewriteLow|localityRecords/);
    expect(latex).toContain("seed 7");
    expect(write()).toBe(latex);
  });

  it("ranks runs of a summary within one T, and never across protocols", () => {
    const isRanked = (runs: ScoredRun[], options: SummaryOptions = {}) =>
      /textbf|underline/.test(summaryLatex(runs, { label: "tab:summary", ...options }));
    const [one, ten] = [sampleRun({ T: 1 }), sampleRun({ T: 10 })];
    const merged = sampleRun({ T: 1, options: { ...one.protocol.options, retrieve: false } });
    const worse = { ...merged, scores: ten.scores };
    expect(isRanked([one, ten])).toBe(false);
    expect(isRanked([one, worse], { allow: ["T", "options.retrieve"] })).toBe(true);
    expect(isRanked([one, worse], { mark: true })).toBe(false);
  });

  it.each([
    [{ columns: ["methd"] }, "try: method"],
    [{ groupBy: ["sets"] }, "try: set"],
    [{ label: "tab:{x}" }, "tab:{x}"],
  ])("refuses %j", (options, words) => {
    expect(() => toLatex(scores, { ...about, ...options })).toThrow(RefusedInput);
    expect(() => toLatex(scores, { ...about, ...options })).toThrow(words);
  });
});

/** Texts with everything that LaTeX takes for something else. */
const nasty = [
  "50% of $10 & #3 {a_b} ~ x^2",
  "C:\\new\\textbf{no} \\\\ \\end",
  "* starred",
  "[1em] bracket",
  "a -- b --- c",
  "it's ''two'' and ``back``",
  '"quoted" <tag> | pipe >> x',
  ",,low,, !`x ?`y",
  "line\nbreak\n\nparagraph\ttab",
];

/** Letters beyond English; not looked for in the PDF's text, where old fonts name them wrongly. */
const letters = "Zoë Müller, Ångström, Łódź, ß, “so” – …";

/** Text as a reader should see it, wherever lines break. */
const seen = (text: string) => text.replaceAll(/\s+/g, "");

describe("escapeLatex", () => {
  it("leaves plain text alone", () => {
    expect(escapeLatex("WISE-Merge, T = 1 (k: 2); it's ok.")).toBe("WISE-Merge, T = 1 (k: 2); it's ok.");
  });

  it("escapes every character with a meaning", () => {
    expect(escapeLatex("\\{}$&#^_~%")).toBe(
      "\\textbackslash{}\\{\\}\\$\\&\\#\\textasciicircum{}\\_\\textasciitilde{}\\%",
    );
    expect(escapeLatex("--- '' a\n\nb")).toBe("-{}-{}- '{}' a b");
  });
});

function installed(program: string, flag: string): boolean {
  return spawnSync(program, [flag]).error === undefined;
}

const hasLatex = requires("latex");
const hasPdfText = installed("pdftotext", "-v");
if (hasLatex && !hasPdfText)
  console.info("partly skipped here: no pdftotext on the PATH (apt-get install poppler-utils)");

describe.runIf(hasLatex)("LaTeX itself", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "wise-lab-latex-"));
  });
  afterAll(() => rm(folder, { recursive: true }));

  /** Sets a page with the tables, and gives the log; a PDF of the same name lies in the folder. */
  async function typeset(name: string, tables: readonly string[]): Promise<string> {
    const preamble =
      "\\documentclass{article}\n\\usepackage[T1]{fontenc}\n\\usepackage{booktabs}\n\\usepackage[landscape,margin=1cm]{geometry}";
    await writeFile(
      join(folder, `${name}.tex`),
      `${preamble}\n\\begin{document}\n${tables.join("\n")}\\end{document}\n`,
    );
    const { status, stdout } = spawnSync("pdflatex", ["-interaction=nonstopmode", "-halt-on-error", `${name}.tex`], {
      cwd: folder,
    });
    expect(status, String(stdout)).toBe(0);
    return readFile(join(folder, `${name}.log`), "latin1");
  }

  it("prints nasty names as they are, in cells, headings and captions", async () => {
    const rows = [...nasty, letters].map((name, i) => ({ name, rewrite: i / 10, rewriteLow: 0, rewriteHigh: 1 }));
    const columns = nasty.map((head) => ({ name: "rewrite", head }));
    const log = await typeset("nasty", [
      toLatex(frameOf(rows, "rows"), {
        caption: nasty.join(" "),
        label: "tab:cells",
        columns: ["name", "rewrite"],
        groupBy: ["name"],
      }),
      ...columns.map((column, i) =>
        toLatex(frameOf(rows, "rows"), { ...about, label: `tab:head-${i}`, columns: [column] }),
      ),
    ]);
    expect(log).not.toMatch(/^!|Missing character/m);
    if (!hasPdfText) return;
    const printed = spawnSync("pdftotext", [
      "-layout",
      "-enc",
      "UTF-8",
      join(folder, "nasty.pdf"),
      "-",
    ]).stdout.toString();
    // A typewriter's apostrophe and grave are printed as curly ones.
    const text = seen(printed).replaceAll("’", "'").replaceAll("‘", "`");
    for (const name of nasty) expect(text.split(seen(name)).length - 1, name).toBeGreaterThanOrEqual(3);
  }, 60_000);

  it("sets summaries and published tables", async () => {
    const runs = [sampleRun({ T: 1 }), sampleRun({ T: "all" })];
    const rows = await readPublished({ source: "WISE paper, Table 2", T: 1000 });
    const log = await typeset("tables", [
      summaryLatex(runs, { label: "tab:runs" }),
      toLatex(publishedFrame(rows), {
        caption: publishedCaption(rows),
        label: "tab:published",
        columns: ["model", "method", "rewrite", "rephrase", "locality", "average"],
        groupBy: ["model"],
        digits: 2,
      }),
    ]);
    expect(log).not.toMatch(/^!|Overfull|Missing character/m);
  }, 60_000);
});
