import { readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { ProbeReading, RecordScore } from "../../src/eval/types.js";
import { routingHistogram } from "../../src/explore/router/routingHistogram.js";
import { tRollback } from "../../src/figures/tRollback.js";
import { learnedIn } from "../../src/run/causes.js";
import { readRun } from "../../src/run/folder.js";
import { type RunSummary, summarizeRun } from "../../src/run/summary.js";
import { readRunSummary, SUMMARY_FORMAT, summaryText, writeRunSummary } from "../../src/run/summary-file.js";
import type { RunResult, ScoredProbe, ScoredRecord } from "../../src/run/types.js";
import { renderSummary } from "../../src/tables/format.js";
import { blocksFrame, rowsOf, summaryFrame } from "../../src/tables/tables.js";
import { causesOverT } from "../../src/verdict/causes.js";
import { refusal, temporaryFolder } from "../model/support.js";
import { sampleRun } from "../tables/sample.js";
import { openQuickLab, writeRun } from "./support.js";

const COMMAND = "wise-lab run --T 2";

/** A folder of a run that was made up, as a runner writes it, up to a block. */
const folderOf = async (run: RunResult, stopBefore?: number) =>
  writeRun(join(await temporaryFolder(), "run"), run, { templates: ["{}", "So {}"], stopBefore });

/** The path of a summary written of a made-up run, and the run as its folder has it. */
async function summaryOf(run: RunResult): Promise<{ path: string; run: RunResult }> {
  const folder = await folderOf(run);
  const path = join(await temporaryFolder(), "summary.json");
  await writeRunSummary(await summarizeRun(folder, COMMAND), path);
  return { path, run: await readRun(folder) };
}

/** A run with every shape a record can have. */
function manifold(): RunResult {
  const run = sampleRun({ T: 7, records: 16 });
  const [first, second, third] = run.scores;
  if (!first || !second || !third) throw new Error("the sample is too short");
  first.rephrase = null;
  second.locality = [];
  const tokens = (right: number, of: number, wanted = 5) =>
    Array.from({ length: of }, (_, i) => (i < right ? wanted : 9));
  const unchanged = {
    target: tokens(3, 3),
    pre: tokens(3, 3),
    post: tokens(2, 3),
    score: 2 / 3,
    preScore: null,
    exact: false,
  };
  third.locality = [...third.locality, { ...first.rewrite, ...unchanged, readings: [], route: "main" }];
  const [side] = first.rewrite.readings;
  if (!side) throw new Error("the sample was read against no memory");
  const saved: ProbeReading = {
    ...side,
    variant: "memory-3",
    margin: 3,
    numbers: { delta: 10.5, min_act: 7 },
    predicted: tokens(5, 7),
    score: 5 / 7,
  };
  const asked = (right: number) => ({
    target: tokens(7, 7),
    pre: tokens(0, 7),
    post: tokens(right, 7),
    score: right / 7,
    preScore: 0,
    exact: false,
  });
  const under = { ...side, margin: 0.25, numbers: { delta: 3.5, min_act: 28 }, predicted: null, score: null };
  third.portability = [
    { ...first.rewrite, ...asked(5), route: "memory-3", readings: [under, saved] },
    { ...first.rewrite, ...asked(3), route: "edited", readings: [] },
  ];
  return run;
}

describe("a summary", () => {
  test("gives the tables, captions and figures of the run's folder", async () => {
    const { path, run } = await summaryOf(manifold());
    const summary = await readRunSummary(path);
    const other = sampleRun({ T: "all", records: 16 });
    const options = { allow: ["T"], mark: true };
    expect(rowsOf(summaryFrame([summary]))).toEqual(rowsOf(summaryFrame([run])));
    expect(renderSummary([summary, other], "text", options)).toBe(renderSummary([run, other], "text", options));
    const withoutSeconds = rowsOf(blocksFrame(run)).map((row) => ({ ...row, seconds: null }));
    expect(rowsOf(blocksFrame(summary))).toEqual(withoutSeconds);
    expect(tRollback([summary, other])).toEqual(tRollback([run, other]));
    expect(routingHistogram(summary)).toEqual(routingHistogram(run));
  });

  test("of a real run does so too, and says where it came from", async () => {
    const lab = await openQuickLab("save_freq=1", "merge_freq=2");
    const folder = join(await temporaryFolder(), "run");
    const run = await lab.run({ T: 4, out: folder });
    const { templates } = lab;
    lab.close();
    const made = await summarizeRun(folder, COMMAND);
    const path = join(folder, "summary.json");
    await writeRunSummary(made, path);
    const read = await readRunSummary(path);
    expect(read).toEqual(made);
    expect(read).toMatchObject({ command: COMMAND, templates, protocol: run.protocol });
    expect(read.scores.map(({ steps }) => steps)).toEqual(run.edits.map(({ steps }) => steps.length));
    expect(rowsOf(summaryFrame([read]))).toEqual(rowsOf(summaryFrame([run])));
    expect(routingHistogram(read)).toEqual(routingHistogram(run));
  });

  test("keeps routes, margins, numbers and scores of every reading, and what was never asked as null", async () => {
    const { path, run } = await summaryOf(manifold());
    const read = await readRunSummary(path);
    const shown = ({ route, readings }: ScoredProbe) => ({
      route,
      readings: readings.map(({ variant, numbers, score }) => ({ variant, numbers: Object.keys(numbers), score })),
    });
    const { portability } = read.scores[2] as ScoredRecord;
    expect(portability.map(shown)).toEqual(run.scores[2]?.portability.map(shown));
    expect(portability[0]?.readings).toEqual([
      { variant: "side", margin: 0.25, numbers: { delta: 3.5, min_act: 28 }, score: null },
      { variant: "memory-3", margin: 3, numbers: { delta: 10.5, min_act: 7 }, score: 5 / 7 },
    ]);
    expect(portability[1]).toMatchObject({ route: "edited", readings: [] });
    for (const [i, { rewrite }] of read.scores.entries()) {
      const [ours, theirs] = [rewrite, run.scores[i]?.rewrite as ScoredProbe].map(({ readings }) => readings[0]);
      expect(ours?.margin).toBeCloseTo(theirs?.margin as number, 4);
      expect((ours?.margin as number) >= 1).toBe((theirs?.margin as number) >= 1);
    }
  });

  test("keeps exactly, and once, what a variant has for all probes of a record", async () => {
    const { path, run } = await summaryOf(sampleRun({ T: 7, records: 16 }));
    const read = await readRunSummary(path);
    for (const [i, { rewrite, locality }] of read.scores.entries()) {
      const minAct = run.scores[i]?.rewrite.readings[0]?.numbers.min_act;
      expect(String(minAct).length).toBeGreaterThan(8);
      expect([rewrite, ...locality].map(({ readings }) => readings[0]?.numbers.min_act)).toEqual([minAct, minAct]);
    }
    const { numbers, variants } = JSON.parse(await readFile(path, "utf8"));
    expect(numbers).toEqual({ variant: ["min_act"], reading: ["delta"] });
    expect(variants).toHaveLength(3); // one memory in each of three blocks
  });

  test("keeps what the causes of failure need", async () => {
    const made = sampleRun({ T: 20, records: 60 });
    const edits = made.edits.map((edit, i) => (i % 3 === 0 ? { ...edit, steps: edit.steps.slice(0, 1) } : edit));
    const { path, run } = await summaryOf({ ...made, edits });
    const row = (one: RunResult | RunSummary) => causesOverT([{ title: "WISE", runs: [one] }]);
    expect(row(await readRunSummary(path))).toEqual(row(run));
    expect(row(run)[0]?.wrong.map(({ cause }) => cause)).toEqual(
      expect.arrayContaining(["forgotten", "forgotten or not learned"]),
    );
    expect([...learnedIn(run).values()].slice(0, 4)).toEqual([null, expect.any(Boolean), expect.any(Boolean), null]);
  });

  test("rounds no reading that would then decide otherwise", async () => {
    const run = sampleRun({ T: 7, records: 16, options: { act_ratio: 0.5, retrieve: true } });
    const [score] = run.scores as [RecordScore];
    const [side] = score.rewrite.readings as [ProbeReading];
    // A third, at twice its threshold's factor: rounded to six digits, it would fall short of it.
    const exact = { ...side, margin: 1, numbers: { delta: 10 / 3, min_act: 20 / 3 } };
    score.rewrite = { ...score.rewrite, route: "side", readings: [exact] };
    const { path } = await summaryOf(run);
    const [read, other] = (await readRunSummary(path)).scores;
    expect(read?.rewrite.readings[0]).toMatchObject({ margin: 1, numbers: exact.numbers });
    expect(String(other?.rewrite.readings[0]?.numbers.delta).length).toBeLessThanOrEqual(8);
  });

  test("of 1037 records is small, with one record per line", async () => {
    const { path } = await summaryOf(sampleRun({ T: 10, records: 1037 }));
    expect((await stat(path)).size).toBeLessThan(150_000);
    const lines = (await readFile(path, "utf8")).split("\n");
    expect(lines.filter((line) => /^\[\d+,\d+,[01],\[/.test(line))).toHaveLength(1037);
  });

  test("of a run that is not finished is refused", async () => {
    const folder = await folderOf(sampleRun({ T: 7, records: 16 }), 2);
    const error = await refusal(() => summarizeRun(folder, COMMAND));
    expect(error).toMatchObject({ where: folder, found: "14 of 16 records", hint: COMMAND });
  });
});

/** The seal of what a summary says now, so that what it says is what is refused. */
function resealed(text: string): string {
  try {
    const { format, seal, ...content } = JSON.parse(text) as Record<string, unknown>;
    return format === SUMMARY_FORMAT ? summaryText(content) : text;
  } catch {
    return text; // no JSON
  }
}

describe("a summary file is refused", () => {
  test.each<[string, (text: string) => string, found: string, expected: string]>([
    ["of another form", (text) => text.replace("version 4", "version 2"), "format", "wise-lab run summary, version 4"],
    ["with a score that is none", (text) => text.replace('"2/3"', '"two"'), "0, 1 or a fraction", "version 4"],
    ["with a record too few", (text) => text.replace(/^\[0,.*\n/m, ""), "15 records", "16, as its protocol says"],
    ["with a variant without a name", (text) => text.replace('"memory-3"', "3"), "string", "version 4"],
    ["with a variant that is not listed", (text) => text.replace(/,\n\["memory-3".*\]/, ""), "1", "less than 1"],
    ["with a number that is not listed", (text) => text.replace(/,\s*"min_act"\s*\]/, "]"), "1", "less than 1"],
    ["with a route that is none", (text) => text.replace('"5/7",0,2', '"5/7",0,3'), "2", "less than 2"],
    ["with a route below none", (text) => text.replace('"5/7",0,2', '"5/7",0,-2'), ">=-1", "version 4"],
    ["that is cut short", (text) => text.slice(0, -10), "JSON", "JSON"],
  ])("%s", async (_, damage, found, expected) => {
    const { path } = await summaryOf(manifold());
    const text = await readFile(path, "utf8");
    expect(damage(text)).not.toBe(text);
    await writeFile(path, resealed(damage(text)));
    const error = await refusal(() => readRunSummary(path));
    expect(error.where).toContain(path);
    expect(String(error.found)).toContain(found);
    expect(error.expected).toContain(expected);
  });

  test.each<[string, (text: string) => string, found: string]>([
    ["with another score", (text) => text.replace('"5/7",0,2', '"4/7",0,2'), "a seal of other content"],
    ["with other seconds", (text) => text.replace(/"secondsPerEdit": /, "$&1"), "a seal of other content"],
    ["without its seal", (text) => text.replace(/,\n "seal": "\w+"/, ""), "no seal"],
  ])("%s, and not sealed anew", async (_, damage, found) => {
    const { path } = await summaryOf(manifold());
    const text = await readFile(path, "utf8");
    expect(damage(text)).not.toBe(text);
    await writeFile(path, damage(text));
    const error = await refusal(() => readRunSummary(path));
    expect(error.where).toBe(path);
    expect(error.found).toContain(found);
  });
});
