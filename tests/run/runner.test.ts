import { existsSync } from "node:fs";
import { readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Interrupted } from "../../src/core/errors.js";
import { loadRecords } from "../../src/data/load.js";
import type { EditTrace } from "../../src/edit/trace.js";
import type { Probe } from "../../src/eval/score.js";
import type { ProbeScore, RecordScore } from "../../src/eval/types.js";
import { findIrrelevant } from "../../src/run/inputs.js";
import type { Lab } from "../../src/run/lab.js";
import type { RunProgress } from "../../src/run/pace.js";
import type { RunResult } from "../../src/run/types.js";
import { errorOf } from "../edit/support.js";
import { refusal, temporaryFolder } from "../model/support.js";
import { expectTidy } from "../support/tensor-matcher.js";
import { bytesOfRun, openQuickLab, recordsFile, TINY_RECORDS } from "./support.js";

let lab: Lab;
beforeAll(async () => {
  lab = await openQuickLab();
});
afterAll(() => lab.close());

/** Edits without the seconds they took, which differ from run to run. */
const lossesOf = (edits: readonly EditTrace[]) => edits.map(({ seconds: _, ...trace }) => trace);

const valuesOf = ({ protocol, edits, scores }: RunResult) => ({ protocol, scores, edits: lossesOf(edits) });

/** Parts of a probe that a reader sees, without the last digits of its distances. */
const seen = ({ target, pre, post, score, preScore, route }: ProbeScore) => ({
  target,
  pre,
  post,
  score,
  preScore,
  route,
});

/** The first records as edits and probes, as a user would write them down. */
async function byHand(count: number) {
  const { records } = await loadRecords(TINY_RECORDS, { limit: count });
  const { list } = await findIrrelevant(TINY_RECORDS, undefined);
  return records.map(({ prompt, target, rephrase, locality }, i) => ({
    fact: { prompt, target, irrelevant: list.prompts[i] as string },
    probes: [
      { kind: "rewrite", prompt, answer: target },
      { kind: "rephrase", prompt: rephrase as string, answer: target },
      { kind: "locality", ...(locality[0] as { prompt: string; answer: string }) },
    ] satisfies Probe[],
  }));
}

const probesOf = ({ rewrite, rephrase, locality }: RecordScore) => [rewrite, rephrase as ProbeScore, ...locality];

