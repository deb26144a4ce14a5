import { cp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it, test } from "vitest";
import { blocksOf, blocksOfPart, parsePart } from "../../src/run/blocks.js";
import { readRuns } from "../../src/run/finished.js";
import { readEnvironments, readRun } from "../../src/run/folder.js";
import { differenceOf, joinParts } from "../../src/run/join.js";
import type { Lab } from "../../src/run/lab.js";
import { partFolder, readPrepared } from "../../src/run/parts.js";
import { readPartsProgress, totalOf } from "../../src/run/parts-progress.js";
import type { RunRequest } from "../../src/run/request.js";
import { refusal, temporaryFolder } from "../model/support.js";
import {
  bytesOfRun,
  openQuickLab,
  QUICK,
  recordsFile,
  rewriteSealed,
  TINY_MODEL,
  TINY_RECORDS,
  wiseLab,
} from "./support.js";

const RECORDS = 20;

const newFolder = async () => join(await temporaryFolder(), "run");

let lab: Lab;
beforeAll(async () => {
  lab = await openQuickLab();
});
afterAll(() => lab.close());

async function runParts(run: string, of: number, request: RunRequest, only?: readonly number[]): Promise<void> {
  for (let index = 1; index <= of; index++) {
    if (only !== undefined && !only.includes(index)) continue;
    const part = { index, of };
    await lab.run({ ...request, part, out: partFolder(run, part) });
  }
}

/** Files of a run, without the folder of its parts. */
async function runBytes(run: string): Promise<Record<string, string>> {
  const bytes = Object.entries(await bytesOfRun(run));
  return Object.fromEntries(bytes.filter(([name]) => !name.startsWith("parts")));
}

async function straightBytes(request: RunRequest): Promise<Record<string, string>> {
  const out = await newFolder();
  await lab.run({ ...request, out });
  return bytesOfRun(out);
}

describe("the blocks of parts", () => {
  it("are all blocks, each once, in order", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: 40 }), fc.nat(), (records, T, chosen) => {
        const blocks = blocksOf(records, T);
        const of = 1 + (chosen % blocks.length);
        const parts = Array.from({ length: of }, (_, i) => blocksOfPart({ records, T }, { index: i + 1, of }));
        expect(parts.flat()).toEqual(blocks);
        for (const part of parts) expect(part.length).toBeGreaterThan(0);
      }),
    );
  });

  it("begin where a group of the frozen part begins, while there are enough of these", () => {
    const starts = Array.from(
      { length: 6 },
      (_, i) => blocksOfPart({ records: 60, T: 1 }, { index: i + 1, of: 6 })[0]?.start,
    );
    expect(starts).toEqual([0, 8, 16, 32, 40, 48]);
  });

  test.each(["0/6", "7/6", "3", "3/", "a/b", "1/0", "-1/6"])("%s is refused", async (text) => {
    expect((await refusal(() => parsePart(text))).where).toBe("--part");
  });

  it("are refused where there are more parts than blocks", async () => {
    const error = await refusal(() => blocksOfPart({ records: 60, T: 30 }, { index: 1, of: 3 }));
    expect(error).toMatchObject({ found: "3 parts of 2 blocks", expected: "at most 2 parts" });
  });
});

