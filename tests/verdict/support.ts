import type { PublishedRow } from "../../src/published/published.js";
import type { StudyRow } from "../../src/run/study.js";
import type { RunResult } from "../../src/run/types.js";
import { sampleRun } from "../tables/sample.js";

/** Invented rows: WISE in two ways, and ROME, whose answers get worse by a share of what they were. */
export function sampleRows(records = 60): StudyRow<RunResult>[] {
  const options = { save_freq: 1000, merge_freq: 1000 };
  const runs = (make: (T: number) => RunResult) => [1, 10, 100].map(make);
  const wise = runs((T) => sampleRun({ T, records, options }));
  const shared = runs((T) => sampleRun({ T, records, options: { save_freq: 5, merge_freq: 5 } })).slice(1);
  const rome = runs((T) => worse(sampleRun({ T, records, method: "rome", options: {} }), T));
  return [
    { title: "WISE", note: "all edits in one memory", runs: wise },
    { title: "WISE-Merge", note: "several memories", runs: shared },
    { title: "ROME", runs: rome },
  ];
}

/** The same run with a part of each score gone. */
function worse(run: RunResult, T: number): RunResult {
  const factor = 1 / (1 + Math.log10(T));
  return {
    ...run,
    scores: run.scores.map(({ rewrite, rephrase, locality, ...record }) => ({
      ...record,
      rewrite: { ...rewrite, score: 0.9 * factor * rewrite.score },
      rephrase: rephrase && { ...rephrase, score: 0.9 * factor * rephrase.score },
      locality: locality.map((probe) => ({ ...probe, score: factor * probe.score })),
    })),
  };
}

/** Published rows in which ROME falls with T, and WISE does not. */
export function publishedRows(): PublishedRow[] {
  const row = (method: string, T: number, average: number): PublishedRow => ({
    source: "A paper, Table 2",
    url: null,
    read: "primary",
    readFrom: "the paper",
    file: "paper.json",
    model: "LLaMA-2-7B",
    method,
    algorithm: method,
    lacks: null,
    data: "zsRE",
    dataSha256: "unknown",
    records: 100,
    T,
    when: "after-all",
    metric: "teacher-forced token accuracy",
    locality: "agreement with the model before the edit",
    chatTemplate: "unknown",
    options: {},
    scores: { rewrite: average, rephrase: average, locality: average, average },
    printed: {},
    decimals: 2,
    notes: [],
  });
  return [
    row("WISE", 1, 0.97),
    row("WISE", 10, 0.94),
    row("WISE", 100, 0.9),
    row("ROME", 1, 0.98),
    row("ROME", 10, 0.7),
    row("ROME", 100, 0.1),
    row("GRACE", 1, 0.78),
  ];
}
