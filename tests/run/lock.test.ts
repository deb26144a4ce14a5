import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { lockFolder, type Owner, ownerText, thisProcess } from "../../src/run/lock.js";
import { refusal, temporaryFolder } from "../model/support.js";
import { QUICK, TINY_MODEL, TINY_RECORDS, wiseLab } from "./support.js";

const me: Owner = { ...thisProcess(), host: "node-1", boot: "b1", space: "pid:[1]", job: null };
const job = { cluster: "lab", id: "12", restart: 0 };

/** A folder that somebody has locked. */
async function lockedBy(owner: Partial<Owner>): Promise<string> {
  const path = await temporaryFolder();
  lockFolder(path, { owner: { ...me, ...owner } });
  return path;
}

test.each<[string, Partial<Owner>, string]>([
  ["on another machine", { host: "node-2" }, "process 77 on node-2: whether it still writes"],
  ["of another start of a machine of this name", { boot: "b2" }, "in another start of the machine: whether"],
  ["in another container", { space: "pid:[2]" }, "in another container: whether"],
  ["of another Slurm job elsewhere", { host: "node-2", job: { ...job, id: "13" } }, "Slurm job 13: whether"],
  [
    "of a task of this number on another cluster",
    { host: "node-2", job: { ...job, cluster: "other" } },
    "Slurm job 12",
  ],
])("the lock of a process %s is never taken over unasked", async (_, owner, words) => {
  const path = await lockedBy({ pid: 77, start: "1", ...owner });
  const before = readFileSync(join(path, "run.lock"), "utf8");
  const error = await refusal(() => lockFolder(path, { owner: { ...me, job: { ...job, restart: 1 } } }));
  expect(error.found).toContain(words);
  expect(error.hint).toContain("--take-over once you know that it has ended");
  expect(readFileSync(join(path, "run.lock"), "utf8")).toBe(before);

  const told: string[] = [];
  const free = lockFolder(path, { owner: me, takeOver: true, onNotice: (line) => told.push(line) });
  expect(told).toEqual([expect.stringContaining(`is taken over: process 77 on`)]);
  expect(JSON.parse(readFileSync(join(path, "run.lock"), "utf8"))).toEqual(me);
  free();
  expect(existsSync(join(path, "run.lock"))).toBe(false);
});

test("a living process on this machine keeps its lock, even from one that is told to take over", async () => {
  const path = await lockedBy({});
  for (const takeOver of [false, true]) {
    const error = await refusal(() => lockFolder(path, { owner: { ...me, pid: 1 }, takeOver }));
    expect(error.found).toBe(`process ${process.pid} is writing to it`);
    expect(error.hint).not.toContain("--take-over");
  }
});

test.each<[string, Partial<Owner>, Partial<Owner>, string]>([
  ["that has ended on this machine", { pid: 4194304, start: "1" }, {}, "process 4194304 on node-1 has ended"],
  [
    "that was an earlier start of this Slurm task, wherever it ran",
    { host: "node-2", boot: "b2", job },
    { job: { ...job, restart: 1 } },
    "Slurm job 12 was an earlier start of this task, which Slurm ended before it requeued it",
  ],
])("the lock of a process %s is taken over, and why is said", async (_, owner, mine, words) => {
  const path = await lockedBy(owner);
  const told: string[] = [];
  lockFolder(path, { owner: { ...me, ...mine }, onNotice: (line) => told.push(line) });
  expect(told).toEqual([expect.stringMatching(/run\.lock is taken over: /)]);
  expect(told[0]).toContain(words);
});

test("a lock that names no owner is nobody's to take over unasked", async () => {
  const path = await temporaryFolder();
  writeFileSync(join(path, "run.lock"), "12 345\n");
  expect((await refusal(() => lockFolder(path))).found).toBe("a lock that names no owner");
  lockFolder(path, { takeOver: true })();
  expect(ownerText(path)).toBeNull();
});

const isolates = () => {
  try {
    execFileSync("unshare", ["--uts", "hostname", "wise-lab-test"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
};

test.runIf(isolates())("a run on a host of another name leaves the folder to it", { timeout: 60_000 }, async () => {
  const out = join(await temporaryFolder(), "run");
  const words = [`--model=${TINY_MODEL}`, `--data=${TINY_RECORDS}`, "--T=2", ...QUICK.map((one) => `--set=${one}`)];
  const script = `hostname wise-lab-test; exec ${process.execPath} -e '
    import("${join(process.cwd(), "dist/run/lock.js")}").then(({ lockFolder }) => lockFolder("${out}"))'`;
  execFileSync("mkdir", ["-p", out]);
  execFileSync("unshare", ["--uts", "sh", "-c", script]); // it ends and leaves its lock
  const refused = await wiseLab("run", ...words, `--out=${out}`);
  expect(refused.status).toBe(1);
  expect(refused.stderr).toMatch(
    /found: process \d+ on wise-lab-test: whether it still writes cannot be seen from here/,
  );
  const taken = await wiseLab("run", ...words, `--out=${out}`, "--take-over");
  expect(taken, taken.stderr).toMatchObject({ status: 0 });
  expect(taken.stderr).toMatch(/run\.lock is taken over: process \d+ on wise-lab-test/);
});
