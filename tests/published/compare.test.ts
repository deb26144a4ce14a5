import { describe, expect, it } from "vitest";
import { RefusedInput } from "../../src/core/errors.js";
import { prepareNamed } from "../../src/edit/registry.js";
import {
  compareWithNearest,
  compareWithPublished,
  comparisonFrame,
  intervalOfRecords,
  nearestRun,
  recordsFrame,
} from "../../src/published/compare.js";
import { type PublishedRow, readPublished } from "../../src/published/published.js";
import { parseT } from "../../src/run/blocks.js";
import { studyNamed } from "../../src/run/study.js";
import type { Protocol, RunResult, ScoredRun } from "../../src/run/types.js";
import { underMetric } from "../../src/run/under-metric.js";
import { rowsOf, summaryFrame } from "../../src/tables/tables.js";
import { modelOf } from "../edit/model-of.js";
import { sampleLadder, sampleRun } from "../tables/sample.js";

const [headline] = (await readPublished({ source: "EasyEdit issue 474" })) as [PublishedRow];

/** A run of invented scores whose protocol is the headline's. */
function likeHeadline(protocol: Partial<Protocol> = {}): RunResult {
  return sampleRun({
    model: "Meta-Llama-3-8B",
    dataSha256: headline.dataSha256,
    records: 10,
    T: 10,
    options: { ...headline.options, seed: 0 },
    ...protocol,
  });
}

/** The run with every probe of a kind scored alike. */
function scoring(run: RunResult, score: { rewrite: number; rephrase: number; locality: number }): RunResult {
  const scores = run.scores.map((record) => ({
    ...record,
    rewrite: { ...record.rewrite, score: score.rewrite },
    rephrase: record.rephrase && { ...record.rephrase, score: score.rephrase },
    locality: record.locality.map((probe) => ({ ...probe, score: score.locality })),
  }));
  return { ...run, scores };
}

