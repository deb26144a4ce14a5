import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { mean } from "../../src/core/stats.js";
import { loadRecords } from "../../src/data/load.js";
import { loadUnedited, uneditedOfWorld } from "../../src/data/unedited.js";
import { MAIN } from "../../src/edit/overlay.js";
import { TARGET_STOPS } from "../../src/edit/target-stop.js";
import type { Metric } from "../../src/eval/metrics.js";
import type { FreeScore, ProbeScore, RecordScore } from "../../src/eval/types.js";
import { ladder } from "../../src/explore/ladder/ladder.js";
import { ladderFrame } from "../../src/explore/ladder/tables.js";
import { atInference } from "../../src/explore/router/atInference.js";
import { exploreRouter } from "../../src/explore/router/exploreRouter.js";
import { tRollback } from "../../src/figures/tRollback.js";
import { batchCuts, logitsAt } from "../../src/model/cut.js";
import { runFrozen } from "../../src/model/frozen.js";
import { reportHtml } from "../../src/report/report.js";
import { readRun } from "../../src/run/folder.js";
import { DEFAULT_RECORDS } from "../../src/run/inputs.js";
import type { Lab } from "../../src/run/lab.js";
import { probesOf } from "../../src/run/measures.js";
import { summarizeRun } from "../../src/run/summary.js";
import { readRunSummary, writeRunSummary } from "../../src/run/summary-file.js";
import type { RunResult } from "../../src/run/types.js";
import { underMetric } from "../../src/run/under-metric.js";
import { renderSummary } from "../../src/tables/format.js";
import { summaryLatex } from "../../src/tables/latex.js";
import { groupsFrame, rowsOf, summaryFrame } from "../../src/tables/tables.js";
import { refusal, temporaryFolder } from "../model/support.js";
import { requires } from "../support/requires.js";
import { sharedFolder } from "../support/shared.js";
import { sampleLadder } from "../tables/sample.js";
import { bytesOfRun, openQuickLab, recordsFile } from "./support.js";

const METRICS = ["autoregressive", "em-gold-length", "free-em", "exact-match", "log-prob", "perplexity", "fluency"];
const REQUEST = { T: 2, limit: 4, metrics: METRICS, maxNewTokens: 8 };

let lab: Lab;
let run: RunResult;
let folder: string;
beforeAll(async () => {
  lab = await openQuickLab();
  folder = join(await mkdtemp(join(tmpdir(), "wise-lab-metrics-")), "run");
  await lab.run({ ...REQUEST, out: folder });
  run = await readRun(folder);
});
afterAll(async () => {
  lab.close();
  await rm(dirname(folder), { recursive: true });
});

/** Means of a run, but for the seconds of its edits. */
const numbersOf = (one: Parameters<typeof summaryFrame>[0][number]) =>
  rowsOf(summaryFrame([one])).map(({ secondsPerEdit: _, ...row }) => row);

