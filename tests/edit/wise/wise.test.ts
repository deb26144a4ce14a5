import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Interrupted, LabFailure } from "../../../src/core/errors.js";
import { sha256Bytes, sha256Json } from "../../../src/core/hash.js";
import type { EditControl, EditSession, EditSetting } from "../../../src/edit/contract.js";
import { type Decision, type Overlay, untouched } from "../../../src/edit/overlay.js";
import type { EditTrace } from "../../../src/edit/trace.js";
import type { WiseOptions } from "../../../src/edit/wise/options.js";
import { startWise } from "../../../src/edit/wise/wise.js";
import { batchCuts, type CutBatch, logitsAt, type Sequences } from "../../../src/model/cut.js";
import { createCutStore } from "../../../src/model/cut-store.js";
import type { LlamaModel } from "../../../src/model/model.js";
import type { Patch } from "../../../src/model/patch.js";
import { atValue } from "../../support/points.js";
import { expectTidy } from "../../support/tensor-matcher.js";
import { tensorsOf } from "../../support/whole-model.js";
import { errorOf, fact, loadTiny, settingOf, tinyOptions } from "../support.js";

let model: LlamaModel;
beforeAll(async () => {
  model = await loadTiny();
});
afterAll(() => model.dispose());

/** A shard every edit, a merge every second one. */
const OFTEN = ["save_freq=1", "merge_freq=2", "n_iter=2"];

async function start(set: string[] = [], setting: EditSetting = settingOf(model)): Promise<EditSession> {
  return startWise(await tinyOptions(...set), setting);
}

/** Makes the edit of one golden record. */
async function edit(session: EditSession, i: number, control?: EditControl): Promise<EditTrace> {
  const traces = await session.edit([fact(i)], control);
  expect(traces).toHaveLength(1);
  return traces[0] as EditTrace;
}

/** A session's state as WISE keeps it, its matrices as flat arrays by name. */
async function keptBy(session: EditSession) {
  const { edits, tensors, json } = await session.state();
  const { minAct, memoryMinActs } = json as { minAct: number; memoryMinActs: number[] };
  const matrices = Object.fromEntries(Object.entries(tensors).map(([name, { data }]) => [name, data]));
  return { edits, minAct, memoryMinActs, matrices };
}

/** A hash of all that a session leaves behind. */
async function stateOf(session: EditSession): Promise<string> {
  const { tensors, ...rest } = await session.state();
  const hashed = Object.entries(tensors).map(([name, { shape, data }]) => ({ name, shape, sha256: bytesOf(data) }));
  return sha256Json({ ...rest, tensors: hashed });
}

const bytesOf = (values: Float32Array) =>
  sha256Bytes(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));

/** Logits at every token under a patch. */
async function logitsUnder(patch: Patch, batch: CutBatch): Promise<Float32Array> {
  const spots = batch.lengths.flatMap((length, row) => Array.from({ length }, (_, position) => ({ row, position })));
  const logits = logitsAt(model, batch, { patch, spots });
  const values = await logits.data<"float32">();
  logits.dispose();
  return values;
}

/** Lends a batch of sequences at the point where WISE reads them. */
async function withBatch<T>(sequences: Sequences, use: (batch: CutBatch) => Promise<T>): Promise<T> {
  const batch = batchCuts(model, await settingOf(model).cuts.get(sequences));
  try {
    return await use(batch);
  } finally {
    batch.dispose();
  }
}

/** Logits of the side memory, or without edits of the untouched model, at the prompts of the first facts. */
async function answersOf(overlay: Overlay): Promise<Float32Array> {
  const prompts = [0, 1, 2].map((i) => model.tokenizer.encode(fact(i).prompt));
  return withBatch(prompts, async (batch) => {
    const { decisions, patch, dispose } = await overlay.route(batch);
    const edited = decisions.some(({ readings }) => readings.length > 0);
    const values = await logitsUnder(edited ? patch("side") : [], batch);
    dispose();
    return values;
  });
}

async function readAnswers(session: EditSession): Promise<Float32Array> {
  const overlay = await session.overlay();
  const values = await answersOf(overlay);
  overlay.dispose();
  return values;
}

/** Positions that are not zero. */
const written = (values: Float32Array) => new Set([...values.keys()].filter((i) => values[i] !== 0));

