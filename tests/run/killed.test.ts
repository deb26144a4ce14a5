import type { ChildProcess } from "node:child_process";
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { expect, test } from "vitest";
import { createRng } from "../../src/core/rng.js";
import { readRun } from "../../src/run/folder.js";
import { temporaryFolder } from "../model/support.js";
import { bytesOfRun, openQuickLab, QUICK, startWiseLab, TINY_MODEL, TINY_RECORDS } from "./support.js";

const REQUEST = { T: 2, when: "after-each" } as const;
const KILLS = 3;
const LONGEST_WAIT = 300; // milliseconds: about one block

const startRun = (out: string) =>
  startWiseLab(
    ...["run", "--T", String(REQUEST.T), "--when", REQUEST.when, "--out", out],
    ...["--model", TINY_MODEL, "--data", TINY_RECORDS],
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

test("killed again and again at random moments and taken up again, a run gives the same bytes", {
  timeout: 180_000,
}, async () => {
  const out = join(await temporaryFolder(), "run");
  const rng = createRng(2026);
  const signals: (string | null)[] = [];
  for (let i = 0; i < KILLS; i++) {
    const { child, ended } = startRun(out);
    await untilItWrites(child, out);
    await wait(LONGEST_WAIT * rng.uniform());
    child.kill("SIGKILL");
    signals.push((await ended).signal);
  }
  expect(signals).toContain("SIGKILL");
  expect(await startRun(out).ended).toMatchObject({ status: 0, stdout: expect.stringContaining(`run folder: ${out}`) });

  const straight = join(await temporaryFolder(), "straight");
  const lab = await openQuickLab();
  await lab.run({ ...REQUEST, out: straight });
  lab.close();
  expect(await bytesOfRun(out)).toEqual(await bytesOfRun(straight));
});

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
  expect(await first.ended).toMatchObject({ status: 130, stderr: expect.stringMatching(/wise-lab: stopped during/) });
  expect(existsSync(join(out, "run.lock"))).toBe(false);
  const { edits, scores } = await readRun(out);
  expect(edits.length).toBe(scores.length);
  expect(edits.length % REQUEST.T).toBe(0);
});