describe("a run made for metrics", () => {
  test("has the teacher-forced scores of one that was made for none", async () => {
    const plain = await lab.run({ T: 2, limit: 4 });
    expect(numbersOf(run)).toEqual(numbersOf(plain));
    expect(run.protocol).toMatchObject({ metrics: ["teacher-forced", ...METRICS], generation: { maxNewTokens: 8 } });
    expect(plain.protocol).toMatchObject({ metrics: ["teacher-forced"], generation: null });
  });

  test("sees log P of the untouched model's answers as its logits give them", async () => {
    const { rewrite } = run.scores[0] as RecordScore;
    const { tokenizer } = lab.model;
    const ids = tokenizer.encode(`${rewrite.prompt} ${rewrite.answer}`);
    const prompt = ids.length - rewrite.target.length;
    const batch = batchCuts(lab.model, await runFrozen(lab.model, [ids], { point: lab.method.cut }));
    const spots = rewrite.target.map((_, i) => ({ row: 0, position: prompt + i - 1 }));
    const made = logitsAt(lab.model, batch, { spots });
    const rows = (await made.array()) as number[][];
    for (const held of [made, batch]) held.dispose();
    for (const [i, row] of rows.entries()) {
      const most = Math.max(...row);
      const sum = Math.log(row.reduce((total, logit) => total + Math.exp(logit - most), 0)) + most;
      expect(rewrite.logp?.pre[i]).toBeCloseTo((row[rewrite.target[i] as number] as number) - sum, 4);
    }
  });

  test("writes what asking by hand writes", async () => {
    const { rewrite } = run.scores[0] as RecordScore;
    const { pre } = rewrite.free as FreeScore;
    const { tokens } = await lab.ask(rewrite.prompt, { maxNewTokens: 8 });
    expect(pre.tokens.slice(0, tokens.length)).toEqual(tokens.slice(0, pre.tokens.length));
  });

  test("keeps what each variant wrote, and the router's choice on the prompt alone", () => {
    const probes = run.scores.flatMap((record) => [record.rewrite, ...record.locality]);
    for (const { free, target } of probes as (ProbeScore & { free: FreeScore })[]) {
      for (const { tokens, end } of [free.pre, free.post]) {
        expect(tokens.length).toBeGreaterThanOrEqual(Math.max(end, Math.min(target.length, 8)));
        expect(end).toBeLessThanOrEqual(8);
      }
      const chosen = free.readings.find(({ variant }) => variant === free.route);
      expect(free.route === MAIN ? free.pre : chosen?.written).toEqual(free.post);
    }
  });

  test("is the same bytes when it was stopped within a block and taken up again", async () => {
    const out = join(await temporaryFolder(), "again");
    for (const after of [1, 3, 5, 6]) {
      const stop = new AbortController();
      let told = 0;
      const onProgress = () => {
        told += 1;
        if (told === after) stop.abort();
      };
      await lab.run({ ...REQUEST, out, keepEvery: 0, signal: stop.signal, onProgress }).catch(() => {});
    }
    await lab.run({ ...REQUEST, out });
    expect(await bytesOfRun(out)).toEqual(await bytesOfRun(folder));
  });
});

describe("a run by another metric", () => {
  test("has the metric's values, and stands in tables under its name", () => {
    const lens = underMetric(run, "perplexity");
    for (const [i, record] of run.scores.entries()) {
      const logp = record.rewrite.logp?.post as number[];
      expect(lens.scores[i]?.rewrite.score).toBeCloseTo(Math.exp(-mean(logp)), 9);
      expect(lens.scores[i]?.rewrite.preScore).toBeCloseTo(Math.exp(-mean(record.rewrite.logp?.pre as number[])), 9);
    }
    expect(lens.protocol.metric).toBe("perplexity of the answer");
    expect(Object.keys(numbersOf(lens)[0] ?? {})).not.toContain("average"); // of perplexity and shares
    expect(renderSummary([lens], "text")).toContain("perplexity of the answer");
    expect(underMetric(lens, "teacher-forced")).toBe(run);
    expect(underMetric(lens, "free-em").scores).toEqual(underMetric(run, "free-em").scores);
  });

  test("of free answers takes the router's choice on the prompt, and explorers take it", () => {
    const lens = underMetric(run, "free-em");
    for (const [i, { rewrite }] of run.scores.entries())
      expect(lens.scores[i]?.rewrite.route).toBe(rewrite.free?.route);
    const { own } = exploreRouter(lens, [0.5, 1]);
    expect(own.rewrite.mean).toBe(mean(lens.scores.map(({ rewrite }) => rewrite.score)));
  });

  test("whose values are no shares has no best value of the router's option", async () => {
    const error = await refusal(() => exploreRouter(underMetric(run, "log-prob"), [0.5]));
    expect(error.message).toContain("free-em");
  });

  test("and another value of the router's option go together in either order; another metric is then refused", async () => {
    const changed = atInference(underMetric(run, "free-em"), 0.9);
    const error = await refusal(() => underMetric(changed, "teacher-forced"));
    expect(error.message).toContain("the metric first, then the change");
    for (const name of ["free-em", "autoregressive", "log-prob"]) {
      for (const value of [0, 0.9, 5]) {
        const scoresOf = ({ scores }: RunResult) =>
          scores.map(({ rewrite, locality }) => [rewrite, ...locality].map(({ score, route }) => [score, route]));
        expect(scoresOf(underMetric(atInference(run, value), name))).toEqual(
          scoresOf(atInference(underMetric(run, name), value)),
        );
      }
    }
  });

  test("is refused where its part was not seen, with the option that sees it", async () => {
    const plain = await lab.run({ T: 2, limit: 2 });
    const error = await refusal(() => underMetric(plain, "free-em"));
    expect(error.message).toContain("--metrics free-em");
    expect((await refusal(() => underMetric(run, "freeem"))).message).toContain("no such metric");
  });

  test("reads the same from a summary", async () => {
    const path = join(await temporaryFolder(), "summary.json");
    await writeRunSummary(await summarizeRun(folder, "wise-lab run"), path);
    const summary = await readRunSummary(path);
    expect(numbersOf(summary)).toEqual(numbersOf(run));
    for (const name of METRICS) {
      const [whole, short] = [numbersOf(underMetric(run, name))[0], numbersOf(underMetric(summary, name))[0]];
      for (const [column, value] of Object.entries(whole as object)) {
        if (typeof value === "number" && value !== 0) {
          expect((short?.[column] as number) / value, `${name} ${column}`).toBeCloseTo(1, 5); // six digits are kept
        } else expect(short?.[column]).toBe(value);
      }
    }
    expect((await refusal(() => underMetric(summary, "sure-tokens"))).message).toContain("--metrics sure-tokens");
  });
});

