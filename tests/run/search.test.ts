import { readFile } from "node:fs/promises";
import { expect, it } from "vitest";
import { methodNamed, prepareNamed } from "../../src/edit/registry.js";
import { openCheckpoint } from "../../src/model/folder.js";
import { DEFAULT_MODEL, projectFile, withDefaultPreset } from "../../src/run/inputs.js";
import { chosenSettings, readResults, resultsOf, routerRunsOf, searchOf } from "../../src/run/search.js";
import { refusal } from "../model/support.js";
import { sampleRun } from "../tables/sample.js";

const { points, shared, methods } = searchOf([]);

it("tries every method, with settings that all fit the project's model", async () => {
  const checkpoint = await openCheckpoint(DEFAULT_MODEL);
  const { config } = checkpoint;
  await checkpoint.close();
  for (const { method = "", set } of points) {
    await prepareNamed(method, withDefaultPreset({ set: [...set] }, config, methodNamed(method)), config);
  }
  expect(methods).toHaveLength(13);
  expect(new Set(points.map(({ name }) => name)).size).toBe(points.length);
  expect((await refusal(() => searchOf(["memoir"]))).found).toBe("memoir");
});

it("uses practice records, none of whose subjects is edited in a study", async () => {
  const subjects = async (file: string) =>
    (JSON.parse(await readFile(file, "utf8")) as { subject: string }[]).map(({ subject }) => subject);
  const practice = new Set(await subjects(shared.data as string));
  const edited = await subjects(projectFile("data", "lab", "edits.json"));
  expect(edited.filter((subject) => practice.has(subject))).toEqual([]);
  expect(practice.size).toBeGreaterThan(10);
});

it("chooses the settings with the largest mean, of equals the first", () => {
  const averages = [0.2, 0.2, 0.9, 0.1];
  const run = sampleRun({ records: 4 });
  const only = searchOf(["rome"]);
  const runs = only.points.map((_, i) => {
    const value = averages[i % averages.length] as number;
    const scores = run.scores.map(({ rewrite, rephrase, locality, ...record }) => ({
      ...record,
      rewrite: { ...rewrite, score: value },
      rephrase: rephrase && { ...rephrase, score: value },
      locality: locality.map((probe) => ({ ...probe, score: value })),
      unedited: [{ ...rewrite, score: 1 }],
    }));
    return { ...run, scores };
  });
  const { rome } = resultsOf(only.methods, runs);
  expect(rome?.tried.map(({ value }) => Number(value.toFixed(6)))).toEqual([0.2, 0.5, 0.2, 0.5, 0.2, 0.5, 0.2, 0.5]);
  expect(rome?.chosen).toEqual(rome?.tried[1]?.set);
});

it("has results of as many settings as it says, each method's choice the best of them", () => {
  const results = readResults();
  expect(Object.keys(results).sort()).toEqual([...methods].sort());
  for (const [method, { chosen, tried }] of Object.entries(results)) {
    const sets = points.filter((point) => point.method === method).map(({ set }) => JSON.stringify(set));
    expect(tried.map(({ set }) => JSON.stringify(set))).toEqual([...new Set(sets)]);
    const best = tried.reduce((a, b) => (b.value > a.value ? b : a));
    expect(chosen).toEqual(best.set);
  }
});

it("gives a router the setting of the largest T that was tried and is not above a run's", () => {
  const { wise, rome } = readResults();
  const tried = Object.entries(wise?.router ?? {});
  expect(tried.map(([T]) => Number(T))).toEqual(routerRunsOf("wise", { chosen: [] }).map(({ T }) => T));
  const [first, , last] = tried.map(([, { set }]) => [...(wise?.chosen ?? []), ...set]);
  expect(chosenSettings("wise", 1)).toEqual(first);
  expect(chosenSettings("wise", 9)).toEqual(first);
  for (const T of [100, 1000, "all"]) expect(chosenSettings("wise", T)).toEqual(last);
  expect(new Set(tried.map(([, { set }]) => set.join())).size).toBe(tried.length);
  for (const [, { from, to, set }] of tried) {
    const value = Number(set[0]?.split("=")[1]);
    expect(from <= value && value <= to).toBe(true);
  }
  expect(routerRunsOf("rome", { chosen: [] })).toEqual([]);
  expect(chosenSettings("rome", 1000)).toEqual(rome?.chosen);
});
