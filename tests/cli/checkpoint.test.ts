import { existsSync } from "node:fs";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { temporaryFolder } from "../model/support.js";
import { wiseLab } from "../run/support.js";
import { requires } from "../support/requires.js";
import { mountSmallDisk } from "../support/small-disk.js";

test.runIf(requires("small-disk"))(
  "wise-lab make-checkpoint refuses a disk that is too small, with the numbers",
  async () => {
    const disk = mountSmallDisk();
    try {
      const { status, stdout, stderr } = await wiseLab("make-checkpoint", "--like", "llama-3-8b", "--out", disk.path);
      expect({ status, stdout }).toEqual({ status: 1, stdout: "" });
      expect(stderr).toMatch(/too little room.*\n.*\n {2}found: 0\.000 GB free\n {2}expected: 16\.06\d GB/);
      expect(await readdir(disk.path)).toEqual([]);
    } finally {
      disk.release();
    }
  },
);

test("wise-lab make-checkpoint refuses what it cannot make, and touches nothing", async () => {
  const folder = await temporaryFolder();
  const out = join(folder, "out");
  const unknown = await wiseLab("make-checkpoint", "--like", "llama-4", "--out", out);
  expect(unknown.status).toBe(1);
  expect(unknown.stderr).toMatch(/Allowed choices are llama-3-8b, llama-3\.2-1b, llama-2-7b, mistral-7b/);
  const tall = await wiseLab("make-checkpoint", "--like", "llama-3.2-1b", "--layers", "17", "--out", out);
  expect(tall.stderr).toMatch(/found: 17\n {2}expected: 1 to 16/);
  expect(existsSync(out)).toBe(false);

  await writeFile(join(folder, "notes.txt"), "mine");
  const foreign = await wiseLab("make-checkpoint", "--like", "llama-3.2-1b", "--layers", "1", "--out", folder);
  expect(foreign.status).toBe(1);
  expect(foreign.stderr).toMatch(/holds something else[\s\S]*found: notes\.txt/);
  expect(await readdir(folder)).toEqual(["notes.txt"]);
});

test("wise-lab make-checkpoint writes one layer and the embedding, and says how fast; the second time they are there", async () => {
  const out = join(await temporaryFolder(), "out");
  const make = () => wiseLab("make-checkpoint", "--like", "llama-3.2-1b", "--layers", "1", "--out", out);
  const { status, stdout, stderr } = await make();
  expect(status, stderr).toBe(0);
  expect(stderr).toMatch(/model\.safetensors {2}0\.65 GB of 0\.65 GB/);
  expect(stdout).toMatch(/0\.65 GB in 1 file \(\d+ MB\/s\)\nsha256: {2}[0-9a-f]{64}/);
  expect(await readFile(join(out, "README.md"), "utf8")).toMatch(/weights are random/);
  const again = await make();
  expect(again.stdout).toBe(stdout.replace(/\d+ MB\/s/, "was there"));
});
