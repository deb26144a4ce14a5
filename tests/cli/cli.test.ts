import { existsSync } from "node:fs";
import { cp, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { readRun } from "../../src/run/folder.js";
import { projectFile } from "../../src/run/inputs.js";
import { temporaryFolder } from "../model/support.js";
import { type Ended, recordsFile, startProgram, wiseLab } from "../run/support.js";
import { golden } from "../support/shared.js";

describe("wise-lab", () => {
  test("--help lists the commands, and each command its options", async () => {
    const [all, run] = await Promise.all([wiseLab("--help"), wiseLab("run", "--help")]);
    expect([all.status, run.status]).toEqual([0, 0]);
    for (const command of ["run", "golden", "doctor", "data", "kernel", "notebook", "start"]) {
      expect(all.stdout).toMatch(new RegExp(`^  ${command}\\b`, "m"));
    }
    for (const option of ["model", "data", "T", "limit", "when", "irrelevant", "hparams", "set", "out", "backend"]) {
      expect(run.stdout).toContain(`--${option} `);
    }
  });

  test.each([
    ["an unknown command", ["rnu"], /unknown command 'rnu'\n.*Did you mean run\?/],
    ["an unknown option", ["run", "--T", "1", "--modle", "x"], /unknown option '--modle'\n.*Did you mean --model\?/],
    ["no T", ["run"], /required option '--T <number\|all>' not specified/],
    ["an unknown backend", ["golden", golden, "--backend", "tpu"], /Allowed choices are tensorflow, webgpu, wasm, cpu/],
    ["an unknown moment", ["run", "--T", "1", "--when", "never"], /Allowed choices are after-all, after-each/],
    ["a limit of zero", ["run", "--T", "1", "--limit", "0"], /a whole number from 1 is expected/],
    ["a word too many", ["doctor", "please"], /too many arguments for 'doctor'/],
  ])("%s ends with status 1 and says what is allowed", async (_, args, message) => {
    const { status, stdout, stderr } = await wiseLab(...args);
    expect({ status, stdout }).toEqual({ status: 1, stdout: "" });
    expect(stderr).toMatch(message);
  });
});

describe("wise-lab run", () => {
  test("writes the run; prints how far it is, the table with its protocol, and where the run is", async () => {
    const out = join(await temporaryFolder(), "run");
    const request = ["--T", "2", "--limit", "3", "--when", "after-each", "--set", "n_iter=1", "--out", out];
    const { status, stdout, stderr } = await wiseLab("run", ...request);
    expect(status, stderr).toBe(0);
    expect(stderr).toMatch(/block 2\/2 {2}edited 3\/3 {2}scored 3\/3/);
    expect(stderr).toMatch(/^irrelevant prompts: .*edits\.json$/m);
    expect(stdout).toMatch(/\d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]/);
    expect(stdout).toMatch(/T = 2, scored after-each/);
    expect(stdout).toContain(`run folder: ${out}`);
    const { scores, protocol } = await readRun(out);
    expect(scores).toHaveLength(3);
    expect(protocol).toMatchObject({ T: 2, when: "after-each", records: 3, options: { n_iter: 1 } });
  });

  test("refuses what stands where the run would go by default, before a model is read", async () => {
    const home = await temporaryFolder();
    await mkdir(join(home, "runs/lab-llama-wise-T1-after-all"), { recursive: true });
    await writeFile(join(home, "runs/lab-llama-wise-T1-after-all/notes.txt"), "mine");
    const command = `cd '${home}' && exec '${process.execPath}' '${projectFile("dist", "cli.js")}' run --T 1 --limit 1`;
    const { status, stderr } = await startProgram("sh", "-c", command).ended;
    expect(status).toBe(1);
    expect(stderr).toContain("a folder without run.json that holds notes.txt");
    expect(stderr).not.toContain("TensorFlow"); // which says what computes, once the model is there
  });

  const withoutAlt = () =>
    recordsFile(3, (record, i) => {
      if (i === 1) delete record.alt;
    });

  test.each<[what: string, args: () => Promise<string[]>, where: RegExp, found: string, expected: RegExp]>([
    ["T of 1.5", async () => ["--T", "1.5"], /T, the number of edits/, "1.5", /a whole number from 1/],
    [
      "a record without alt",
      async () => ["--T", "1", "--data", await withoutAlt()],
      /records\.json, record 2 .*alt/,
      "nothing",
      /a text/,
    ],
    [
      "an act_ratio below 0",
      async () => ["--T", "1", "--set", "act_ratio=-0.5"],
      /--set, key act_ratio/,
      "-0.5",
      /at least 0/,
    ],
    ["a mistyped option", async () => ["--T", "1", "--set", "act_rato=1"], /--set/, "act_rato", /nearest is act_ratio/],
    ["a folder that holds no model", async () => ["--T", "1", "--model", golden], /golden/, "", /config\.json/],
  ])(
    "refuses %s with status 1, where, found and expected, and leaves nothing",
    async (_, args, where, found, expected) => {
      const out = join(await temporaryFolder(), "run");
      const { status, stdout, stderr } = await wiseLab("run", "--out", out, ...(await args()));
      expect({ status, stdout }, stderr).toEqual({ status: 1, stdout: "" });
      const line = (name: string) => new RegExp(`^  ${name}: (.*)$`, "m").exec(stderr)?.[1];
      expect(line("where")).toMatch(where);
      expect(line("found")).toContain(found);
      expect(line("expected")).toMatch(expected);
      expect(stderr).not.toMatch(/^\s+at /m); // no stack: the user is to read this
      expect(existsSync(out) ? await readdir(out) : []).toEqual([]);
    },
  );
});

describe("wise-lab golden", () => {
  test("prints a line per item and ends with status 0, or 1 when one is out", async () => {
    const folder = join(await temporaryFolder(), "golden");
    await mkdir(folder);
    for (const name of ["records.json", "tiny-llama3", "wise-one-edit-paper.json", "wise-one-edit-paper.safetensors"]) {
      await cp(join(golden, name), join(folder, name), { recursive: true });
    }
    const good = await wiseLab("golden", folder);
    expect(good.status, good.stderr).toBe(0);
    expect(good.stdout).toMatch(/^ok {3}wise-one-edit-paper +first gradient +largest difference .*, allowed 0\.002/m);
    expect(good.stdout).toMatch(/\d+ passed, 0 failed on (tensorflow|wasm|cpu)/);
    expect(good.stdout).not.toMatch(/^OUT/m);

    const path = join(folder, "wise-one-edit-paper.json");
    const text = await readFile(path, "utf8");
    const altered = text.replace(/"min_act": ([\d.]+)/, (_, value: string) => `"min_act": ${Number(value) + 0.1}`);
    expect(altered).not.toBe(text);
    await writeFile(path, altered);
    const bad = await wiseLab("golden", folder);
    expect(bad.status).toBe(1);
    expect(bad.stdout).toMatch(/^OUT {2}wise-one-edit-paper +min_act .*, at edit 0\)/m);
    expect(bad.stdout).toMatch(/ passed, 1 failed on /);
  });
});

describe("wise-lab doctor", () => {
  test("--json prints data and nothing else", async () => {
    const { status, stdout, stderr }: Ended = await wiseLab("doctor", "--json");
    expect(status, stderr).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      node: process.versions.node,
      backend: { name: expect.stringMatching(/^(tensorflow|wasm|cpu)$/), gflops: expect.any(Number) },
      packages: expect.arrayContaining([expect.objectContaining({ name: "@tensorflow/tfjs" })]),
    });
  });
});
