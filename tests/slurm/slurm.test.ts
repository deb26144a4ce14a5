import { execFileSync, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { bytesOfRun, recordsFile, TINY_MODEL, WISE_LAB } from "../run/support.js";
import { requires } from "../support/requires.js";
import { type SlurmCluster, startSlurm } from "../support/slurm.js";

const RECORDS = 20;
const PARTS = 3; // one more than run at once

describe.runIf(requires("slurm"))("on a Slurm of one node", { timeout: 600_000 }, () => {
  let cluster: SlurmCluster;
  beforeAll(async () => {
    cluster = await startSlurm(mkdtempSync(join(tmpdir(), "wise-lab-slurm-")));
  }, 120_000);
  afterAll(() => cluster?.stop());

  const wiseLab = (...words: string[]): string => {
    const { status, stdout, stderr } = spawnSync(WISE_LAB[0], [WISE_LAB[1], ...words], {
      env: cluster.env,
      encoding: "utf8",
    });
    expect(status, stderr).toBe(0);
    return stdout;
  };
  const queue = () =>
    execFileSync("squeue", ["--noheader", "--array", "--format=%F_%K %T"], { env: cluster.env, encoding: "utf8" });
  const untilQueueEmpty = async () => {
    while (queue().trim() !== "") await wait(500);
  };
  const linesIn = (file: string) => (existsSync(file) ? readFileSync(file, "utf8").split("\n").length - 1 : 0);

  test("parts of a run, one told to end and queued again, one killed and retried, join to the bytes of one process", async () => {
    const folder = mkdtempSync(join(tmpdir(), "wise-lab-slurm-run-"));
    const run = join(folder, "run");
    const own = ["--T=1", `--model=${TINY_MODEL}`, `--data=${await recordsFile(RECORDS)}`];
    const words = [...own, "--set=n_iter=40", "--set=save_freq=2", "--set=merge_freq=4"];
    const said = wiseLab("slurm", run, ...words, `--parts=${PARTS}`, "--time=10", "--submit");
    const [, array] = /job (\d+) makes 3 parts/.exec(said) ?? [];
    const part = (index: number, ...rest: string[]) => join(run, "parts", `${index}-of-${PARTS}`, ...rest);
    const untilBlock = async (index: number) => {
      while (linesIn(part(index, "blocks.jsonl")) < 1) await wait(20);
    };

    const logs = join(run, "parts", "logs");
    const log = (index: number) =>
      readdirSync(logs)
        .filter((name) => name.endsWith(`_${index}.log`))
        .map((name) => readFileSync(join(logs, name), "utf8"))
        .join("");
    await untilBlock(2);
    process.kill(JSON.parse(readFileSync(part(2, "run.lock"), "utf8")).pid, "SIGKILL");
    await untilBlock(1);
    // It signals until Slurm has taken it: not after the task has been queued again.
    const signalling = spawn("scancel", ["--batch", "--signal=USR2", `${array}_1`], { env: cluster.env });
    while (!log(1).includes("queued again")) await wait(20);
    signalling.kill("SIGKILL");
    await untilQueueEmpty();

    expect(log(1)).toContain(`queued again: ${array}_1`);
    expect(log(1)).toContain("stopped at a safe point, as SIGUSR2 asked");
    expect(log(1)).toContain("part 1 of 3: "); // in the same file
    expect(linesIn(part(2, "blocks.jsonl"))).toBeLessThan(8);

    const status = wiseLab("slurm", run, "--status");
    expect(status).toMatch(/^1 of 3: finished, 8 of 8 blocks/m);
    expect(status).toMatch(/^2 of 3: .*not in the queue/m);
    expect(status).toMatch(/^finished 2\/3 /m);
    expect(wiseLab("slurm", run, "--retry")).toMatch(/^job \d+ makes parts 2\n$/);
    await untilQueueEmpty();
    expect(log(2)).toMatch(/run.lock is taken over: process \d+ on .*, Slurm job \d+ has ended/);
    expect(wiseLab("slurm", run, "--retry")).toBe("nothing to submit: every part is finished, or in the queue\n");

    const alone = join(folder, "alone");
    wiseLab("run", ...words, `--out=${alone}`);
    expect(wiseLab("join", run, "--against", alone)).toContain(`against ${alone}: equal`);
    const joined = Object.entries(await bytesOfRun(run)).filter(([name]) => !name.startsWith("parts"));
    expect(Object.fromEntries(joined)).toEqual(await bytesOfRun(alone));
  });
});