describe("rollback", () => {
  test("after it, weights and answers are the bits that they were", async () => {
    const weights = async () =>
      Promise.all(tensorsOf(model).map(async (tensor) => bytesOf(await tensor.data<"float32">())));
    const before = { weights: await weights(), answers: bytesOf(await answersOf(untouched(atValue(2)))) };
    await expectTidy(async () => {
      const session = await start(["act_ratio=0"]);
      await edit(session, 0);
      expect(bytesOf(await readAnswers(session))).not.toBe(before.answers);
      session.dispose();
    });
    expect({ weights: await weights(), answers: bytesOf(await answersOf(untouched(atValue(2)))) }).toEqual(before);
    // A new block starts as the first one did.
    const [first, second] = [await start(), await start()];
    await edit(first, 0);
    await edit(second, 0);
    expect(await stateOf(second)).toBe(await stateOf(first));
    first.dispose();
    second.dispose();
  });
});

describe("an edit", () => {
  test("lowers its loss and says what it did at every step", async () => {
    const session = await start(["n_iter=6"]);
    const shown: number[] = [];
    const trace = await edit(session, 2, { onStep: ({ step }) => shown.push(step) });
    expect(shown).toEqual([0, 1, 2, 3, 4, 5]);
    expect(trace).toMatchObject({ record: 2, stoppedEarly: false });
    const [first, last] = [trace.steps[0], trace.steps[5]];
    expect(last?.loss).toBeLessThan(first?.loss as number);
    expect(first?.numbers).toEqual({ in_scope: 0, out_of_scope: 0 });
    expect(Object.keys(first?.terms ?? {})).toEqual(["ft", "act"]);
    expect(trace.numbers).toEqual({ min_act: last?.numbers.in_scope });
    session.dispose();
  });

  /** Readings and answers of every memory of an overlay. */
  async function readingsOf(overlay: Overlay) {
    return withBatch([[0, 5, 9]], async (batch) => {
      const { decisions, patch, dispose } = await overlay.route(batch);
      const { readings } = decisions[0] as Decision;
      const answers: string[] = [];
      for (const { variant } of readings) answers.push(bytesOf(await logitsUnder(patch(variant), batch)));
      dispose();
      return { readings, answers };
    });
  }

  test.each([
    ["a side memory in progress", []],
    ["Retrieve", ["save_freq=1", "merge_freq=1"]],
    ["Merge", ["save_freq=1", "merge_freq=2", "retrieve=false"]],
  ])("looked at after some steps, is what an edit of so many steps leaves (%s)", async (_, set) => {
    const seen = new Map<number, Awaited<ReturnType<typeof readingsOf>>>();
    const checkpoints = {
      steps: [1, 3, 5, 9], // five steps are its end, and it never comes to nine
      read: async (steps: number, overlay: Overlay) => {
        seen.set(steps, await readingsOf(overlay));
      },
    };
    await expectTidy(async () => {
      const session = await start([...set, "n_iter=5"]);
      await edit(session, 0, { checkpoints });
      session.dispose();
    });
    expect([...seen.keys()]).toEqual([1, 3]);
    for (const [steps, found] of seen) {
      const shorter = await start([...set, `n_iter=${steps}`]);
      await edit(shorter, 0);
      const overlay = await shorter.overlay();
      expect(found).toEqual(await readingsOf(overlay));
      overlay.dispose();
      shorter.dispose();
    }
  });

  test("goes on as if nobody had looked, with shards, memories and merges standing", async () => {
    const states: string[] = [];
    for (const retrieve of [true, false]) {
      for (const steps of [[], [1, 2, 3]]) {
        const session = await start(["save_freq=1", "merge_freq=2", "n_iter=4", `retrieve=${retrieve}`]);
        const checkpoints = { steps, read: async () => {} };
        for (const i of [0, 1, 2, 3]) await edit(session, i, { checkpoints });
        states.push(await stateOf(session));
        session.dispose();
      }
    }
    expect(states[1]).toBe(states[0]);
    expect(states[3]).toBe(states[2]);
  });

  test("writes only where its shard's mask allows, and where that is depends on seed and shard alone", async () => {
    const plain = ["variant=paper", "save_freq=2", "merge_freq=100", "n_iter=1"];
    const shardsOf = async (order: number[], seed: number) => {
      const session = await start(plain, settingOf(model, 2, seed));
      for (const i of order) await edit(session, i);
      const { matrices } = await keptBy(session);
      session.dispose();
      return [matrices["shard.0"], matrices["shard.1"]].flatMap((delta) => (delta ? [written(delta)] : []));
    };
    const [first, second] = await shardsOf([0, 1, 2, 3], 0);
    expect(await shardsOf([5, 4, 3, 0], 0)).toEqual([first, second]);
    expect(first).not.toEqual(second);
    expect((await shardsOf([0, 1], 1))[0]).not.toEqual(first);
    const entries = model.config.hiddenSize * model.config.intermediateSize;
    expect((first as Set<number>).size / entries).toBeCloseTo(0.2, 1);
  });

  test("interrupted, it leaves the session as before: the next edit is the one it would have been", async () => {
    const [session, other] = [await start(OFTEN), await start(OFTEN)];
    await edit(session, 0);
    await edit(other, 0);
    const before = { state: await stateOf(session), answers: bytesOf(await readAnswers(session)) };
    await expectTidy(async () => {
      const controller = new AbortController();
      const stopped = edit(session, 1, { signal: controller.signal, onStep: () => controller.abort() });
      expect(await errorOf(stopped)).toBeInstanceOf(Interrupted);
      expect(await errorOf(edit(session, 1, { signal: AbortSignal.abort() }))).toBeInstanceOf(Interrupted);
    });
    expect({ state: await stateOf(session), answers: bytesOf(await readAnswers(session)) }).toEqual(before);
    await edit(session, 2);
    await edit(other, 2);
    expect(await stateOf(session)).toBe(await stateOf(other));
    session.dispose();
    other.dispose();
  });

  test("whose loss is not finite fails with a word on what to change, and leaves the session as before", async () => {
    const session = await start(["edit_lr=1e30", "norm_constraint=null"]);
    const before = await stateOf(session);
    const error = await expectTidy(() => errorOf(edit(session, 0)));
    expect(error).toBeInstanceOf(LabFailure);
    expect(error.message).toMatch(/loss .* became (NaN|Infinity) at step 1 .*smaller edit_lr/);
    expect(await stateOf(session)).toBe(before);
    session.dispose();
  });
});

