import type { ChildProcess } from "node:child_process";
import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { expect, test } from "vitest";
import { createRng } from "../../src/core/rng.js";
import { readRun } from "../../src/run/folder.js";
import type { RunRequest } from "../../src/run/request.js";
import { temporaryFolder } from "../model/support.js";
import { bytesOfRun, openQuickLab, QUICK, startWiseLab, TINY_MODEL, TINY_RECORDS } from "./support.js";

const KILLS = 4; // of each kind of run
const LONGEST_WAIT = 400; // milliseconds: a few edits

/** Runs of one long block, of short ones, and of single edits, with everything that a run can keep. */
const requests: [string, Pick<RunRequest, "T" | "when" | "scoreSteps" | "saveEdits">][] = [
  ["one block", { T: "all", when: "after-all", saveEdits: true }],
  ["blocks of two", { T: 2, when: "after-each", saveEdits: true }],
  ["single edits", { T: 1, when: "after-all", scoreSteps: [1] }],
];

const startRun = (
  out: string,
  { T, when, scoreSteps = [], saveEdits }: RunRequest = { T: 2, when: "after-each" },
  keepEvery = "0",
) =>
  startWiseLab(
    ...["run", "--T", String(T), "--when", String(when), "--out", out, "--keep-every", keepEvery],
    ...["--model", TINY_MODEL, "--data", TINY_RECORDS],
    ...scoreSteps.map((steps) => `--score-steps=${steps}`),
    ...(saveEdits ? ["--save-edits"] : []),
    ...QUICK.flatMap((setting) => ["--set", setting]),
  );

function bytesWritten(out: string): number {
  const files = ["edits.jsonl", "scores.jsonl", "blocks.jsonl"].map((name) => join(out, name));
  return files.reduce((sum, file) => sum + (existsSync(file) ? statSync(file).size : 0), 0);
}

/** Waits until a run has changed its files, or has ended. */
async function untilItWrites(run: ChildProcess, out: string): Promise<void> {
  const before = bytesWritten(out);
  while (bytesWritten(out) === before && run.exitCode === null) await wait(1);
}

test.each(requests)(
  "killed again and again at random moments and taken up again, %s give the same bytes",
  {
    timeout: 180_000,
  },
  async (name, request) => {
    const out = join(await temporaryFolder(), "run");
    const rng = createRng(2026).fork(name);
    const signals: (string | null)[] = [];
    for (let i = 0; i < KILLS; i++) {
      const { child, ended } = startRun(out, request);
      await untilItWrites(child, out);
      await wait(LONGEST_WAIT * rng.uniform());
      child.kill("SIGKILL");
      signals.push((await ended).signal);
    }
    expect(signals).toContain("SIGKILL");
    expect(await startRun(out, request).ended).toMatchObject({
      status: 0,
      stdout: expect.stringContaining(`run folder: ${out}`),
    });

    const straight = join(await temporaryFolder(), "straight");
    const lab = await openQuickLab();
    await lab.run({ ...request, out: straight });
    lab.close();
    expect(await bytesOfRun(out)).toEqual(await bytesOfRun(straight));
  },
);

test("a second process on a folder is refused while the first one works; Ctrl-C frees it, with finished blocks kept", {
  timeout: 120_000,
}, async () => {
  const out = join(await temporaryFolder(), "run");
  const first = startRun(out);
  await untilItWrites(first.child, out);
  first.child.kill("SIGSTOP"); // so that it is not done before the second one has looked
  const second = await startRun(out).ended;
  expect(second).toMatchObject({ status: 1, stdout: "" });
  expect(second.stderr).toContain("the run folder is in use");
  expect(second.stderr).toContain(`process ${first.child.pid} is writing to it`);

  first.child.kill("SIGINT");
  first.child.kill("SIGCONT");
  expect(await first.ended).toMatchObject({
    status: 130,
    stderr: expect.stringMatching(/wise-lab: stopped during.*\nthe same command goes on from what was kept\n/),
  });
  expect(existsSync(join(out, "run.lock"))).toBe(false);
  const { edits, scores } = await readRun(out);
  expect(edits.length).toBe(scores.length);
  expect(edits.length % 2).toBe(0);
});

test.each<[NodeJS.Signals, string, RunRequest]>([
  ["SIGUSR2", "one block", { T: "all", when: "after-all" }],
  ["SIGTERM", "single edits", { T: 1, when: "after-all", saveEdits: true }],
])(
  "asked by %s, a run of %s keeps a safe point, says so, ends with 75, and goes on to the same bytes",
  {
    timeout: 180_000,
  },
  async (signal, _, request) => {
    const { out, stderr } = await askedToEnd(request, signal);
    expect(stderr).toContain(`wise-lab: stopped at a safe point, as ${signal} asked\nthe same command goes on`);
    expect(existsSync(join(out, "run.lock"))).toBe(false);
    const before = readFileSync(join(out, "edits.jsonl"), "latin1");
    expect(before.length).toBeGreaterThan(0);

    const again = await startRun(out, request, "60").ended;
    expect(again, again.stderr).toMatchObject({ status: 0 });
    expect(readFileSync(join(out, "edits.jsonl"), "latin1").startsWith(before)).toBe(true);
    const straight = join(await temporaryFolder(), "straight");
    const lab = await openQuickLab();
    await lab.run({ ...request, out: straight });
    lab.close();
    expect(await bytesOfRun(out)).toEqual(await bytesOfRun(straight));
  },
);

/** A run that a signal asked to end and that ended with 75; on a busy machine one may be finished before it is asked. */
async function askedToEnd(request: RunRequest, signal: NodeJS.Signals): Promise<{ out: string; stderr: string }> {
  for (;;) {
    const out = join(await temporaryFolder(), "run");
    const { child, ended } = startRun(out, request, "60");
    await untilItWrites(child, out);
    child.kill(signal);
    const { status, stderr } = await ended;
    if (status === 0) continue;
    expect(status, stderr).toBe(75);
    return { out, stderr };
  }
}
