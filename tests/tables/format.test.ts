import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readCSV } from "danfojs-node";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { renderSummary, summaryView } from "../../src/tables/format.js";
import { toCsv, toMarkdown, toText } from "../../src/tables/readable.js";
import { frameOf, rowsOf, summaryFrame } from "../../src/tables/tables.js";
import { sampleRun, sampleUnroutedRun } from "./sample.js";

const rows = [
  { name: 'Anna "Ann" Lee', note: "one, two", score: 0.123456789, whole: 3 },
  { name: "two\nlines", note: "a|b", score: Number.NaN, whole: 12 },
  { name: "plain", note: null, score: 1, whole: 7 },
];
const frame = frameOf(rows, "rows");

describe("toCsv", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "wise-lab-csv-"));
  });
  afterAll(() => rm(folder, { recursive: true }));

  it("quotes what needs it and keeps numbers whole", () => {
    expect(toCsv(frame)).toBe(
      'name,note,score,whole\n"Anna ""Ann"" Lee","one, two",0.123456789,3\n"two\nlines",a|b,NaN,12\nplain,,1,7\n',
    );
  });

  it("is read back by another reader as it was", async () => {
    const path = join(folder, "table.csv");
    await writeFile(path, toCsv(frame));
    const read = rowsOf(await readCSV(path));
    expect(read.map((row) => row.name)).toEqual(rows.map((row) => row.name));
    expect(read[0]).toEqual(rows[0]);
  });
});

describe("toText", () => {
  it("aligns columns, numbers to the right, every cell on one line", () => {
    expect(toText(frame, { digits: 2 }).split("\n")).toEqual([
      "name            note      score  whole",
      "--------------  --------  -----  -----",
      'Anna "Ann" Lee  one, two   0.12      3',
      "two lines       a|b         NaN     12",
      "plain           -          1.00      7",
      "",
    ]);
  });
});

describe("toMarkdown", () => {
  it("keeps cells apart whatever stands in them", () => {
    expect(toMarkdown(frame).split("\n")).toEqual([
      "| name | note | score | whole |",
      "| --- | --- | ---: | ---: |",
      '| Anna "Ann" Lee | one, two | 0.123 | 3 |',
      "| two<br>lines | a\\|b | NaN | 12 |",
      "| plain | - | 1.000 | 7 |",
      "",
    ]);
  });
});