describe("memories", () => {
  const counts = async (session: EditSession) => {
    const { edits, matrices } = await keptBy(session);
    const names = Object.keys(matrices);
    const count = (kind: string) => names.filter((name) => name.startsWith(`${kind}.`)).length;
    return { edits, shards: count("shard"), memories: count("memory"), merged: names.includes("merged") };
  };

  test("Retrieve: shards pile up, and every group becomes a memory with its smallest min_act", async () => {
    const session = await start([...OFTEN, "retrieve=true"]);
    const minActs: number[] = [];
    for (const [i, expected] of [
      { edits: 1, shards: 1, memories: 0 },
      { edits: 2, shards: 0, memories: 1 },
      { edits: 3, shards: 1, memories: 1 },
      { edits: 4, shards: 0, memories: 2 },
    ].entries()) {
      minActs.push((await edit(session, i)).numbers.min_act as number);
      expect(await counts(session)).toEqual({ ...expected, merged: false });
    }
    const { memoryMinActs, matrices, minAct } = await keptBy(session);
    expect(memoryMinActs).toEqual([Math.min(...minActs.slice(0, 2)), Math.min(...minActs.slice(2))]);
    expect(written(matrices.side as Float32Array).size).toBe(0);
    expect(minAct).toBe(1e9);
    session.dispose();
  });

  test("Merge: one merged memory stands, min_act is never reset, and a later merge gives it 0.6 of the weight", async () => {
    // `linear` keeps every entry, so that the weights can be read off: 0.4 / 2 for each new shard, 0.6 for the standing one.
    const session = await start([...OFTEN, "retrieve=false", "merge_alg=linear", "densities=null"]);
    for (const i of [0, 1]) await edit(session, i);
    const standing = (await keptBy(session)).matrices.merged as Float32Array;
    await edit(session, 2);
    const third = (await keptBy(session)).matrices["shard.0"] as Float32Array;
    expect(await counts(session)).toEqual({ edits: 3, shards: 1, memories: 0, merged: true });
    const trace = await edit(session, 3);
    expect(await counts(session)).toEqual({ edits: 4, shards: 0, memories: 0, merged: true });
    const { minAct, matrices } = await keptBy(session);
    const merged = matrices.merged as Float32Array;
    expect(minAct).toBe(trace.numbers.min_act);
    expect(minAct).toBeLessThan(1e9);
    // The fourth edit's own share can only stand where its mask allowed it.
    const entries = [...standing.keys()];
    const expected = (i: number) => 0.6 * (standing[i] as number) + 0.2 * (third[i] as number);
    const untouchedByFourth = entries.filter((i) => Math.abs((merged[i] as number) - expected(i)) < 1e-6);
    expect(untouchedByFourth.length / entries.length).toBeGreaterThan(0.7);
    expect(untouchedByFourth.length).toBeLessThan(entries.length);
    session.dispose();
  });

  test.each([["retrieve=true"], ["retrieve=false"]])("%s: reading in between changes nothing", async (mode) => {
    const set = ["save_freq=2", "merge_freq=4", "n_iter=1", mode];
    const [read, unread] = [await start(set), await start(set)];
    for (const i of [0, 1, 2, 3, 4]) {
      await edit(read, i);
      await edit(unread, i);
      const once = await expectTidy(() => readAnswers(read));
      expect(bytesOf(await readAnswers(read))).toBe(bytesOf(once));
    }
    expect(await stateOf(read)).toBe(await stateOf(unread));
    read.dispose();
    unread.dispose();
  });

  test("Merge: from the first full shard on, open edits are merged for the reading alone", async () => {
    const session = await start(["save_freq=2", "merge_freq=4", "n_iter=1", "retrieve=false"]);
    const seen: string[][] = [];
    for (const i of [0, 1, 2]) {
      await edit(session, i);
      const overlay = await session.overlay();
      await withBatch([[0, 5, 9]], async (batch) => {
        const { decisions, dispose } = await overlay.route(batch);
        seen.push((decisions[0] as Decision).readings.map(({ variant }) => variant));
        dispose();
      });
      overlay.dispose();
    }
    expect(seen).toEqual([["side"], ["side", "merged"], ["side", "merged"]]);
    expect(await counts(session)).toEqual({ edits: 3, shards: 1, memories: 0, merged: false });
    session.dispose();
  });

  test("an overlay stays what it was when the session goes on", async () => {
    const session = await start(["act_ratio=0"]);
    await edit(session, 0);
    const overlay = await session.overlay();
    const before = bytesOf(await answersOf(overlay));
    await edit(session, 1);
    session.dispose();
    expect(bytesOf(await answersOf(overlay))).toBe(before);
    overlay.dispose();
  });
});