test("a metric of one's own stands in table, LaTeX, figure and report", async () => {
  const metric: Metric = {
    name: "words",
    title: "words of the free answer",
    meaning: "words that were written",
    needs: ["written"],
    range: [0, null],
    better: "lower",
    of: ({ written }) => (written === undefined ? null : written.text.split(/\s+/).length),
  };
  const lens = underMetric(run, metric);
  const wanted = mean(run.scores.map(({ rewrite }) => (rewrite.free as FreeScore).post.text.split(/\s+/).length));
  expect(rowsOf(summaryFrame([lens]))[0]?.rewrite).toBe(wanted);
  expect(renderSummary([lens], "markdown")).toContain("words of the free answer");
  const latex = summaryLatex([lens, underMetric({ ...run, protocol: { ...run.protocol, T: 3 } }, metric)], {
    label: "tab:words",
  });
  expect(latex).toContain("words of the free answer");
  expect(JSON.stringify(tRollback([lens]).layout)).toContain("Words of the free answer");
  expect(await reportHtml(lens, "run")).toContain("words of the free answer");
});

test("a judge's verdicts stand with the answers, and make a metric", async () => {
  const judged = await lab.run({ T: 1, limit: 1, metrics: ["free-judge"], maxNewTokens: 4, judge: "echo A" });
  const [record] = judged.scores as [RecordScore];
  expect([record.rewrite.free?.pre.right, record.rewrite.free?.post.right]).toEqual([true, true]);
  expect(record.locality[0]?.free?.post.right).toBeUndefined();
  expect(underMetric(judged, "free-judge").scores[0]?.rewrite.score).toBe(1);
  expect(judged.protocol.generation?.judge).toBe("echo A");
});

test("decided at each step, answers have no other value of the router's option, and forced scores do", async () => {
  const stepwise = await lab.run({ T: 1, limit: 1, metrics: ["free-em"], maxNewTokens: 3, freeRouting: "each-step" });
  expect(stepwise.protocol.generation?.routing).toBe("each-step");
  expect(underMetric(stepwise, "free-em").scores).toHaveLength(1);
  const other = atInference(stepwise, 0);
  expect(other.scores[0]?.rewrite.route).toBe("side");
  expect((await refusal(() => underMetric(other, "free-em"))).message).toContain("not made for the metric");
});

describe("the ladder", () => {
  test("has a row for each rung, with the means of the run by its metric", () => {
    const rows = rowsOf(ladderFrame([run]));
    expect(rows[0]?.endsWithin).toBe(0);
    expect(rowsOf(ladderFrame([sampleLadder({})]))[0]?.endsWithin).toBeNull(); // as a summary, it has no texts
    expect(rows.map(({ rung }) => rung)).toEqual(["teacher-forced", "autoregressive", "em-gold-length", "free-em"]);
    for (const { rung, rewrite, localityLow } of rows) {
      const [own] = numbersOf(underMetric(run, rung as string));
      expect([rewrite, localityLow]).toEqual([own?.rewrite, own?.localityLow]);
    }
  });

  test("is drawn for runs that differ in T and stop", () => {
    const other = { ...run, protocol: { ...run.protocol, T: 3, targetStop: "eos" as const } };
    const { data, layout } = ladder([run, other]);
    expect(data).toHaveLength(6);
    expect(JSON.stringify(layout.annotations)).toContain("T = 3, stop eos");
  });
});

