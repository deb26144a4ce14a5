import { existsSync } from "node:fs";
import { cp, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Interrupted, throwIfAborted } from "../../src/core/errors.js";
import { createRng } from "../../src/core/rng.js";
import { loadRecords } from "../../src/data/load.js";
import type { Dataset } from "../../src/data/records.js";
import { defineMethod, type EditRequest, type MethodPlan, type PreparedMethod } from "../../src/edit/contract.js";
import { unrouted } from "../../src/edit/overlay.js";
import { type EditState, stateTensor } from "../../src/edit/state.js";
import type { EditTrace } from "../../src/edit/trace.js";
import { seeingFor } from "../../src/eval/seeing.js";
import type { LlamaModel } from "../../src/model/model.js";
import { deltaChange, type Site } from "../../src/model/patch.js";
import { encodeForced, PLAIN } from "../../src/model/prompt.js";
import type { Lab } from "../../src/run/lab.js";
import type { RunProgress } from "../../src/run/pace.js";
import type { RunPlan } from "../../src/run/plan.js";
import { type RunOptions, runProtocol } from "../../src/run/runner.js";
import { tf } from "../../src/tensor/tf.js";
import { errorOf } from "../edit/support.js";
import { refusal, temporaryFolder } from "../model/support.js";
import { atValue } from "../support/points.js";
import { expectTidy } from "../support/tensor-matcher.js";
import { bytesOfRun, openQuickLab, TINY_RECORDS } from "./support.js";

/*
 * Runs of a method that takes all requests of a block at once. It is made up: its edits are one random delta, whose seed
 * follows from the requests.
 */

const SITE: Site = { layer: 2, matrix: "down" };

let lab: Lab;
/** The tiny records, twice over. */
let dataset: Dataset;
beforeAll(async () => {
  lab = await openQuickLab();
  const { records, ...file } = await loadRecords(TINY_RECORDS, {});
  dataset = { ...file, records: [...records, ...records].map((record, index) => ({ ...record, index })) };
});
afterAll(() => lab.close());

const planOfMethod: MethodPlan = {
  cut: atValue(2),
  sites: [SITE],
  needs: { templates: null, irrelevant: false, subject: false, assets: [] },
  style: PLAIN,
  together: "block",
  rows: (request, { tokenizer }) => [
    encodeForced(tokenizer, { prompt: request.prompt, answer: request.target }, PLAIN),
  ],
  bytes: () => ({ kept: 0, stepping: 0, reading: 0, working: 0, variants: 1 }),
};

function traceOf({ record }: EditRequest): EditTrace {
  const step = { step: 0, loss: record, terms: { nll: record }, numbers: {} };
  return { record, steps: [step], stoppedEarly: false, numbers: {}, seconds: { frozen: 0, steps: 0 } };
}

/** The delta of requests, the same whenever it is made. */
function drawn(model: LlamaModel, requests: readonly EditRequest[]): Float32Array {
  const { hiddenSize: D, intermediateSize: M } = model.config;
  const rng = createRng(requests.length).fork(requests.map(({ prompt }) => prompt).join("\n"));
  return Float32Array.from({ length: D * M }, () => rng.normal() / 20);
}

/** The method, and the requests of every call of it so far. */
function blockMethod(): { prepared: PreparedMethod; calls: EditRequest[][] } {
  const calls: EditRequest[][] = [];
  const start: PreparedMethod["start"] = ({ model }, saved) => {
    const shape: [number, number] = [model.config.hiddenSize, model.config.intermediateSize];
    let state: EditState = saved ?? {
      edits: 0,
      tensors: { delta: { shape, data: new Float32Array(shape[0] * shape[1]) } },
      json: null,
    };
    return {
      async edit(requests, { signal } = {}) {
        calls.push([...requests]);
        throwIfAborted(signal, "a block of edits");
        state = { edits: requests.length, tensors: { delta: { shape, data: drawn(model, requests) } }, json: null };
        return requests.map(traceOf);
      },
      async overlay() {
        const delta = tf.tensor2d(stateTensor(state, "delta", shape), shape);
        return unrouted(planOfMethod.cut, [{ site: SITE, change: deltaChange(delta) }], () => delta.dispose());
      },
      state: async () => state,
      dispose: () => {},
    };
  };
  const method = defineMethod({
    name: "at-once",
    title: "AT-ONCE",
    algName: "AT-ONCE",
    about: "adds one delta for a whole block",
    source: "none",
    options: {},
    presets: {},
    targetTerm: "nll",
    plan: () => planOfMethod,
    start: (_options, setting, saved) => start(setting, saved),
  });
  return {
    prepared: {
      ...planOfMethod,
      method,
      name: method.name,
      options: { seed: 0 },
      seed: 0,
      ignored: [],
      start,
      train: null,
    },
    calls,
  };
}

