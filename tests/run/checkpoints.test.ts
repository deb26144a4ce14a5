import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { allCheckpointScores, sampleOf, scoredAt } from "../../src/run/checkpoints.js";
import { readRun } from "../../src/run/folder.js";
import { joinParts } from "../../src/run/join.js";
import type { Lab } from "../../src/run/lab.js";
import { partFolder } from "../../src/run/parts.js";
import type { RunRequest } from "../../src/run/request.js";
import type { RunResult, When } from "../../src/run/types.js";
import { refusal, temporaryFolder } from "../model/support.js";
import { bytesOfRun, openQuickLab, recordsFile, startWiseLab, TINY_MODEL, wiseLab } from "./support.js";

const RECORDS = 22;
const T = 10; // the last block has two
const times = ["after-all", "after-each"] as const;
const other: Record<When, When> = { "after-all": "after-each", "after-each": "after-all" };

let lab: Lab;
beforeAll(async () => {
  lab = await openQuickLab();
});
afterAll(() => lab.close());

const runOf = (request: Omit<RunRequest, "T"> & { T?: number }) => lab.run({ T, ...request });

describe("scores at checkpoints", { timeout: 180_000 }, () => {
  const metrics = { metrics: ["free-em", "log-prob"], maxNewTokens: 3 };
  const plain = new Map<When, RunResult>();
  /** A run without checkpoints, made once. */
  async function plainRun(when: When, data: string): Promise<RunResult> {
    const run = plain.get(when) ?? (await runOf({ data, when, ...metrics }));
    plain.set(when, run);
    return run;
  }

  test.each(times)("of a run scored %s hold both runs exactly", async (when) => {
    const data = await recordsFile(RECORDS);
    const run = await runOf({ data, when, checkpoints: { every: 4, sample: null }, ...metrics });
    const changed = await plainRun(other[when], data);
    expect(run.scores).toEqual((await plainRun(when, data)).scores);
    expect(scoredAt(run, when)).toBe(run);
    expect(scoredAt(run, other[when])).toMatchObject({ protocol: changed.protocol, scores: changed.scores });

    const seen = allCheckpointScores(run).filter(({ block }) => block === 0);
    const at = (edits: number) => seen.filter((score) => score.edits === edits).map(({ record }) => record);
    expect(at(1)).toEqual([0]);
    expect(at(4)).toEqual([0, 1, 2, 3]);
    expect(at(7)).toEqual([6]);
    expect(at(8)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(at(10)).toHaveLength(10);
    expect(allCheckpointScores(run).filter(({ block, edits }) => block === 2 && edits === 2)).toHaveLength(2);
  });

  test("of a shorter block are those of the longer one, where the same edits stood", async () => {
    const data = await recordsFile(T);
    const long = await runOf({ data, checkpoints: { every: 4, sample: null } });
    const short = await runOf({ data, T: 8, limit: 8 });
    const standing = allCheckpointScores(long).filter(({ edits }) => edits === 8);
    const alone = standing.slice(0, 7).map(({ edits: _, ...score }) => score);
    expect(alone.map(({ rewrite }) => rewrite.post)).toEqual(
      short.scores.slice(0, 7).map(({ rewrite }) => rewrite.post),
    );
  });

  test("are the same bytes from parts, and from a run that was stopped", async () => {
    const data = await recordsFile(RECORDS);
    const checkpoints = { every: 3, sample: 2 };
    for (const when of times) {
      const straight = join(await temporaryFolder(), "straight");
      const whole = await runOf({ data, when, checkpoints, out: straight });
      expect((await readRun(straight)).checkpointScores).toEqual(whole.checkpointScores);
      const run = join(await temporaryFolder(), "run");
      for (const index of [1, 2]) {
        const part = { index, of: 2 };
        await runOf({ data, when, checkpoints, part, out: partFolder(run, part) });
      }
      await joinParts(run);
      const joined = Object.entries(await bytesOfRun(run)).filter(([name]) => !name.startsWith("parts"));
      expect(Object.fromEntries(joined)).toEqual(await bytesOfRun(straight));

      const stopped = join(await temporaryFolder(), "stopped");
      const pause = new AbortController();
      const onProgress = ({ edited }: { edited: number }) => edited === 6 && pause.abort("a test");
      const end = await runOf({ data, when, checkpoints, out: stopped, pause: pause.signal, onProgress }).catch(String);
      expect(end).toContain("stopped at a safe point, as a test asked");
      await runOf({ data, when, checkpoints, out: stopped });
      expect(await bytesOfRun(stopped)).toEqual(await bytesOfRun(straight));
    }
  });

  test.each<[string, RunRequest, string]>([
    ["T = 1", { T: 1, checkpoints: { every: 2, sample: null } }, "T = 1"],
    ["another distance in the same folder", { T: 3, checkpoints: { every: 3, sample: null } }, "checkpoints.every: 3"],
  ])("are refused for %s", async (_, request, found) => {
    const out = join(await temporaryFolder(), "run");
    if (request.T !== 1) await runOf({ T: 3, limit: 3, checkpoints: { every: 2, sample: null }, out });
    expect((await refusal(() => runOf({ ...(request as { T: number }), limit: 3, out }))).found).toContain(found);
  });

  test("have a command line, and a run without them says how to get them", async () => {
    const out = join(await temporaryFolder(), "run");
    const words = [`--model=${TINY_MODEL}`, `--data=${await recordsFile(6)}`, "--set=n_iter=1", `--out=${out}`];
    const made = await wiseLab("run", "--T=6", ...words, "--checkpoint-every=2", "--checkpoint-sample=1");
    expect(made, made.stderr).toMatchObject({ status: 0 });
    const csv = join(await temporaryFolder(), "triangle.csv");
    const shown = await wiseLab("explore", "retention", out, `--csv=${csv}`);
    expect(shown, shown.stderr).toMatchObject({ status: 0, stdout: expect.stringContaining("Later edits") });
    const alone = await startWiseLab("run", "--T=6", ...words, "--checkpoint-sample=1").ended;
    expect(alone.stderr).toContain("--checkpoint-every beside it");
    const run = await runOf({ data: await recordsFile(2), T: 2 });
    expect((await refusal(() => scoredAt(run, "after-each"))).hint).toContain("--checkpoint-every");
  });
});

test("a sample of earlier records is seeded, and keeps most of them from one checkpoint to the next", () => {
  const records = Array.from({ length: 100 }, (_, index) => ({ index }) as Parameters<typeof sampleOf>[0][0]);
  const at = (count: number, seed = 0) =>
    sampleOf(records.slice(0, count), { every: 10, sample: 10 }, seed).map(({ index }) => index);
  expect(at(5)).toEqual([0, 1, 2, 3, 4]);
  expect(at(100)).toHaveLength(10);
  expect(at(100)).toEqual(at(100));
  expect(at(100)).not.toEqual(at(100, 1));
  expect(at(100).filter((index) => at(90).includes(index)).length).toBeGreaterThan(5);
  expect(sampleOf(records, { every: 1, sample: null }, 0)).toHaveLength(100);
});