describe("a run joined from its parts", { timeout: 180_000 }, () => {
  const metrics = { metrics: ["free-em", "log-prob"], maxNewTokens: 3 };

  test.each<[string, number, Omit<RunRequest, "data">]>([
    [
      "single edits with steps, free answers and saved edits",
      3,
      { T: 1, scoreSteps: [1], saveEdits: true, ...metrics },
    ],
    ["blocks of three, scored after each edit", 7, { T: 3, when: "after-each", limit: 19 }],
    ["one part", 1, { T: 8 }],
  ])("is the same bytes: %s", async (_, of, request) => {
    const full = { ...request, data: await recordsFile(RECORDS) };
    const run = await newFolder();
    await runParts(run, of, full);
    const { environments } = await joinParts(run);
    expect(environments).toHaveLength(1);
    expect(await runBytes(run)).toEqual(await straightBytes(full));
    expect((await readRuns(run)).map(({ folder }) => folder)).toEqual([run]);
  });

  test("names what is missing, with the command that makes it, and writes nothing", async () => {
    const run = await newFolder();
    const data = await recordsFile(RECORDS);
    const words = [
      "run",
      "--T=1",
      `--model=${TINY_MODEL}`,
      `--data=${data}`,
      `--out=${run}`,
      ...QUICK.map((one) => `--set=${one}`),
    ];
    expect((await wiseLab(...words, "--prepare")).stdout).toBe(`prepared: ${join(run, "parts")}\n`);
    const first = await wiseLab(...words, "--part=1/3");
    expect(first, first.stderr).toMatchObject({ status: 0, stdout: expect.stringContaining("part 1 of 3: 8 records") });
    const error = await refusal(() => joinParts(run));
    expect(error.found).toBe("2 of 3: not begun; 3 of 3: not begun");
    expect(error.hint).toContain(`--part=2/3\n`);
    expect(Object.keys(await runBytes(run))).toEqual([]);

    for (const command of (error.hint as string).split("\n")) {
      const made = await wiseLab(...command.trim().split(" ").slice(1));
      expect(made, made.stderr).toMatchObject({ status: 0 });
    }
    const alone = await newFolder();
    const straight = await wiseLab(...words.map((word) => word.replace(run, alone)));
    expect(straight.status).toBe(0);
    const joined = await wiseLab("join", run, "--against", alone);
    expect(joined, joined.stderr).toMatchObject({
      status: 0,
      stdout: expect.stringContaining(`against ${alone}: equal`),
    });
    expect(await runBytes(run)).toEqual(await bytesOfRun(alone));
    const shown = await wiseLab("parts", run);
    expect(shown.stdout).toMatch(/1 of 3: finished, 8 of 8 blocks, 8 of 8 records scored/);
    expect(shown.stdout).toMatch(/finished 3\/3 {2}scored 20\/20, 0 left\n/);
  });

  test("goes on where it was stopped, and says where it was computed elsewhere", async () => {
    const data = await recordsFile(RECORDS);
    const run = await newFolder();
    await runParts(run, 2, { T: 2, data });
    const second = partFolder(run, { index: 2, of: 2 });
    await rewriteSealed(second, "environment", (line) => ({ ...line, processor: "another processor, 64 cores" }));
    const whole = await newFolder();
    await cp(run, whole, { recursive: true });
    await joinParts(whole);
    const environments = await readEnvironments(whole);
    expect(environments.map(({ fromEdit }) => fromEdit)).toEqual([0, 8]);
    expect(environments[1]?.processor).toBe("another processor, 64 cores");
    await joinParts(whole); // nothing is left to do
    expect(await readEnvironments(whole)).toEqual(environments);
    const alone = await straightBytes({ T: 2, data });
    const { "environment.jsonl": _, ...same } = await runBytes(whole);
    const { "environment.jsonl": __, ...straight } = alone;
    expect(same).toEqual(straight);
  });

  test("is refused where parts are of other runs, other divisions, or not as they were written", async () => {
    const data = await recordsFile(RECORDS);
    const run = await newFolder();
    await runParts(run, 2, { T: 2, data }, [1]);
    const shorter = await openQuickLab("n_iter=1");
    const part = { index: 2, of: 2 };
    const out = partFolder(run, part);
    const other = await refusal(() => shorter.run({ T: 2, data, part, out }));
    expect(other.found).toContain("options.n_iter: 1");
    shorter.close();
    await runParts(run, 3, { T: 2, data }, [1]);
    expect((await refusal(() => joinParts(run))).found).toBe("parts of 2, parts of 3");
    await rm(partFolder(run, { index: 1, of: 3 }), { recursive: true });
    await rm(out, { recursive: true, force: true });
    await cp(partFolder(run, { index: 1, of: 2 }), out, { recursive: true });
    expect((await refusal(() => joinParts(run))).found).toBe("index: 2");
    await rm(out, { recursive: true });
    await runParts(run, 2, { T: 2, data }, [2]);
    const scores = join(out, "scores.jsonl");
    await writeFile(scores, (await readFile(scores, "utf8")).replace('"score":', '"Score":'));
    expect((await refusal(() => joinParts(run))).where).toContain(scores);
  });

  test("differs in scores from another run, and says in how many", async () => {
    const one = await lab.run({ T: 2, data: TINY_RECORDS });
    const [first, ...rest] = one.scores as [(typeof one.scores)[0]];
    const changed = { ...first, rewrite: { ...first.rewrite, readings: [] } };
    expect(differenceOf(one, one)).toEqual({ scores: 6, differ: 0 });
    expect(differenceOf(one, { ...one, scores: [changed, ...rest] })).toEqual({ scores: 6, differ: 1 });
  });
});

test("what was prepared is the run that the parts make", { timeout: 120_000 }, async () => {
  const data = await recordsFile(RECORDS);
  const run = await newFolder();
  const cache = join(await temporaryFolder(), "cache");
  const words = [`--model=${TINY_MODEL}`, `--data=${data}`, `--out=${run}`, ...QUICK.map((one) => `--set=${one}`)];
  const prepared = await wiseLab("run", "--T=4", ...words, "--prepare", `--cache=${cache}`);
  expect(prepared, prepared.stderr).toMatchObject({ status: 0 });
  const config = await readPrepared(run);
  expect(config?.protocol).toMatchObject({ T: 4, records: RECORDS });
  const other = await wiseLab("run", "--T=2", ...words, "--part=1/2", `--cache=${cache}`);
  expect(other.status).toBe(1);
  expect(other.stderr).toContain("found: protocol.T: 2");
  const first = await wiseLab("run", "--T=4", ...words, "--part=1/2", `--cache=${cache}`);
  expect(first, first.stderr).toMatchObject({ status: 0 });
  expect(first.stderr).not.toContain("frozen part: layer"); // all of it came from the cache
  const { templates, protocol } = { ...(await readPrepared(run)) };
  expect((await readRun(partFolder(run, { index: 1, of: 2 }))).protocol).toEqual(protocol);
  expect(templates?.length).toBeGreaterThan(1);

  const parts = await readPartsProgress(run);
  expect(parts.map(({ state }) => state)).toEqual(["finished", "not begun"]);
  expect(totalOf(parts)).toMatchObject({ finished: 1, scored: 8, records: RECORDS, perSecond: null });
});