describe("a stop behind the target", () => {
  test.each(TARGET_STOPS)(
    "%s: edits are those of the target with its text, and scores of the target alone",
    async (stop) => {
      const made = await lab.run({ T: 1, limit: 1, targetStop: stop });
      const { rewrite } = made.scores[0] as RecordScore;
      const texts = {
        none: "",
        newline: "\n",
        eos: lab.model.tokenizer.decode([lab.model.config.eosTokenIds[0] as number]),
      };
      const data = await recordsFile(1, (record) => {
        record.alt = `${record.alt}${texts[stop]}`;
      });
      const byHand = await lab.run({ data, T: 1 });
      expect(made.edits[0]?.steps).toEqual(byHand.edits[0]?.steps);
      expect(rewrite.target).toEqual((run.scores[0] as RecordScore).rewrite.target);
      expect(made.protocol.targetStop).toBe(stop);
    },
  );
});

describe("data that has more than one probe of a kind", () => {
  test("several rephrases are all scored, and count as their mean", async () => {
    const data = await recordsFile(2, (record, i) => {
      if (i === 0) record.rephrase = [record.rephrase as string, record.src as string, "So?"];
    });
    const out = join(await temporaryFolder(), "run");
    await lab.run({ data, T: 1, out });
    const several = await readRun(out);
    const [first] = several.scores as [RecordScore];
    const scores = probesOf<ProbeScore>(first, "rephrase");
    expect(scores.map(({ prompt }) => prompt)).toEqual([first.rephrase?.prompt, first.rewrite.prompt, "So?"]);
    expect(scores[1]?.score).toBe(first.rewrite.score);
    const [{ rephrase, rephraseRecords }] = rowsOf(summaryFrame([several])) as [Record<string, number>];
    expect(rephraseRecords).toBe(2);
    const second = several.scores[1]?.rephrase?.score as number;
    expect(rephrase).toBeCloseTo((mean(scores.map(({ score }) => score)) + second) / 2, 12);
    const path = join(await temporaryFolder(), "summary.json");
    await writeRunSummary(await summarizeRun(out, "wise-lab run"), path);
    expect(numbersOf(await readRunSummary(path))).toEqual(numbersOf(several));
  });

  test("hallucination: perplexity of the target; temporal: every token of the text beyond it", async () => {
    const flat = (more: object) => [
      {
        subject: "Oslo",
        prompt: "Oslo is",
        target_new: "a city in the north",
        locality_prompt: "When",
        locality_ground_truth: "it ended",
        ...more,
      },
    ];
    const files = { hallucination: flat({}), temporal: flat({ ood_rephrase: "Oslo is a city of which much is said" }) };
    for (const [kind, records] of Object.entries(files)) {
      const data = join(await temporaryFolder(), `${kind}.json`);
      await writeFile(data, JSON.stringify(records));
      const out = join(await temporaryFolder(), kind);
      await lab.run({ data, T: 1, metrics: ["perplexity", "sure-tokens"], out });
      const made = await readRun(out);
      const [record] = made.scores as [RecordScore];
      expect(record.rephrase).toBeNull();
      expect(underMetric(made, "perplexity").scores[0]?.rewrite.score).toBeGreaterThan(1);
      const { ood } = record;
      expect(ood === undefined).toBe(kind === "hallucination");
      if (ood === undefined) continue;
      expect(ood.target).toEqual(lab.model.tokenizer.encode(ood.answer).slice(1));
      const sure = (ood.logp as { post: number[] }).post.filter((logp) => Math.exp(logp) > 0.8).length;
      expect(underMetric(made, "sure-tokens").scores[0]?.ood?.score).toBe(sure / ood.target.length);
      expect(rowsOf(summaryFrame([underMetric(made, "sure-tokens")]))[0]?.oodRecords).toBe(1);
    }
  });
});

