import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Interrupted, LabFailure } from "../../../src/core/errors.js";
import { sha256Bytes } from "../../../src/core/hash.js";
import type { EditSetting } from "../../../src/edit/contract.js";
import { type Overlay, untouched } from "../../../src/edit/overlay.js";
import type { WiseOptions } from "../../../src/edit/wise/options.js";
import { startWise, type WiseSession } from "../../../src/edit/wise/wise.js";
import { batchCuts } from "../../../src/model/cut.js";
import { createCutStore } from "../../../src/model/cut-store.js";
import type { LlamaModel } from "../../../src/model/model.js";
import { temporaryFolder } from "../../model/support.js";
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

async function start(set: string[] = [], setting: EditSetting = settingOf(model)): Promise<WiseSession> {
  return startWise(setting, await tinyOptions(...set), undefined);
}

/** The bytes of a session's saved file: all that it leaves behind. */
async function stateOf(session: WiseSession): Promise<string> {
  const path = join(await temporaryFolder(), "edits.safetensors");
  await session.save(path);
  return sha256Bytes(await readFile(path));
}

/** What the side memory, or without edits the untouched model, answers to the prompts of the first facts: every number. */
async function answersOf(overlay: Overlay): Promise<Float32Array> {
  const cuts = await settingOf(model).cuts.get([0, 1, 2].map((i) => model.tokenizer.encode(fact(i).prompt)));
  const batch = batchCuts(model, cuts);
  const answer = await overlay.answer(model, batch);
  const edited = answer.decisions.some(({ readings }) => readings.length > 0);
  const under = edited ? answer.under("side") : answer.main.clone();
  const values = await under.data<"float32">();
  for (const held of [under, answer, batch]) held.dispose();
  return values;
}

async function readAnswers(session: WiseSession): Promise<Float32Array> {
  const overlay = await session.overlay();
  const values = await answersOf(overlay);
  overlay.dispose();
  return values;
}

const bytesOf = (values: Float32Array) =>
  sha256Bytes(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));

/** Positions that are not zero. */
const written = (values: Float32Array) => new Set([...values.keys()].filter((i) => values[i] !== 0));

describe("rollback", () => {
  test("after it, weights and answers are the bits that they were", async () => {
    const weights = async () =>
      Promise.all(tensorsOf(model).map(async (tensor) => bytesOf(await tensor.data<"float32">())));
    const before = { weights: await weights(), answers: bytesOf(await answersOf(untouched(2))) };
    await expectTidy(async () => {
      const session = await start(["act_ratio=0"]);
      await session.edit(fact(0));
      expect(bytesOf(await readAnswers(session))).not.toBe(before.answers);
      session.dispose();
    });
    expect({ weights: await weights(), answers: bytesOf(await answersOf(untouched(2))) }).toEqual(before);
    // A new block starts as the first one did.
    const [first, second] = [await start(), await start()];
    await first.edit(fact(0));
    await second.edit(fact(0));
    expect(await stateOf(second)).toBe(await stateOf(first));
    first.dispose();
    second.dispose();
  });
});

describe("an edit", () => {
  test("lowers its loss and says what it did at every step", async () => {
    const session = await start(["n_iter=6"]);
    const shown: number[] = [];
    const trace = await session.edit(fact(2), { onStep: ({ step }) => shown.push(step) });
    expect(shown).toEqual([0, 1, 2, 3, 4, 5]);
    expect(trace).toMatchObject({ record: 2, stoppedEarly: false });
    const [first, last] = [trace.steps[0], trace.steps[5]];
    expect(last?.loss).toBeLessThan(first?.loss as number);
    expect(first).toMatchObject({ inScope: 0, outOfScope: 0, replay: 0 });
    expect(trace.minAct).toBe(last?.inScope);
    session.dispose();
  });

  /** What every memory of an overlay reads and answers. */
  async function readingsOf(overlay: Overlay) {
    const batch = batchCuts(model, await settingOf(model).cuts.get([[0, 5, 9]]));
    const answer = await overlay.answer(model, batch);
    const memories = answer.decisions[0]?.readings ?? [];
    const outputs = memories.map(({ memory }) => answer.under(memory));
    const values = await Promise.all(outputs.map(async (output) => bytesOf(await output.data<"float32">())));
    for (const held of [...outputs, answer, batch]) held.dispose();
    return { memories, values };
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
      await session.edit(fact(0), { checkpoints });
      session.dispose();
    });
    expect([...seen.keys()]).toEqual([1, 3]);
    for (const [steps, found] of seen) {
      const shorter = await start([...set, `n_iter=${steps}`]);
      await shorter.edit(fact(0));
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
        for (const i of [0, 1, 2, 3]) await session.edit(fact(i), { checkpoints });
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
      for (const i of order) await session.edit(fact(i));
      const { shards } = await session.snapshot();
      session.dispose();
      return shards.map(({ delta }) => written(delta));
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
    await session.edit(fact(0));
    await other.edit(fact(0));
    const before = { state: await stateOf(session), answers: bytesOf(await readAnswers(session)) };
    await expectTidy(async () => {
      const controller = new AbortController();
      const stopped = session.edit(fact(1), { signal: controller.signal, onStep: () => controller.abort() });
      expect(await errorOf(stopped)).toBeInstanceOf(Interrupted);
      expect(await errorOf(session.edit(fact(1), { signal: AbortSignal.abort() }))).toBeInstanceOf(Interrupted);
    });
    expect({ state: await stateOf(session), answers: bytesOf(await readAnswers(session)) }).toEqual(before);
    await session.edit(fact(2));
    await other.edit(fact(2));
    expect(await stateOf(session)).toBe(await stateOf(other));
    session.dispose();
    other.dispose();
  });

  test("whose loss is not finite fails with a word on what to change, and leaves the session as before", async () => {
    const session = await start(["edit_lr=1e30", "norm_constraint=null"]);
    const before = await stateOf(session);
    const error = await expectTidy(() => errorOf(session.edit(fact(0))));
    expect(error).toBeInstanceOf(LabFailure);
    expect(error.message).toMatch(/loss .* became (NaN|Infinity) at step 1 .*smaller edit_lr/);
    expect(await stateOf(session)).toBe(before);
    session.dispose();
  });
});

