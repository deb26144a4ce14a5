import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { describe, expect, it, test } from "vitest";
import { createRng } from "../../src/core/rng.js";
import { readRun } from "../../src/run/folder.js";
import { handsFor } from "../../src/run/hands.js";
import { type LabOptions, openLab, openPlan } from "../../src/run/lab.js";
import type { RunRequest } from "../../src/run/request.js";
import { runProtocol } from "../../src/run/runner.js";
import { goldenRecords } from "../edit/support.js";
import { temporaryFolder } from "../model/support.js";
import { bytesOfRun, openQuickLab, QUICK, recordsFile, startWiseLab, TINY_MODEL } from "./support.js";

const RECORDS = 66; // the last group of the frozen part is not full, nor is the last block of four

const newFolder = async () => join(await temporaryFolder(), "run");

/** The bytes of a run that so many processes make, with a lab of its own. */
async function runBy(processes: number, request: RunRequest, lab?: Partial<LabOptions>) {
  const out = await newFolder();
  const opened = await openLab({ model: TINY_MODEL, hparams: { set: QUICK }, ...lab });
  await opened.run({ ...request, out, processes }).finally(() => opened.close());
  return bytesOfRun(out);
}

describe("blocks made by other processes", { timeout: 180_000 }, () => {
  // Few templates: an edit is quicker with them.
  const few = { templates: goldenRecords.templates.slice(0, 2) };

  it("are the same bytes from 1, 2 and 3 of them", async () => {
    const metrics = { metrics: ["free-em", "log-prob"], maxNewTokens: 2 };
    const request = { data: await recordsFile(RECORDS), T: 1, scoreSteps: [1], saveEdits: true, ...metrics };
    const one = await runBy(1, request, few);
    expect(Object.keys(one)).toContain("saved-edits/block-0065.safetensors");
    for (const processes of [2, 3]) expect(await runBy(processes, request, few)).toEqual(one);
  });

  it("are the same bytes where a group of the frozen part reaches over two blocks, scored after each edit", async () => {
    const request = { data: await recordsFile(RECORDS), T: 5, when: "after-each" } as const;
    expect(await runBy(2, request, few)).toEqual(await runBy(1, request, few));
  });

  it("are kept in memory where there is no folder, and told of one by one", async () => {
    const told: number[] = [];
    const lab = await openQuickLab();
    const onProgress = ({ edited }: { edited: number }) => told.push(edited);
    const result = await lab.run({ data: await recordsFile(RECORDS), T: 1, processes: 2, onProgress });
    lab.close();
    expect(result.scores.map(({ record }) => record)).toEqual(Array.from({ length: RECORDS }, (_, i) => i));
    expect(result.folder).toBeNull();
    expect(Math.max(...told)).toBe(RECORDS);
    expect(told.length).toBe(2 * RECORDS);
  });
});

/** Processes that make blocks for this one, by their numbers; Linux alone tells. */
function handsOf(pid: number): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => {
      try {
        const [, parent] = /\) \S (\d+)/.exec(readFileSync(`/proc/${name}/stat`, "utf8")) ?? [];
        return Number(parent) === pid && readFileSync(`/proc/${name}/cmdline`, "utf8").includes("hand.js");
      } catch {
        return false; // it has ended meanwhile
      }
    })
    .map(Number);
}