describe("the protocol", () => {
  test("T = 1 is editing each record by hand on the untouched model", async () => {
    const run = await lab.run({ T: 1, limit: 2 });
    expect(run.scores.map(({ record, block }) => [record, block])).toEqual([
      [0, 0],
      [1, 1],
    ]);
    for (const [i, { fact, probes }] of (await byHand(2)).entries()) {
      const trace = await lab.edit(fact);
      const scores = await lab.score(probes);
      lab.rollback();
      expect(trace.steps.length).toBe(run.edits[i]?.steps.length);
      expect(trace.steps[1]?.loss).toBeCloseTo(run.edits[i]?.steps[1]?.loss as number, 3);
      expect(probesOf(run.scores[i] as RecordScore).map(seen)).toEqual(scores.map(seen));
    }
  });

  test("after-each scores a record under the edits up to its own, after-all under all of its block", async () => {
    const [each, all] = [await lab.run({ T: 3, limit: 4, when: "after-each" }), await lab.run({ T: 3, limit: 4 })];
    expect(lossesOf(each.edits)).toEqual(lossesOf(all.edits));
    expect([each, all].map(({ protocol }) => protocol.when)).toEqual(["after-each", "after-all"]);
    const facts = await byHand(3);
    for (const { fact } of facts.slice(0, 2)) await lab.edit(fact);
    const early = await lab.score(facts[1]?.probes as Probe[]);
    await lab.edit(facts[2]?.fact as Parameters<Lab["edit"]>[0]);
    const late = await lab.score(facts[1]?.probes as Probe[]);
    lab.rollback();
    expect(probesOf(each.scores[1] as RecordScore).map(seen)).toEqual(early.map(seen));
    expect(probesOf(all.scores[1] as RecordScore).map(seen)).toEqual(late.map(seen));
    // The last record of a block is scored at the same moment either way.
    for (const last of [2, 3]) expect(each.scores[last]).toEqual(all.scores[last]);
    expect(all.scores.map(({ block }) => block)).toEqual([0, 0, 0, 1]);
  });

  test("every block starts from the untouched model", async () => {
    const [alone, pairs, together] = [await lab.run({ T: 1 }), await lab.run({ T: 2 }), await lab.run({ T: "all" })];
    const [one, two, all] = [alone, pairs, together].map(({ edits }) => lossesOf(edits));
    for (const first of [0, 2, 4]) expect(two?.[first]).toEqual(one?.[first]);
    expect(two?.[1]).not.toEqual(one?.[1]);
    expect(all?.slice(0, 2)).toEqual(two?.slice(0, 2));
    expect(all?.[2]).not.toEqual(two?.[2]);
    expect(together.scores.every(({ block }) => block === 0)).toBe(true);
  });

  test("edits made by hand are not part of a run, and stay", async () => {
    const before = await lab.run({ T: 2, limit: 2 });
    const [{ fact, probes }] = (await byHand(1)) as [Awaited<ReturnType<typeof byHand>>[number]];
    await lab.edit(fact);
    const own = await lab.score(probes);
    expect(valuesOf(await lab.run({ T: 2, limit: 2 }))).toEqual(valuesOf(before));
    expect(lab.edits).toBe(1);
    expect(await lab.score(probes)).toEqual(own);
    lab.rollback();
    expect(lab.edits).toBe(0);
    expect((await lab.score(probes)).every(({ route }) => route === "main")).toBe(true);
  });

  test("records everything two numbers must share", async () => {
    const { protocol } = await lab.run({ T: "all", limit: 1 });
    expect(protocol).toMatchObject({
      data: "tiny-records",
      records: 1,
      T: "all",
      when: "after-all",
      method: "wise",
      options: { n_iter: 2, act_ratio: 0.88, retrieve: true },
      assets: {},
      model: "tiny-llama3",
      seed: 0,
    });
    for (const sha256 of [protocol.dataSha256, protocol.irrelevantSha256, protocol.modelSha256]) {
      expect(sha256).toMatch(/^[0-9a-f]{64}$/);
    }
    expect(protocol.backend).toContain(lab.backend.name);
  });

  test("says when the irrelevant prompts start again from the top, and which list was taken", async () => {
    const irrelevant = join(await temporaryFolder(), "irrelevant.json");
    await writeFile(irrelevant, JSON.stringify(["one", "two"]));
    const notices: string[] = [];
    const run = await lab.run({ T: 1, limit: 3, irrelevant, onNotice: (line) => notices.push(line) });
    expect(notices).toEqual(["irrelevant prompts: 2 for 3 records; the later ones start the list again"]);
    expect(run.protocol.irrelevant).toBe("irrelevant");
    await lab.run({ T: 1, limit: 1, data: await recordsFile(1), onNotice: (line) => notices.push(line) });
    expect(notices[1]).toMatch(/the project's general list .*--irrelevant/);
  });
});

test("a run in memory is the run in a folder", async () => {
  const out = join(await temporaryFolder(), "new", "run");
  const memory = await lab.run({ T: 2, limit: 3 });
  const folder = await lab.run({ T: 2, limit: 3, out });
  expect(valuesOf(folder)).toEqual(valuesOf(memory));
  expect([memory.folder, folder.folder]).toEqual([null, out]);
  expect(folder.edits.every(({ seconds }) => seconds.steps > 0 && seconds.frozen >= 0)).toBe(true);
});

test("tells how far it is and how long it will take", async () => {
  const told: RunProgress[] = [];
  await lab.run({ T: 2, limit: 3, onProgress: (progress) => told.push(progress) });
  expect(told.map(({ phase, block, edited, scored }) => [phase, block, edited, scored])).toEqual([
    ["editing", 0, 1, 0],
    ["editing", 0, 2, 0],
    ["scoring", 0, 2, 1],
    ["scoring", 0, 2, 2],
    ["editing", 1, 3, 2],
    ["scoring", 1, 3, 3],
  ]);
  expect(told.every(({ blocks, records }) => blocks === 2 && records === 3)).toBe(true);
  expect(told[0]?.secondsLeft).toBeCloseTo(2 * (told[0]?.seconds as number), 6);
  expect(told.at(-1)?.secondsLeft).toBe(0);
});

test("interrupted, it keeps its finished blocks; taken up again, it gives the same bytes", async () => {
  const straight = join(await temporaryFolder(), "straight");
  await lab.run({ T: 1, limit: 3, out: straight });
  const out = join(await temporaryFolder(), "run");
  for (const stop of [
    { block: 0, phase: "editing" },
    { block: 1, phase: "scoring" },
  ]) {
    const controller = new AbortController();
    const onProgress = ({ block, phase }: RunProgress) => {
      if (block === stop.block && phase === stop.phase) controller.abort();
    };
    const stopped = expectTidy(() => errorOf(lab.run({ T: 1, limit: 3, out, signal: controller.signal, onProgress })));
    expect(await stopped).toBeInstanceOf(Interrupted);
  }
  const told: RunProgress[] = [];
  await lab.run({ T: 1, limit: 3, out, onProgress: (progress) => told.push(progress) });
  expect(told[0]).toMatchObject({ block: 2, edited: 3, scored: 2 });
  expect(await bytesOfRun(out)).toEqual(await bytesOfRun(straight));
});

test("leaves no tensor behind", async () => {
  for (const when of ["after-all", "after-each"] as const) await expectTidy(() => lab.run({ T: 2, limit: 3, when }));
});

describe("refused before the first edit, with nothing written", () => {
  const refusedRun = async (request: Parameters<Lab["run"]>[0]) => {
    const out = join(await temporaryFolder(), "run");
    const told: RunProgress[] = [];
    const error = await expectTidy(() =>
      refusal(() => lab.run({ ...request, out, onProgress: (progress) => told.push(progress) })),
    );
    expect(told).toEqual([]);
    expect(existsSync(out) ? await readdir(out) : []).toEqual([]);
    return error;
  };

  test.each([0, 1.5, "x", -1])("T = %s", async (T) => {
    expect((await refusedRun({ T })).found).toBe(T);
  });

  test("a record without alt", async () => {
    const data = await recordsFile(4, (record, i) => {
      if (i === 2) delete record.alt;
    });
    const error = await refusedRun({ T: 1, data });
    expect(error.where).toContain(data);
    expect(error.where).toMatch(/record 3/);
    expect(error.message).toContain("alt");
  });

  test("a record that is too long for the model, named although it comes late", async () => {
    const data = await recordsFile(3, (record, i) => {
      if (i === 2) record.loc = "word ".repeat(9000);
    });
    const error = await refusedRun({ T: 1, data });
    expect(error.where).toContain(`${data}, record 3 (index 2)`);
    expect(error.expected).toContain("8192");
  });

  test.each([0, -1, 1.5])("limit = %s", async (limit) => {
    expect((await refusedRun({ T: 1, limit })).where).toBe("limit");
  });
});