describe("memories", () => {
  const counts = async (session: WiseSession) => {
    const { edits, shards, memories, merged } = await session.snapshot();
    return { edits, shards: shards.length, memories: memories.length, merged: merged !== null };
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
      minActs.push((await session.edit(fact(i))).minAct);
      expect(await counts(session)).toEqual({ ...expected, merged: false });
    }
    const { memories, side, minAct } = await session.snapshot();
    expect(memories.map((memory) => memory.minAct)).toEqual([
      Math.min(...minActs.slice(0, 2)),
      Math.min(...minActs.slice(2)),
    ]);
    expect(written(side).size).toBe(0);
    expect(minAct).toBe(1e9);
    session.dispose();
  });

  test("Merge: one merged memory stands, min_act is never reset, and a later merge gives it 0.6 of the weight", async () => {
    // `linear` keeps every entry, so that the weights can be read off: 0.4 / 2 for each new shard, 0.6 for the standing one.
    const session = await start([...OFTEN, "retrieve=false", "merge_alg=linear", "densities=null"]);
    for (const i of [0, 1]) await session.edit(fact(i));
    const standing = (await session.snapshot()).merged as Float32Array;
    await session.edit(fact(2));
    const [third] = (await session.snapshot()).shards;
    expect(await counts(session)).toEqual({ edits: 3, shards: 1, memories: 0, merged: true });
    const trace = await session.edit(fact(3));
    expect(await counts(session)).toEqual({ edits: 4, shards: 0, memories: 0, merged: true });
    const { merged, minAct } = await session.snapshot();
    expect(minAct).toBe(trace.minAct);
    expect(minAct).toBeLessThan(1e9);
    // The fourth edit's own share can only stand where its mask allowed it.
    const entries = [...standing.keys()];
    const expected = (i: number) => 0.6 * (standing[i] as number) + 0.2 * (third?.delta[i] as number);
    const untouchedByFourth = entries.filter((i) => Math.abs((merged?.[i] as number) - expected(i)) < 1e-6);
    expect(untouchedByFourth.length / entries.length).toBeGreaterThan(0.7);
    expect(untouchedByFourth.length).toBeLessThan(entries.length);
    session.dispose();
  });

  test.each([["retrieve=true"], ["retrieve=false"]])("%s: reading in between changes nothing", async (mode) => {
    const set = ["save_freq=2", "merge_freq=4", "n_iter=1", mode];
    const [read, unread] = [await start(set), await start(set)];
    for (const i of [0, 1, 2, 3, 4]) {
      await read.edit(fact(i));
      await unread.edit(fact(i));
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
      await session.edit(fact(i));
      const overlay = await session.overlay();
      const batch = batchCuts(model, await settingOf(model).cuts.get([[0, 5, 9]]));
      const answer = await overlay.answer(model, batch);
      seen.push((answer.decisions[0]?.readings ?? []).map(({ memory }) => memory));
      answer.dispose();
      batch.dispose();
      overlay.dispose();
    }
    expect(seen).toEqual([["side"], ["side", "merged"], ["side", "merged"]]);
    expect(await counts(session)).toEqual({ edits: 3, shards: 1, memories: 0, merged: false });
    session.dispose();
  });

  test("an overlay stays what it was when the session goes on", async () => {
    const session = await start(["act_ratio=0"]);
    await session.edit(fact(0));
    const overlay = await session.overlay();
    const before = bytesOf(await answersOf(overlay));
    await session.edit(fact(1));
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
    for (const i of edits) traces.push((await session.edit(fact(i))).steps);
    const state = await stateOf(session);
    session.dispose();
    return { traces, state };
  };

  test("acts from the first merge on, is finite, and is the same in every run", async () => {
    const { traces, state } = await run([...set, "replay=true"]);
    const losses = traces.map((steps) => steps.map(({ replay }) => replay));
    expect(losses.slice(0, 2)).toEqual([
      [0, 0],
      [0, 0],
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
    for (const { ft, act, replay, loss } of traces.flat()) expect(loss).toBeCloseTo(ft + act + replay, 4);
  });

  test("interrupted while it brings back past edits, it leaves nothing behind", async () => {
    // A store that holds nothing computes the past edits again at every step.
    const setting = { ...settingOf(model), cuts: createCutStore(model, 2, { bytes: 0 }) };
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
    for (const i of [0, 1]) await session.edit(fact(i));
    const stopped = await expectTidy(() => errorOf(session.edit(fact(2), { signal: controller.signal })));
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
      for (const i of [0, 1, 2]) await session.edit(fact(i));
      await readAnswers(session);
      await stateOf(session);
      session.dispose();
    });
  }
});