describe("compareWithPublished", () => {
  it("says that nothing was measured, and what the publication leaves open", () => {
    const comparison = compareWithPublished(headline, null);
    expect(comparison).toMatchObject({ verdict: "not measured", reason: "", differs: [], unknown: ["chatTemplate"] });
    expect(comparison.scores.map(({ name, mean }) => [name, mean])).toEqual([
      ["rewrite", null],
      ["rephrase", null],
      ["locality", null],
    ]);
  });

  it("finds a run with the published scores inside, with the interval that the summary shows", () => {
    const run = likeHeadline();
    const [summary] = rowsOf(summaryFrame([run]));
    const row = {
      ...headline,
      scores: { rewrite: summary?.rewrite as number, rephrase: summary?.rephraseLow as number },
    };
    const comparison = compareWithPublished(row, run);
    expect(comparison).toMatchObject({ verdict: "inside", reason: "", differs: [], unknown: ["chatTemplate"] });
    expect(comparison.scores[0]).toEqual({
      name: "rewrite",
      published: summary?.rewrite,
      mean: summary?.rewrite,
      low: summary?.rewriteLow,
      high: summary?.rewriteHigh,
    });
  });

  it("takes a printed score for anything that rounds to it, and no more", () => {
    const verdict = (measured: number) => {
      const run = scoring(likeHeadline(), { rewrite: measured, rephrase: 0.5, locality: 1 });
      return compareWithPublished({ ...headline, decimals: 2, scores: { rewrite: 0.87, locality: 1 } }, run).verdict;
    };
    expect([0.864, 0.8651, 0.87, 0.8749, 0.876].map(verdict)).toEqual([
      "outside",
      "inside",
      "inside",
      "inside",
      "outside",
    ]);
  });

  it("is outside when one score is", () => {
    const run = scoring(likeHeadline(), { rewrite: headline.scores.rewrite as number, rephrase: 0.2, locality: 1 });
    const comparison = compareWithPublished(headline, run);
    expect(comparison.verdict).toBe("outside");
    expect(rowsOf(comparisonFrame([comparison])).map((row) => [row.score, row.verdict])).toEqual([
      ["rewrite", "inside"],
      ["rephrase", "outside"],
      ["locality", "inside"],
    ]);
  });

  it.each<[string, Partial<Protocol>]>([
    ["model", { model: "Meta-Llama-3-8B-Instruct" }],
    ["method", { method: "another" }],
    ["dataSha256", { dataSha256: "f".repeat(64) }],
    ["records", { records: 12 }],
    ["T", { T: 5 }],
    ["when", { when: "after-each" }],
    ["options.act_ratio", { options: { ...headline.options, act_ratio: 0.88 } }],
  ])("is not comparable when %s differs, and says so", (field, protocol) => {
    const comparison = compareWithPublished(headline, likeHeadline(protocol));
    expect(comparison.verdict).toBe("not comparable");
    expect(comparison.differs.map((difference) => difference.field)).toEqual([field]);
    expect(comparison.reason).toMatch(new RegExp(`^${field} is .+, published .+`));
    expect(comparison.scores.every((score) => score.mean !== null)).toBe(true);
  });

  it("counts options when many differ", () => {
    const options = { ...headline.options, edit_lr: 1, n_iter: 70, act_margin: [5, 20, 10], act_ratio: 0.88 };
    const comparison = compareWithPublished(headline, likeHeadline({ T: 5, options }));
    expect(comparison.reason).toBe("T is 5, published 10; 4 options differ");
    expect(comparison.differs).toContainEqual({ field: "options.edit_lr", published: 0.9, measured: 1 });
  });

  it("is not comparable when a template is stated and differs", () => {
    const comparison = compareWithPublished({ ...headline, chatTemplate: false }, likeHeadline());
    expect(comparison.reason).toBe("chatTemplate is true, published false");
  });

  it.each(["dataSha256", "records", "T", "when", "metric", "locality"] as const)(
    "is not comparable when %s is not published",
    (field) => {
      const comparison = compareWithPublished({ ...headline, [field]: "unknown" }, likeHeadline());
      expect(comparison).toMatchObject({ verdict: "not comparable", reason: `published without ${field}` });
    },
  );

  it("is not comparable with a run that is not finished", () => {
    const run = likeHeadline();
    const comparison = compareWithPublished(headline, { ...run, scores: run.scores.slice(0, 7) });
    expect(comparison.reason).toBe("records is 7, published 10");
  });

  it("takes one block of all records for T as many, and a name given for the folder's", () => {
    const run = likeHeadline({ T: "all", model: "8cde5ca8380496c9" });
    expect(compareWithPublished(headline, run, { model: "LLaMA-3-8B" }).differs).toEqual([]);
    expect(compareWithPublished(headline, run).reason).toBe("model is 8cde5ca8380496c9, published LLaMA-3-8B");
  });

  it("never sets a perplexity or a specificity beside an accuracy", async () => {
    const rows = [
      ...(await readPublished({ data: "SelfCheckGPT" })),
      ...(await readPublished({ source: "NAS paper" })),
    ];
    const verdicts = rows.map((row) => compareWithPublished(row, likeHeadline()).verdict);
    expect(new Set(verdicts)).toEqual(new Set(["not comparable"]));
  });

  it("never sets a free answer that a language model judged beside teacher forcing", async () => {
    const wild = await readPublished({ source: "Mirage of Model Editing paper, Tables 3 to 8, WILD", method: "WISE" });
    for (const row of wild) {
      const comparison = compareWithPublished(row, likeHeadline());
      expect(comparison.verdict).toBe("not comparable");
      expect(comparison.differs.map(({ field }) => field)).toEqual(expect.arrayContaining(["metric", "locality"]));
    }
  });

  it("can be comparable for the paper's main table", async () => {
    const rows = await readPublished({ source: "WISE paper, Table 2", model: "LLaMA-2-7B", method: "WISE", T: 10 });
    const [row] = rows as [PublishedRow];
    const run = likeHeadline({ model: "Llama-2-7b-hf", records: 1037, T: 10, options: row.options });
    expect(compareWithPublished(row, run)).toMatchObject({ verdict: "outside", unknown: ["chatTemplate"] });
  });
});

describe("the nearest of several runs", () => {
  const other = likeHeadline({ T: 5, when: "after-each" });
  const near = likeHeadline({ T: 5 });

  it("is the one that differs in the fewest fields, wherever it stands", () => {
    expect(nearestRun(headline, [other, near])).toBe(near);
    expect(nearestRun(headline, [near, other])).toBe(near);
    expect(compareWithNearest(headline, [other, near]).reason).toBe("T is 5, published 10");
  });

  it("is comparable where any is", () => {
    const alike = likeHeadline();
    expect(nearestRun(headline, [other, near, alike])).toBe(alike);
    expect(["inside", "outside"]).toContain(compareWithNearest(headline, [other, alike]).verdict);
  });

  it("is, of the project's own study, the one with its T and way to keep memories, and not comparable", async () => {
    const study: RunResult[] = [];
    for (const { T, set } of studyNamed().points) {
      const { options } = await prepareNamed("wise", { preset: "lab", set: [...set] }, modelOf(4));
      study.push(sampleRun({ T: parseT(T), model: "lab-llama", records: 20, options: { ...options } }));
    }
    expect(nearestRun(headline, study)?.protocol).toMatchObject({ T: 10, options: { retrieve: true } });
    expect(compareWithNearest(headline, study).reason).toMatch(
      /^model is lab-llama, published LLaMA-3-8B; dataSha256 is/,
    );
  });

  it("is never one of another method: that measured something else", () => {
    const foreign = likeHeadline({ method: "another" });
    expect(nearestRun(headline, [foreign])).toBeNull();
    expect(compareWithNearest(headline, [foreign]).verdict).toBe("not measured");
    expect(compareWithNearest(headline, []).verdict).toBe("not measured");
  });
});

