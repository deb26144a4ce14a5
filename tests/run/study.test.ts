import { rm } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { withUnsaid } from "../../src/edit/registry.js";
import { atInference } from "../../src/explore/router/atInference.js";
import { inferenceOf } from "../../src/explore/router/router.js";
import { probeKinds, probesOf } from "../../src/run/measures.js";
import { chosenSettings } from "../../src/run/search.js";
import { partOf, readStudy, readStudyRows, STUDIES, saveStudy, studyNamed, studyRows } from "../../src/run/study.js";
import type { ScoredRun } from "../../src/run/types.js";
import { underMetric } from "../../src/run/under-metric.js";
import { rowsOf, summaryFrame } from "../../src/tables/tables.js";
import { refusal, temporaryFolder } from "../model/support.js";
import { sampleProtocol, sampleRun } from "../tables/sample.js";
import { writeRun } from "./support.js";

const { points: studyPoints, fields: studyFields } = studyNamed();

/** Run folders under the names of the study's points, of runs that were made up. */
async function madeUpRuns(): Promise<string> {
  const out = await temporaryFolder();
  for (const point of studyPoints) {
    const options = withUnsaid("wise", { ...sampleProtocol.options, retrieve: !point.set.includes("retrieve=false") });
    await writeRun(join(out, point.name), sampleRun({ T: Number(point.T), records: 12, options }));
  }
  return out;
}

test("the study that comes with the project decides as it was recorded, and differs where its table says", async () => {
  const study = await readStudy();
  for (const [i, run] of study.entries()) {
    const { key, own } = inferenceOf(run.protocol);
    expect(key).toBe("act_ratio");
    const again = atInference(run, own).scores;
    for (const kind of probeKinds) {
      const shown = (scores: ScoredRun["scores"]) =>
        scores.flatMap((record) => probesOf(record, kind).map(({ route, score }) => [route, score]));
      expect(shown(again)).toEqual(shown(run.scores));
    }
    expect(run.protocol.T).toBe(studyPoints[i]?.T);
    for (const setting of studyPoints[i]?.set ?? []) {
      const [name, value] = setting.split("=") as [string, string];
      expect(String(run.protocol.options[name])).toBe(value);
    }
  }
  expect(rowsOf(summaryFrame(study, { allow: studyFields }))).toHaveLength(6);
});

test("saved summaries of the study are read in the order of its table", async () => {
  const saved = join(await temporaryFolder(), "study");
  expect(await saveStudy(studyNamed(), await madeUpRuns(), saved)).toBe(saved);
  const rows = rowsOf(summaryFrame(await readStudy("study", saved), { allow: studyFields }));
  expect(rows.map((row) => [row.T, row["options.retrieve"], row.records])).toEqual([
    [1, true, 12],
    [10, true, 12],
    [100, true, 12],
    [1000, true, 12],
    [1000, true, 12],
    [1000, false, 12],
  ]);
  await rm(join(saved, "T10.json"));
  const error = await refusal(() => readStudy("study", saved));
  expect(error).toMatchObject({ where: join(saved, "T10.json"), hint: "npm run study -- --save" });
});

test("the study of methods takes what the search chose, at every T of the paper", async () => {
  const study = studyNamed("methods");
  const rows = studyRows(
    study,
    study.points.map(({ T }) => sampleRun({ T: Number(T), records: 2 })),
  );
  expect(rows.map(({ title }) => title)).toEqual(expect.arrayContaining(["FT-L", "MEMIT-MASS", "WISE", "WISE-Merge"]));
  expect(rows.find(({ title }) => title === "ROME")?.runs.map(({ protocol }) => protocol.T)).toEqual([
    1, 10, 100, 1000,
  ]);
  for (const { method = "wise", T, set } of study.points)
    expect(set).toEqual(expect.arrayContaining(chosenSettings(method, T)));
  expect(partOf(study, ["memit"]).points.map(({ name }) => name)).toEqual([
    "memit-T1",
    "memit-T10",
    "memit-T100",
    "memit-T1000",
  ]);
  expect(partOf(study, ["memit-T10", "mend"]).points).toHaveLength(5);
  expect((await refusal(() => partOf(study, ["memi"]))).expected).toContain("memit-mass");
  expect((await refusal(() => chosenSettings("memoir", 1))).hint).toBe("npx wise-lab search memoir --save");
});

test("rows of a study that was saved in part have what there is, and name what is missing", async () => {
  const saved = join(await temporaryFolder(), "methods");
  const { points } = studyNamed("methods");
  const runs = await temporaryFolder();
  const some = points.filter(({ name }) => ["rome-T1", "rome-T10", "wise-merge-T100"].includes(name));
  for (const { name, T } of some) await writeRun(join(runs, name), sampleRun({ T: Number(T), records: 4 }));
  await saveStudy({ ...studyNamed("methods"), points: some }, runs, saved);
  const { rows, missing } = await readStudyRows("methods", saved);
  expect(rows.map(({ title, runs: own }) => [title, own.map(({ protocol }) => protocol.T)])).toEqual([
    ["ROME", [1, 10]],
    ["WISE-Merge", [100]],
  ]);
  expect(rows[1]?.note).toContain("four memories");
  expect(missing).toHaveLength(points.length - 3);
  const error = await refusal(() => readStudyRows("methods", join(saved, "nowhere")));
  expect(error.hint).toBe("npm run study -- methods --save");
});

test("every study has the records of its points, and differs where its table says", async () => {
  for (const name of STUDIES.filter((one) => one !== "methods")) {
    const { points, fields, shared } = studyNamed(name);
    const study = await readStudy(name);
    const limit = shared.limit ?? 1037;
    expect(study.map(({ protocol }) => protocol.records)).toEqual(points.map(() => limit));
    expect(study.map(({ protocol }) => protocol.targetStop)).toEqual(
      points.map(({ targetStop = "none" }) => targetStop),
    );
    expect(rowsOf(summaryFrame(study, { allow: fields }))).toHaveLength(points.length);
    for (const metric of shared.metrics ?? []) for (const run of study) underMetric(run, metric);
  }
  const error = await refusal(() => studyNamed("ladder"));
  expect(error.message).toContain("study, free-answers");
});