describe("facts that nobody edits", () => {
  test("are scored with every record, the same ones whatever the setting, and shown by group", async () => {
    const items = join(await temporaryFolder(), "facts.json");
    const facts = Array.from({ length: 9 }, (_, i) => ({
      prompt: `Where is ${i}?`,
      answer: "Oslo",
      group: `g${i % 2}`,
    }));
    await writeFile(items, JSON.stringify(facts));
    const out = join(await temporaryFolder(), "run");
    const request = { T: 2, limit: 3, unedited: 4, uneditedItems: items };
    await lab.run({ ...request, out });
    const made = await readRun(out);
    const other = await lab.run({ ...request, T: 1 });
    const promptsOf = ({ scores }: RunResult) => scores.map(({ unedited }) => unedited?.map(({ prompt }) => prompt));
    expect(promptsOf(made)).toEqual(promptsOf(other));
    for (const prompts of promptsOf(made)) expect(new Set(prompts).size).toBe(4);
    expect(made.protocol.unedited).toMatchObject({ name: "facts", each: 4 });
    const groups = rowsOf(groupsFrame(made));
    expect(groups.map(({ kind, group }) => `${kind} ${group}`)).toEqual(["unedited g0", "unedited g1"]);
    expect(groups.reduce((sum, { probes }) => sum + (probes as number), 0)).toBe(12);
    const [row] = rowsOf(summaryFrame([made])) as [Record<string, number>];
    const all = made.scores.flatMap(({ unedited = [] }) => unedited);
    expect(row.unedited).toBeCloseTo(mean(all.map(({ score }) => score)), 12);
    expect(row.preUnedited).toBeCloseTo(mean(all.map(({ preScore }) => preScore as number)), 12);
    const path = join(await temporaryFolder(), "summary.json");
    await writeRunSummary(await summarizeRun(out, "wise-lab run"), path);
    expect(numbersOf(await readRunSummary(path))).toEqual(numbersOf(made));
  });

  test("may be multiple choice or reviews, put in the usual forms", async () => {
    const path = join(await temporaryFolder(), "items.jsonl");
    const lines = [
      { question: "What is 1 + 1?", choices: ["1", "2", "3"], answer: 1 },
      { review: "a lovely film", label: "positive", group: "films" },
    ];
    await writeFile(path, lines.map((line) => JSON.stringify(line)).join("\n"));
    expect((await loadUnedited(path)).items).toEqual([
      { prompt: "Question: What is 1 + 1?\n(A) 1\n(B) 2\n(C) 3\nAnswer:", answer: "B", group: "multiple choice" },
      { prompt: "Review :a lovely film\nSentiment :", answer: "positive", group: "films" },
    ]);
    await writeFile(path, JSON.stringify({ question: "Which?", choices: ["1", "2"], answer: 2 }));
    expect((await refusal(() => loadUnedited(path))).message).toContain("{question, choices, answer");
  });

  test("of the made-up world are those that its records leave alone", async () => {
    const data = await loadRecords(DEFAULT_RECORDS);
    const { items } = await uneditedOfWorld(data);
    const edited = new Set(
      data.records.flatMap(({ prompt, rephrase, locality }) => [
        prompt,
        rephrase,
        ...locality.map((one) => one.prompt),
      ]),
    );
    expect(items.filter(({ prompt }) => edited.has(prompt))).toEqual([]);
    expect(items).toHaveLength(2 * 705);
    expect(new Set(items.map(({ group }) => group)).size).toBe(20);
    const error = await refusal(() => lab.run({ T: 1, limit: 1, unedited: 2 }));
    expect(error.message).toContain("--unedited-items FILE");
  });
});

describe.runIf(requires("shared"))("the real files", () => {
  test.each(["hallucination", "temporal"])("%s: runs, and has its metrics", async (kind) => {
    const file = (part: string) => join(sharedFolder() as string, "data", `${kind}-${part}.json`);
    const request = { data: file("edit"), irrelevant: file("train"), T: 2, limit: 2 };
    const made = await lab.run({ ...request, metrics: ["perplexity", "perplexity-clip-100", "sure-tokens"] });
    for (const name of made.protocol.metrics) {
      const [row] = rowsOf(summaryFrame([underMetric(made, name)])) as [Record<string, number>];
      expect([row.rewriteRecords, row.localityRecords]).toEqual([2, 2]);
      if (kind === "temporal") expect(row.oodRecords).toBe(2);
    }
  });
});