describe.skipIf(process.platform !== "linux")("a run by several processes", { timeout: 180_000 }, () => {
  const start = (data: string, out: string) =>
    startWiseLab(
      ...["run", "--T", "1", "--processes", "2", "--out", out, "--model", TINY_MODEL, "--data", data, "--save-edits"],
      ...QUICK.flatMap((setting) => ["--set", setting]),
    );
  const blocksIn = (out: string) =>
    existsSync(join(out, "blocks.jsonl")) ? readFileSync(join(out, "blocks.jsonl"), "utf8").split("\n").length - 1 : 0;

  async function untilBlocks(out: string, count: number, ended: Promise<unknown>): Promise<void> {
    let over = false;
    void ended.then(() => {
      over = true;
    });
    while (blocksIn(out) < count && !over) await wait(2);
  }

  it("killed at random moments, or a process of it, and taken up again gives the same bytes, and leaves no process", async () => {
    const data = await recordsFile(RECORDS);
    const out = await newFolder();
    const rng = createRng(13);
    for (let kill = 0; kill < 2; kill++) {
      const { child, ended } = start(data, out);
      await untilBlocks(out, blocksIn(out) + 1, ended);
      const hands = handsOf(child.pid as number);
      await wait(200 * rng.uniform());
      child.kill("SIGKILL");
      await ended;
      for (const pid of hands)
        while (existsSync(`/proc/${pid}/cmdline`) && readFileSync(`/proc/${pid}/cmdline`).length > 0) await wait(10);
    }
    const { child, ended } = start(data, out);
    await untilBlocks(out, blocksIn(out) + 1, ended);
    const [hand] = handsOf(child.pid as number) as [number];
    execFileSync("kill", ["-9", String(hand)]);
    const { status, stderr } = await ended;
    expect(status).toBe(1);
    expect(stderr).toContain("a process that makes blocks of the run failed");
    expect(stderr).toContain("ended by SIGKILL");
    expect((await start(data, out).ended).status).toBe(0);
    expect((await readRun(out)).scores.length).toBe(RECORDS);
    expect(await bytesOfRun(out)).toEqual(await runBy(1, { data, T: 1, saveEdits: true }));
  });

  it("stopped by Ctrl-C keeps whole blocks, and ends its processes", async () => {
    const data = await recordsFile(RECORDS);
    const out = await newFolder();
    const { child, ended } = start(data, out);
    await untilBlocks(out, 2, ended);
    const hands = handsOf(child.pid as number);
    child.kill("SIGINT");
    expect(await ended).toMatchObject({ status: 130, stderr: expect.stringMatching(/wise-lab: stopped during/) });
    expect(hands.length).toBe(2);
    expect(hands.flatMap((pid) => handsOf(pid))).toEqual([]);
    const { edits, scores } = await readRun(out);
    expect(edits.length).toBe(scores.length);
    expect(edits.length).toBeLessThan(RECORDS);
  });
});

it("is no other run in those processes: what changes after it was checked is refused", {
  timeout: 60_000,
}, async () => {
  const data = await recordsFile(RECORDS);
  const lab = { model: TINY_MODEL, hparams: { set: QUICK } };
  const plan = await openPlan(lab, { data, T: 1 });
  const changed = { data, T: 1, limit: RECORDS - 1 };
  const hands = handsFor(plan, 2, changed, lab);
  const failure = await runProtocol(plan, { folder: null, hands }).catch(String);
  plan.model.dispose();
  expect(failure).toContain("have changed since the run began");
});

test("bits do not hang on what the store of cuts still has", { timeout: 120_000 }, async () => {
  const data = await recordsFile(8);
  const plan = await openPlan({ model: TINY_MODEL, hparams: { set: QUICK } }, { data, T: 3 });
  const rng = createRng(7);
  const bytes = [undefined, 0, ...Array.from({ length: 3 }, () => Math.round(160_000 * rng.uniform()))];
  const runs = [];
  for (const limit of bytes) runs.push(await runProtocol({ ...plan, frozen: { bytes: limit } }, { folder: null }));
  plan.model.dispose();
  const losses = runs.map(({ edits }) => edits.flatMap(({ steps }) => steps.map(({ loss }) => loss)));
  for (const [i, { scores }] of runs.entries()) {
    expect(scores).toEqual(runs[0]?.scores);
    expect(losses[i]).toEqual(losses[0]);
  }
});

describe("the number of processes", () => {
  const plan = (records: number, T: number, change: object = {}) =>
    ({
      model: { config: { hiddenSize: 64 }, residence: "whole" },
      backend: { name: "wasm", device: "cpu", threads: 1 },
      dataset: { records: Array.from({ length: records }) },
      T,
      ...change,
    }) as unknown as Parameters<typeof handsFor>[0];
  const countOf = (...[source, most]: [Parameters<typeof handsFor>[0], number]) =>
    handsFor(source, most, { T: 1 }, {})?.count ?? null;

  it("is what there is, where blocks are many", () => {
    expect(countOf(plan(1037, 1), 2)).toBe(2);
    expect(countOf(plan(1037, 100), 16)).toBe(11);
  });

  it("is none where blocks are few or short, on a card, for a streamed model, and for products that threads share", () => {
    expect(countOf(plan(1037, 1000), 2)).toBeNull();
    expect(countOf(plan(20, 1), 2)).toBeNull();
    expect(countOf(plan(1037, 1, { backend: { name: "tensorflow", device: "gpu", threads: 2 } }), 2)).toBeNull();
    const large = { config: { hiddenSize: 2048 }, residence: "whole" };
    expect(countOf(plan(1037, 1, { model: { ...large, residence: "streamed" } }), 2)).toBeNull();
    expect(countOf(plan(1037, 1, { model: large }), 2)).toBe(2);
    const native = { name: "tensorflow", device: "cpu", threads: 2 };
    expect(countOf(plan(1037, 1, { model: large, backend: native }), 2)).toBeNull();
  });

  it("is none for one process, and where there is no memory for two", () => {
    expect(countOf(plan(1037, 1), 1)).toBeNull();
    expect(countOf(plan(1037, 1), 0)).toBeNull();
  });
});