describe("replay", () => {
  const set = [...OFTEN, "retrieve=true", "act_margin=[2, 20, 4]"];
  const run = async (options: string[], edits = [0, 1, 2, 3]) => {
    const session = await start(options);
    const traces = [];
    for (const i of edits) traces.push((await edit(session, i)).steps);
    const state = await stateOf(session);
    session.dispose();
    return { traces, state };
  };

  test("acts from the first merge on, is finite, and is the same in every run", async () => {
    const { traces, state } = await run([...set, "replay=true"]);
    const losses = traces.map((steps) => steps.map(({ terms }) => terms.replay));
    expect(losses.slice(0, 2)).toEqual([
      [undefined, undefined],
      [undefined, undefined],
    ]);
    for (const loss of losses.slice(2).flat()) {
      expect(loss).toBeGreaterThan(0);
      expect(Number.isFinite(loss)).toBe(true);
    }
    expect(await run([...set, "replay=true"])).toEqual({ traces, state });
    const without = await run([...set, "replay=false"]);
    expect(without.traces.slice(0, 2)).toEqual(traces.slice(0, 2));
    expect(without.state).not.toBe(state);
  });

  test("adds exactly its own term to the loss", async () => {
    const { traces } = await run([...set, "replay=true"]);
    for (const { terms, loss } of traces.flat()) {
      const { ft, act, replay = 0 } = terms as { ft: number; act: number; replay?: number };
      expect(loss).toBeCloseTo(ft + act + replay, 4);
    }
  });

  test("interrupted while it brings back past edits, it leaves nothing behind", async () => {
    // A store that holds nothing computes the past edits again at every step.
    const setting = { ...settingOf(model), cuts: createCutStore(model, atValue(2), { bytes: 0 }) };
    const controller = new AbortController();
    let asked = 0;
    const cuts: EditSetting["cuts"] = {
      ...setting.cuts,
      get: async (sequences, signal) => {
        const found = await setting.cuts.get(sequences, signal);
        if (signal !== undefined && ++asked === 2) controller.abort(); // the edit's own rows, then the first past edit
        return found;
      },
    };
    const session = await start([...set, "replay=true"], { ...setting, cuts });
    for (const i of [0, 1]) await edit(session, i);
    const stopped = await expectTidy(() => errorOf(edit(session, 2, { signal: controller.signal })));
    expect(stopped).toBeInstanceOf(Interrupted);
    expect(asked).toBe(2);
    session.dispose();
  });

  test("WISE-Merge has none", async () => {
    const options: WiseOptions = await tinyOptions("retrieve=false", "replay=true");
    expect(options.replay).toBe(false);
  });
});

test("a session leaves no tensor behind", async () => {
  for (const mode of ["retrieve=true", "retrieve=false"]) {
    await expectTidy(async () => {
      const session = await start([...OFTEN, mode, "replay=true"]);
      for (const i of [0, 1, 2]) await edit(session, i);
      await readAnswers(session);
      await stateOf(session);
      session.dispose();
    });
  }
});