function planFor(method: PreparedMethod, change: Partial<RunPlan> = {}): RunPlan {
  return {
    model: lab.model,
    backend: lab.backend,
    dataset,
    irrelevant: null,
    method,
    assets: new Map(),
    T: 10,
    when: "after-all",
    templates: ["{}"],
    seeing: seeingFor({}),
    unedited: null,
    targetStop: "none",
    frozen: {},
    ...change,
  };
}

const recordsOf = (calls: readonly (readonly EditRequest[])[]) => calls.map((call) => call.map(({ record }) => record));
const numbers = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);

/** A run to a folder, with a safe point wherever there can be one. */
async function run(out: string, method: PreparedMethod, options: Partial<RunOptions> = {}) {
  return runProtocol(planFor(method), { folder: out, keepEvery: 0, saveEdits: true, ...options });
}

async function straightRun(): Promise<string> {
  const out = join(await temporaryFolder(), "straight");
  await run(out, blockMethod().prepared);
  return out;
}

describe("a method that takes a block at once", () => {
  test("gets all requests of a block in one call, and every record is scored under all of its block", async () => {
    const { prepared, calls } = blockMethod();
    const plan = planFor(prepared);
    const result = await expectTidy(() => runProtocol(plan, { folder: null }));
    expect(recordsOf(calls)).toEqual([numbers(0, 10), numbers(10, 12)]);
    expect(calls[0]?.[3]).toMatchObject({ prompt: dataset.records[3]?.prompt, irrelevant: null, subject: null });
    expect(result.edits.map(({ record }) => record)).toEqual(numbers(0, 12));
    expect(result.scores.map(({ record, block }) => [record, block])).toEqual(
      numbers(0, 12).map((record) => [record, record < 10 ? 0 : 1]),
    );
    expect(result.scores.every(({ rewrite }) => rewrite.route === "edited" && rewrite.readings.length === 0)).toBe(
      true,
    );
    expect(result.protocol).toMatchObject({ irrelevant: null, irrelevantSha256: null, assets: {}, method: "at-once" });
    expect(result.scores.some(({ rewrite }) => String(rewrite.post) !== String(rewrite.pre))).toBe(true);
    // As the edits of that block by themselves answer.
    const alone = await runProtocol(
      planFor(blockMethod().prepared, {
        T: "all",
        dataset: { ...dataset, records: dataset.records.slice(0, 10) },
      }),
      { folder: null },
    );
    expect(alone.scores).toEqual(result.scores.slice(0, 10));
  });

  test("tells how far it is, edit by edit", async () => {
    const told: RunProgress[] = [];
    const plan = planFor(blockMethod().prepared);
    await runProtocol(plan, { folder: null, onProgress: (progress) => told.push(progress) });
    const editing = told.filter(({ phase }) => phase === "editing");
    expect(editing.map(({ edited }) => edited)).toEqual(numbers(1, 13));
    expect(told.at(-1)).toMatchObject({ edited: 12, scored: 12, block: 1, blocks: 2 });
  });
});

