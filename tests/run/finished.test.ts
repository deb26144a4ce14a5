import { cp, truncate } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it, vi } from "vitest";
import { RefusedInput } from "../../src/core/errors.js";
import { readOwnStudy, readRuns } from "../../src/run/finished.js";
import { temporaryFolder } from "../model/support.js";
import { openQuickLab } from "./support.js";

vi.setConfig({ testTimeout: 60_000 });

describe("readRuns", () => {
  it("finds every finished run, however deep, and leaves out one that is not finished", async () => {
    const folder = await temporaryFolder();
    const lab = await openQuickLab();
    await lab.run({ T: 1, limit: 2, out: join(folder, "one") });
    await lab.run({ T: 2, limit: 2, out: join(folder, "deep", "er", "two") });
    lab.close();
    const begun = join(folder, "begun");
    await cp(join(folder, "one"), begun, { recursive: true });
    await truncate(join(begun, "blocks.jsonl"));

    const runs = await readRuns(folder);
    expect(runs.map((run) => [run.protocol.T, run.folder])).toEqual([
      [2, join(folder, "deep", "er", "two")],
      [1, join(folder, "one")],
    ]);
    expect(runs.every((run) => run.scores.length === 2)).toBe(true);
  });

  it("finds nothing in an empty folder, and refuses one that is not there", async () => {
    const empty = await temporaryFolder();
    expect(await readRuns(empty)).toEqual([]);
    await expect(readRuns(join(empty, "missing"))).rejects.toThrow(RefusedInput);
  });
});

describe("readOwnStudy", () => {
  it("is empty where the study was not saved, and refuses one that lacks a run", async () => {
    const folder = await temporaryFolder();
    await expect(readOwnStudy(folder)).rejects.toThrow(/summary of the study is missing/);
    expect(await readOwnStudy(join(folder, "missing"))).toEqual([]);
  });
});
