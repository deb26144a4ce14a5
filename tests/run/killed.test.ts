import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { expect, test } from "vitest";
import { createRng } from "../../src/core/rng.js";
import { temporaryFolder } from "../model/support.js";
import { repository } from "../support/shared.js";
import { bytesOfRun, openQuickLab, QUICK } from "./support.js";

const T = 2;
const KILLS = 4;

/** `wise-lab run` as a process of its own. */
function startRun(out: string): ChildProcess {
  const set = QUICK.flatMap((setting) => ["--set", setting]);
  const args = ["run", "--T", String(T), "--when", "after-each", "--out", out, ...set];
  return spawn(process.execPath, [join(repository, "dist/cli.js"), ...args], { stdio: ["ignore", "pipe", "pipe"] });
}

function bytesWritten(out: string): number {
  const files = ["edits.jsonl", "scores.jsonl", "blocks.jsonl"].map((name) => join(out, name));
  return files.reduce((sum, file) => sum + (existsSync(file) ? statSync(file).size : 0), 0);
}

/** Kills a run a moment after it has begun to write, and takes its word for nothing. */
async function killSoon(run: ChildProcess, out: string, moment: number): Promise<void> {
  const ended = once(run, "exit");
  const before = bytesWritten(out);
  while (bytesWritten(out) <= before && run.exitCode === null) await wait(1);
  await wait(moment);
  run.kill("SIGKILL");
  await ended;
}

test("killed again and again at random moments and taken up again, a run gives the same bytes", {
  timeout: 180_000,
}, async () => {
  const out = join(await temporaryFolder(), "run");
  const rng = createRng(2026);
  let killed = 0;
  for (let i = 0; i < KILLS; i++) {
    const run = startRun(out);
    await killSoon(run, out, 400 * rng.uniform());
    if (run.signalCode === "SIGKILL") killed++;
  }
  expect(killed).toBeGreaterThan(0);

  const last = startRun(out);
  const output = { stdout: "", stderr: "" };
  last.stdout?.on("data", (text: Buffer) => (output.stdout += text));
  last.stderr?.on("data", (text: Buffer) => (output.stderr += text));
  const [status] = await once(last, "close");
  expect({ status, ...output }).toMatchObject({ status: 0, stdout: expect.stringContaining(`run folder: ${out}`) });

  const straight = join(await temporaryFolder(), "straight");
  const lab = await openQuickLab();
  await lab.run({ T, when: "after-each", out: straight });
  lab.close();
  expect(await bytesOfRun(out)).toEqual(await bytesOfRun(straight));
});

test("a second process on the same folder is refused while the first one works", { timeout: 120_000 }, async () => {
  const out = join(await temporaryFolder(), "run");
  const first = startRun(out);
  const ended = once(first, "exit");
  while (bytesWritten(out) === 0 && first.exitCode === null) await wait(5);
  first.kill("SIGSTOP"); // it works slowly: it must not be done before the second one has looked
  const second = startRun(out);
  let stderr = "";
  second.stderr?.on("data", (text: Buffer) => (stderr += text));
  const [status] = await once(second, "close");
  first.kill("SIGCONT");
  first.kill("SIGKILL");
  await ended;
  expect(status).toBe(1);
  expect(stderr).toContain("the run folder is in use");
  expect(stderr).toContain(`process ${first.pid} is writing to it`);
});