describe("killed at a safe point, its run goes on to the same bytes", () => {
  test("after the block was edited: it is restored, and not edited again", async () => {
    const straight = await straightRun();
    const out = join(await temporaryFolder(), "run");
    const controller = new AbortController();
    const { prepared } = blockMethod();
    const stopped = run(out, prepared, {
      signal: controller.signal,
      onProgress: ({ scored }) => scored === 8 && controller.abort(), // after the first group of the first block
    });
    expect(await errorOf(stopped)).toBeInstanceOf(Interrupted);
    const open = JSON.parse(await readFile(join(out, "open-block/block.json"), "utf8")) as object;
    expect(open).toMatchObject({ block: 0, edits: 10, scores: 8 });
    const { prepared: again, calls } = blockMethod();
    const told: RunProgress[] = [];
    await run(out, again, { onProgress: (progress) => told.push(progress) });
    expect(recordsOf(calls)).toEqual([numbers(10, 12)]);
    expect(told[0]).toMatchObject({ phase: "scoring", edited: 10, scored: 9 });
    expect(await bytesOfRun(out)).toEqual(await bytesOfRun(straight));
    expect(existsSync(join(out, "open-block"))).toBe(false);
    expect(await readdir(join(out, "saved-edits"))).toHaveLength(2);
  });

  test("when nothing of it has been scored yet", async () => {
    const straight = await straightRun();
    const out = join(await temporaryFolder(), "run");
    const copy = `${out}-copy`;
    const controller = new AbortController();
    // The first safe point stands before the first score is told.
    const stopped = run(out, blockMethod().prepared, {
      signal: controller.signal,
      onProgress: ({ phase }) => phase === "scoring" && controller.abort(),
    });
    expect(await errorOf(stopped)).toBeInstanceOf(Interrupted);
    await cp(out, copy, { recursive: true });
    const { prepared, calls } = blockMethod();
    await run(copy, prepared);
    expect(recordsOf(calls)).toEqual([numbers(10, 12)]);
    expect(await bytesOfRun(copy)).toEqual(await bytesOfRun(straight));
    // Without its safe point the block begins anew, with all of its requests.
    await rm(join(out, "open-block"), { recursive: true });
    const { prepared: anew, calls: all } = blockMethod();
    await run(out, anew);
    expect(recordsOf(all)).toEqual([numbers(0, 10), numbers(10, 12)]);
    expect(await bytesOfRun(out)).toEqual(await bytesOfRun(straight));
  });

  test("within the edits of a block: that block begins anew, with all of its requests", async () => {
    const straight = await straightRun();
    const out = join(await temporaryFolder(), "run");
    const controller = new AbortController();
    const first = blockMethod();
    const stopped = run(out, first.prepared, {
      signal: controller.signal,
      onProgress: ({ scored }) => scored === 10 && controller.abort(), // the first block is finished
    });
    expect(await errorOf(stopped)).toBeInstanceOf(Interrupted);
    expect(recordsOf(first.calls)).toEqual([numbers(0, 10), numbers(10, 12)]);
    const { prepared, calls } = blockMethod();
    await run(out, prepared);
    expect(recordsOf(calls)).toEqual([numbers(10, 12)]);
    expect(await bytesOfRun(out)).toEqual(await bytesOfRun(straight));
  });
});

describe("refused before the first edit, with nothing written", () => {
  const refusedRun = async (change: Partial<RunPlan>, options: Partial<RunOptions> = {}) => {
    const out = join(await temporaryFolder(), "run");
    const { prepared, calls } = blockMethod();
    const plan = planFor(prepared, change);
    const error = await expectTidy(() => refusal(() => runProtocol(plan, { folder: out, ...options })));
    expect(calls).toEqual([]);
    expect(existsSync(out)).toBe(false);
    return error;
  };

  test("scores after each edit: the edits of a block are made together", async () => {
    expect(await refusedRun({ when: "after-each" })).toMatchObject({
      where: "when, for at-once",
      found: "after-each",
      expected: expect.stringContaining("all records of a block at once"),
      hint: "--when after-all",
    });
  });

  test("scores after some steps, where no number of steps limits an edit", async () => {
    const error = await refusedRun({ T: 1 }, { scoreSteps: [1] });
    expect(error).toMatchObject({ where: "score-steps", found: expect.stringContaining("at-once") });
  });
});
