import { existsSync, readFileSync, statSync } from "node:fs";
import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Interrupted, LabFailure } from "../../src/core/errors.js";
import { readRun } from "../../src/run/folder.js";
import { openLab } from "../../src/run/lab.js";
import { runSweep, type SweepPoint, type SweepProgress } from "../../src/run/sweep.js";
import { errorOf } from "../edit/support.js";
import { refusal, temporaryFolder } from "../model/support.js";
import { bytesOfRun, openFolderOf, startWiseLab, TINY_MODEL, TINY_RECORDS } from "./support.js";

const RECORDS = 4;
const SHARED = {
  model: TINY_MODEL,
  data: TINY_RECORDS,
  limit: RECORDS,
  hparams: { set: ["n_iter=2"] },
  backend: "wasm",
} as const;
const ONE: SweepPoint = { name: "T1,act_ratio=0.5", T: 1, set: ["act_ratio=0.5"] };
const ALL: SweepPoint = { name: "Tall,act_ratio=0.5", T: "all", set: ["act_ratio=0.5"] };
/** The same as a command line. */
const COMMAND = [
  ...["sweep", "--T", "1", "--T", "all", "--grid", "act_ratio=0.5", "--workers", "2"],
  ...[
    "--model",
    TINY_MODEL,
    "--data",
    TINY_RECORDS,
    "--limit",
    String(RECORDS),
    "--set",
    "n_iter=2",
    "--backend",
    "wasm",
  ],
];

/** Holds the single runs of the points, made in this process, and a sweep that is finished. */
let home: string;
const told: SweepProgress[] = [];

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "wise-lab-sweep-"));
  const lab = await openLab({ model: TINY_MODEL, backend: "wasm", hparams: { set: ["n_iter=2", "act_ratio=0.5"] } });
  for (const { T, name } of [ONE, ALL]) {
    await lab.run({ data: TINY_RECORDS, limit: RECORDS, T, out: join(home, "straight", name) });
  }
  lab.close();
  await runSweep([ONE, ALL], SHARED, { out: join(home, "sweep"), onProgress: (progress) => told.push(progress) });
});
afterAll(() => rm(home, { recursive: true }));

/** A copy of the finished sweep. */
async function copyOfSweep(): Promise<string> {
  const out = join(await temporaryFolder(), "sweep");
  await cp(join(home, "sweep"), out, { recursive: true });
  return out;
}

async function expectStraightBytes(out: string): Promise<void> {
  for (const { name } of [ONE, ALL]) {
    expect(await bytesOfRun(join(out, name))).toEqual(await bytesOfRun(join(home, "straight", name)));
  }
}

/** Waits until a run of the sweep changes what stands in its folder. */
async function untilItWrites(out: string): Promise<void> {
  const files = [ONE, ALL].flatMap(({ name }) => [join(out, name, "timings.jsonl"), join(out, name, "scores.jsonl")]);
  const written = () => files.map((file) => (existsSync(file) ? statSync(file).size : 0)).join();
  const before = written();
  while (written() === before) await wait(5);
}

describe("a sweep", () => {
  test("gives in each folder the bytes of a single run, and tells how far it is", async () => {
    await expectStraightBytes(join(home, "sweep"));
    expect(told.at(-1)).toMatchObject({ points: 2, finished: 2, edited: 8, scored: 8, records: 8 });
  });

  test("skips what is finished: no process touches its folder, and the runs come in the order asked for", async () => {
    const out = await copyOfSweep();
    const touched = () => [ONE, ALL].map(({ name }) => statSync(join(out, name)).mtimeMs);
    const before = touched();
    const runs = await runSweep([ALL, ONE], SHARED, { out });
    expect(runs.map(({ protocol }) => protocol.T)).toEqual(["all", 1]);
    expect(runs.map(({ scores }) => scores.length)).toEqual([RECORDS, RECORDS]);
    expect(touched()).toEqual(before);
  });

  test("two hands, each with its part, at once: the bytes of one sweep, which reads them without a run more", async () => {
    const out = join(home, "parts");
    const hands = [1, 2].map((index) => runSweep([ONE, ALL], SHARED, { out, part: { index, of: 2 } }));
    const [first, second] = await Promise.all(hands);
    expect([first, second].map((runs) => runs?.map(({ protocol }) => protocol.T))).toEqual([[1], ["all"]]);
    await expectStraightBytes(out);
  });

  test("refuses a folder of another configuration before any run starts", async () => {
    const out = await copyOfSweep();
    await rm(join(out, ONE.name), { recursive: true });
    const error = await refusal(() => runSweep([ONE, ALL], { ...SHARED, limit: 1 }, { out }));
    expect(error).toMatchObject({
      where: join(out, ALL.name, "run.json"),
      found: "records: 1",
      expected: "records: 4",
    });
    expect(existsSync(join(out, ONE.name))).toBe(false);
  });

  test("names a point that fails, with what its process said; the others are finished all the same", async () => {
    const out = await copyOfSweep();
    const one = join(out, ONE.name);
    const { protocol } = await readRun(one);
    await rm(one, { recursive: true });
    (await openFolderOf(one, { protocol, templates: ["So {}"] })).close(); // only a loaded model knows its own
    await rm(join(out, ALL.name), { recursive: true });
    const error = await errorOf(runSweep([ONE, ALL], SHARED, { out, workers: 1 }));
    expect(error).toBeInstanceOf(LabFailure);
    expect(error.message).toMatch(/^1 of 2 points failed; the others are finished\nT1,act_ratio=0\.5: /);
    expect(error.message).toContain("the folder holds a run of another configuration");
    const all = await bytesOfRun(join(out, ALL.name));
    expect(all).toEqual(await bytesOfRun(join(home, "straight", ALL.name)));
  });
});

test("stopped by its signal, by SIGINT and by SIGKILL, a sweep ends its processes and goes on to the same bytes", {
  timeout: 120_000,
}, async () => {
  const out = join(await temporaryFolder(), "sweep");
  const controller = new AbortController();
  const aborted = errorOf(runSweep([ONE, ALL], SHARED, { out, workers: 2, signal: controller.signal }));
  await untilItWrites(out);
  controller.abort();
  expect(await aborted).toBeInstanceOf(Interrupted);

  for (const [signal, end] of [
    ["SIGINT", { status: 130, stderr: expect.stringContaining("wise-lab: stopped during the sweep") }],
    ["SIGKILL", { signal: "SIGKILL" }],
  ] as const) {
    const { child, ended } = startWiseLab(...COMMAND, "--out", out); // refused if a process were still at work
    await untilItWrites(out);
    child.kill(signal);
    expect(await ended).toMatchObject(end);
  }
  await untilRunsEnd(out); // which SIGKILL to the sweep does not reach: they see that it is gone

  const again = await startWiseLab(...COMMAND, "--out", out).ended;
  expect(again, again.stderr).toMatchObject({ status: 0, stdout: expect.stringContaining(`run folders: ${out}`) });
  await expectStraightBytes(out);
});

/** Waits until no process is at work in the folders. */
async function untilRunsEnd(out: string): Promise<void> {
  for (const { name } of [ONE, ALL]) {
    const lock = join(out, name, "run.lock");
    const owner = () => (existsSync(lock) ? Number(/"pid":(\d+)/.exec(readFileSync(lock, "utf8"))?.[1]) : 0);
    while (owner() > 0 && isAlive(owner())) await wait(5);
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, "utf8")); // ended, and nobody has waited for it
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ENOENT" && !existsSync("/proc/self"); // a system without /proc
  }
}
