import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";
import { slurmScript, taskList } from "../../src/run/slurm.js";
import { shellLine, wordsOf } from "../../src/run/words.js";

const job: Parameters<typeof slurmScript>[0] = {
  ...{ name: "x", folder: "/runs/x/parts", from: "/my work", command: ["node", "cli.js", "run", "--set=a=[1,2]"] },
  ...{ parts: 8, cpus: 8, gpu: true, memory: 2 * 2 ** 30, seconds: 90_061, secondsEach: 85, threads: 8 },
  directives: ["--partition=long"],
};

test("a script holds what Slurm must know, in lines that it reads", () => {
  const lines = slurmScript(job).split("\n");
  for (const option of [
    "--output=/runs/x/parts/logs/%A_%a.log",
    "--open-mode=append",
    "--requeue",
    "--signal=B:USR2@170", // twice a record
    "--cpus-per-task=8",
    "--gres=gpu:1",
    "--mem=2253M", // a tenth more than the plan
    "--time=1-01:02:00",
    "--partition=long",
  ])
    expect(lines).toContain(`#SBATCH ${option}`);
  expect(lines).toContain("cd '/my work'");
  expect(lines).toContain("export TF_NUM_INTRAOP_THREADS=8");
  expect(slurmScript({ ...job, gpu: false, secondsEach: null, threads: null })).not.toMatch(/gres|THREADS|USR2@170/);
});

test.runIf(process.platform !== "win32")("a script prepares without an array, and makes a part in one", () => {
  const script = slurmScript({ ...job, from: "/", command: ["echo", "a b", "--set=a=[1,2]", "it's"] });
  const run = (env: Record<string, string>) => execFileSync("bash", ["-c", script], { encoding: "utf8", env });
  expect(run({ PATH: process.env.PATH ?? "" })).toBe("a b --set=a=[1,2] it's --prepare=templates\n");
  const task = { PATH: process.env.PATH ?? "", SLURM_ARRAY_TASK_ID: "3" };
  expect(run(task)).toBe("a b --set=a=[1,2] it's --part=3/8 --requeue\n");
});

test("tasks are listed as ranges", () => {
  expect(taskList([1, 2, 3])).toBe("1-3");
  expect(taskList([7, 2, 5, 6])).toBe("2,5-7");
});

test("options become words", () => {
  const options = { T: 1, scoreSteps: [1, 2], set: ["a=1", "b=2"], saveEdits: true, cache: false, out: undefined };
  const words = ["--T=1", "--score-steps=1,2", "--set=a=1", "--set=b=2", "--save-edits", "--no-cache"];
  expect(wordsOf(options)).toEqual(words);
  expect(shellLine(["a", "b c", "it's"])).toBe("a 'b c' 'it'\\''s'");
});