describe("comparisonFrame", () => {
  it("has a row per published score, with the reason and the source", () => {
    const comparisons = [compareWithPublished(headline, null), compareWithPublished(headline, likeHeadline({ T: 5 }))];
    const rows = rowsOf(comparisonFrame(comparisons));
    expect(rows).toHaveLength(6);
    expect(rows[0]).toEqual({
      model: "LLaMA-3-8B",
      method: "WISE",
      T: 10,
      score: "rewrite",
      published: headline.scores.rewrite,
      measured: null,
      low: null,
      high: null,
      verdict: "not measured",
      reason: "",
      source: "EasyEdit issue 474",
    });
    expect(rows[3]).toMatchObject({ verdict: "not comparable", reason: "T is 5, published 10" });
    expect(rows[3]?.measured).toBeTypeOf("number");
  });

  it("marks rows of low confidence", async () => {
    const doubtful = await readPublished({ source: "SPHERE paper" });
    const [row] = rowsOf(comparisonFrame(doubtful.map((row) => compareWithPublished(row, null))));
    expect(row?.source).toBe("SPHERE paper [low confidence]");
  });
});

describe("intervalOfRecords", () => {
  const run = sampleRun({ T: 1, records: 400 });

  it("has the binomial width for scores of 0 and 1", () => {
    const scores = run.scores.map((record, i) => ({
      ...record,
      rewrite: { ...record.rewrite, score: i % 5 === 0 ? 0 : 1 },
    }));
    const interval = intervalOfRecords({ ...run, scores }, "rewrite", 10);
    // Of ten records with 0.8 each, 5 to 10 are right in 95 of 100 cases.
    expect(interval).toEqual({ mean: 0.8, low: 0.5, high: 1, n: 400, halfWidth: 0.25 });
  });

  it("narrows with the root of the number of records, down to the run's own interval", () => {
    const width = (records: number) => intervalOfRecords(run, "rewrite", records).halfWidth;
    expect(width(25) / width(100)).toBeGreaterThan(1.6);
    expect(width(25) / width(100)).toBeLessThan(2.4);
    const [summary] = rowsOf(summaryFrame([run]));
    expect(width(400)).toBeCloseTo(((summary?.rewriteHigh as number) - (summary?.rewriteLow as number)) / 2, 2);
  });

  it("is the same each time", () => {
    expect(intervalOfRecords(run, "locality", 10)).toEqual(intervalOfRecords(run, "locality", 10));
  });

  it.each([0, -1, 2.5, Number.NaN])("refuses %j records", (records) => {
    expect(() => intervalOfRecords(run, "rewrite", records)).toThrow(RefusedInput);
  });

  it("stands in a table, a row per score", () => {
    const rows = rowsOf(recordsFrame(run, 10));
    expect(rows.map((row) => row.score)).toEqual(["rewrite", "rephrase", "locality"]);
    const { mean, low, high, halfWidth } = intervalOfRecords(run, "rewrite", 10);
    expect(rows[0]).toEqual({ score: "rewrite", measuredOver: 400, mean, records: 10, low, high, halfWidth });
    expect(() => recordsFrame({ ...run, scores: [] }, 10)).toThrow(RefusedInput);
  });

  it("refuses a measure that the run has not", () => {
    expect(() => intervalOfRecords(run, "portability", 10)).toThrow(RefusedInput);
  });
});

describe("scores of other metrics", () => {
  it("are the run's by the metric that the publication names, where the run was made for it", async () => {
    const ladder = sampleLadder({});
    const all = await readPublished({ method: "WISE" });
    const published = all.find(({ metric }) => metric === "exact match at the right length") as PublishedRow;
    const { scores } = compareWithPublished(published, ladder);
    const [{ rewrite }] = rowsOf(summaryFrame([underMetric(ladder, "em-gold-length")])) as [Record<string, number>];
    expect(scores[0]).toMatchObject({ name: "rewrite", mean: rewrite });
    const plain = compareWithPublished(published, sampleRun());
    expect(plain.differs.map(({ field }) => field)).toContain("metric");
  });

  it("perplexity stands beside the rewrites' perplexity, its locality beside agreement", async () => {
    const [published] = (await readPublished({ source: "WISE paper, Table 4", method: "WISE" })) as [PublishedRow];
    const { protocol, scores } = sampleRun({ metrics: ["teacher-forced", "perplexity"] });
    const of = (value: number) => scores.map((score) => ({ ...score, rewrite: { ...score.rewrite, score: value } }));
    const run: ScoredRun = { protocol, scores, under: { perplexity: of(7) } };
    const compared = compareWithPublished(published, run).scores;
    expect(compared.find(({ name }) => name === "perplexity")).toMatchObject({ mean: 7 });
    const [{ locality }] = rowsOf(summaryFrame([run])) as [Record<string, number>];
    expect(compared.find(({ name }) => name === "locality")).toMatchObject({ mean: locality });
  });
});