describe("hostile texts are inert", () => {
  const cells = (text: string) => frameOf([{ text }], "rows");

  it.each(["=1+1", "+1", "-2+3", "@SUM(A1)", "\tx", "\rx", '=HYPERLINK("http://x")'])(
    "in CSV: %j is no formula",
    (text) => {
      const cell = toCsv(cells(text)).slice("text\n".length);
      expect(cell).toMatch(/^"?'/);
    },
  );

  it("in CSV: numbers below zero stay numbers", () => {
    expect(toCsv(frameOf([{ x: -1.5 }], "rows"))).toBe("x\n-1.5\n");
  });

  it.each([
    ["<script>alert(1)</script>", "&#60;script&#62;alert(1)&#60;/script&#62;"],
    ["![x](http://a.b/c.png)", "![x\\](http&#58;//a.b/c.png)"],
    ["[x][y]", "[x\\][y]"],
    ["`code` *bold* ~~gone~~ ~one~", "\\`code\\` \\*bold\\* \\~~gone\\~~ ~one~"],
    ["_a_ act_ratio", "\\_a\\_ act_ratio"],
    ["&lt; & @user www.x.org", "&#38;lt; &#38; &#64;user www&#46;x.org"],
    ["a | b \\| c", "a \\| b \\\\\\| c"],
    ["\u202eevil\u202c \u2028", "\\\\u202eevil\\\\u202c \\\\u2028"],
  ])("in Markdown: %s", (text, written) => {
    expect(toMarkdown(cells(text)).split("\n")[2]).toBe(`| ${written} |`);
  });

  it("on a terminal: no escape sequence, no turned direction", () => {
    const text = toText(cells("\u001b[31mred\u001b[0m \u202eevil \u009b2J"));
    expect(text).toContain("\\u001b[31mred\\u001b[0m \\u202eevil \\u009b2J");
  });
});

describe("a table within a width", () => {
  const wide = frameOf(
    [
      { prompt: "What is the capital of the country that lies east of here?", answer: "Oslo", score: 0.5 },
      { prompt: "日本語の質問はどのくらい長くなるのでしょうか、とても長い", answer: "👩‍👩‍👧‍👦 family", score: 1 },
    ],
    "rows",
  );

  it("shortens the longest texts with an ellipsis, and no number", () => {
    const lines = toText(wide, { width: 50 }).trimEnd().split("\n");
    expect(lines[2]).toMatch(/^What is the capital of.*… {2}Oslo +0\.500$/);
    expect(lines[3]).toMatch(/^日本語の.*… {2,3}👩‍👩‍👧‍👦 family +1\.000$/u);
    expect(
      Math.max(
        ...lines.map(
          (line) =>
            [...line.replace(/[日本語の質問どくらい長なるでしょうか、と]/gu, "xx").replace("👩‍👩‍👧‍👦", "xx")].length,
        ),
      ),
    ).toBeLessThanOrEqual(50);
  });

  it("stays as it is where it fits", () => {
    expect(toText(wide, { width: 200 })).toBe(toText(wide));
  });
});

describe("a summary for reading", () => {
  const runs = [sampleRun({ T: 1, records: 12 }), sampleRun({ T: "all", records: 12 })];

  it("puts a mean and its interval into one cell, and leaves what all rows share to the caption", () => {
    const view = rowsOf(summaryView(summaryFrame(runs)));
    expect(Object.keys(view[0] ?? {}).slice(0, 4)).toEqual(["T", "Records", "Blocks", "Rewrite"]);
    const [summary] = rowsOf(summaryFrame(runs));
    const [mean, low, high] = [summary?.rephrase, summary?.rephraseLow, summary?.rephraseHigh] as number[];
    expect(view[0]?.Rephrase).toBe(`${mean?.toFixed(3)} [${low?.toFixed(3)}, ${high?.toFixed(3)}]`);
  });

  it("names options plainly, and says which way of keeping memories a value stands for", () => {
    const each = [true, false].map((retrieve) =>
      sampleRun({ records: 12, options: { retrieve, n_iter: retrieve ? 1 : 2 } }),
    );
    const frame = summaryFrame(each, { allow: ["T", "options.retrieve", "options.n_iter"] });
    expect(rowsOf(frame).map((row) => row["options.retrieve"])).toEqual([true, false]);
    expect(rowsOf(summaryView(frame))).toEqual([
      expect.objectContaining({ T: 10, memories: "Retrieve", n_iter: 1 }),
      expect.objectContaining({ T: 10, memories: "Merge", n_iter: 2 }),
    ]);
  });

  it("says how many records stand behind a mean when it is not all of them", () => {
    const [run] = runs;
    if (run === undefined) throw new Error("no sample");
    const scores = run.scores.map((score, i) => (i < 2 ? { ...score, rephrase: null } : score));
    const [row] = rowsOf(summaryView(summaryFrame([{ ...run, scores }])));
    expect(row?.Rephrase).toMatch(/\] \(n = 10\)$/);
    expect(row?.Rewrite).toMatch(/\]$/);
    const without = run.scores.map((score) => ({ ...score, rephrase: null }));
    expect(rowsOf(summaryView(summaryFrame([{ ...run, scores: without }])))[0]).toMatchObject({
      Rephrase: "-",
      Avg: "-",
    });
  });

  it("shows what was left to the untouched model, by a router alone", () => {
    const head = "To main rew / reph / loc";
    const always = sampleUnroutedRun({ T: 1, records: 12 });
    const rows = rowsOf(summaryView(summaryFrame([...runs, always])));
    expect(rows.map((row) => row.method)).toEqual(["wise", "wise", "rome"]);
    expect(rows[0]?.[head]).toMatch(/^\d\.\d\d \/ \d\.\d\d \/ \d\.\d\d$/);
    expect(rows[2]?.[head]).toBe("- / - / -");
    expect(summaryView(summaryFrame([always])).columns).not.toContain(head);
  });

  it("names the side data of a method in the caption, and irrelevant prompts where there are any", () => {
    const always = sampleUnroutedRun({ T: 1, records: 12 });
    const text = renderSummary([always], "text");
    expect(text).toContain("side data: covariance layers.5.down (sha256 33333333)");
    expect(text).toMatch(/^rome: layer 5, v_num_grad_steps 30\.$/m);
    expect(text).not.toContain("irrelevant");
    expect(renderSummary([...runs, always], "text")).toContain(
      "irrelevant prompts: invented (sha256 22222222); side data:",
    );
  });

  it("carries its protocol", () => {
    const text = renderSummary(runs, "text");
    for (const words of [
      "T = 1, all",
      "scored after-all",
      "sha256 00000000",
      "sha256 22222222",
      "seed 7",
      "act_ratio 0.5",
      "95% bootstrap",
    ]) {
      expect(text).toContain(words);
    }
    expect(renderSummary(runs, "markdown")).toContain("| T | Records |");
  });

  it("has a footnote for every mark", () => {
    const [first, second] = runs as [(typeof runs)[0], (typeof runs)[0]];
    const marked = [first, { ...second, protocol: { ...second.protocol, seed: 9 } }];
    expect(renderSummary(marked, "text", { mark: true })).toMatch(/all +a .*\na: seed is 9, not 7\n$/s);
  });
});
