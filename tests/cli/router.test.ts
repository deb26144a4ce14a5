import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { temporaryFolder } from "../model/support.js";
import { openQuickLab, wiseLab, writeRun } from "../run/support.js";
import { sampleUnroutedRun } from "../tables/sample.js";

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 }); // processes of their own, on a busy machine

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wise-lab-explore-"));
  const lab = await openQuickLab("act_ratio=100", "n_iter=4");
  await lab.run({ T: 2, limit: 4, out: folder });
  lab.close();
});

afterAll(() => rm(folder, { recursive: true }));

describe("wise-lab explore router", () => {
  test("prints the table, what was found, and the protocol", async () => {
    const { status, stdout, stderr } = await wiseLab("explore", "router", folder, "--at", "0,0.5");
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout).toMatch(/^T = 2, Retrieve\n\nact_ratio +Rewrite +Rephrase +Locality +Avg/);
    for (const value of ["0", "0.5", "100"]) expect(stdout).toMatch(new RegExp(`^ +${value} +\\d\\.\\d{3} \\[`, "m"));
    expect(stdout).toContain("No edit is ever used at act_ratio 100");
    expect(stdout).toMatch(/T = 2, scored after-all.*wise on tiny-llama3/);
  });

  test("writes the curves and the figures, each with its source, under its earlier name too", async () => {
    const out = await temporaryFolder();
    const { status } = await wiseLab(
      ...["explore", "act-ratio", folder, "--to", "20", "--points", "5"],
      ...["--csv", join(out, "curves.csv"), "--figures", join(out, "figures")],
    );
    expect(status).toBe(0);
    const lines = (await readFile(join(out, "curves.csv"), "utf8")).trim().split("\n");
    expect(lines[0]).toMatch(/^run,option,value,rewrite,rewriteLow,/);
    expect(lines[1]).toMatch(/^"T = 2, Retrieve",act_ratio,0,/);
    expect(lines).toHaveLength(6);
    const files = await readdir(join(out, "figures"));
    for (const name of ["curves", "roc", "turns"]) {
      expect(files).toContain(`router-${name}.json`);
      expect(files).toContain(`router-${name}.source.json`);
    }
  });

  test.each([
    [["--points", "1"], /a range of values cannot be used/],
    [["--at", "-1"], /numbers from 0 are expected/],
  ])("refuses %j", async (more, message) => {
    const { status, stderr } = await wiseLab("explore", "router", folder, ...more);
    expect(status).toBe(1);
    expect(stderr).toMatch(message);
  });

  test("refuses runs of a method whose edits always answer, in words", async () => {
    const always = await writeRun(join(await temporaryFolder(), "run"), sampleUnroutedRun({ records: 10 }));
    const { status, stderr } = await wiseLab("explore", "router", always);
    expect(status).toBe(1);
    expect(stderr).toMatch(/^wise-lab: the edits of ROME always answer/);
  });
});
