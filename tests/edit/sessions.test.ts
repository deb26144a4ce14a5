import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Interrupted } from "../../src/core/errors.js";
import { sha256Bytes } from "../../src/core/hash.js";
import { createRng } from "../../src/core/rng.js";
import type {
  Asset,
  EditMethod,
  EditRequest,
  EditSession,
  EditSetting,
  PreparedMethod,
} from "../../src/edit/contract.js";
import { MAIN, type Overlay, untouched } from "../../src/edit/overlay.js";
import { methodNamed, methods, prepareNamed } from "../../src/edit/registry.js";
import { restoreEdits, saveEdits } from "../../src/edit/saved.js";
import { type EditOwner, hashEdits } from "../../src/edit/state.js";
import type { EditTrace } from "../../src/edit/trace.js";
import { type FreeAnswer, freeAnswers } from "../../src/eval/answers.js";
import { generateAfresh } from "../../src/model/afresh.js";
import { batchCuts, type CutBatch, logitsAt } from "../../src/model/cut.js";
import { createCutStore } from "../../src/model/cut-store.js";
import { loadModel } from "../../src/model/folder.js";
import type { LlamaModel } from "../../src/model/model.js";
import { refusal, temporaryFolder } from "../model/support.js";
import { golden, goldenMethods } from "../support/shared.js";
import { expectTidy } from "../support/tensor-matcher.js";
import { tensorsOf } from "../support/whole-model.js";
import { errorOf, fact, goldenRecords, loadTiny } from "./support.js";

/*
 * Promises of every method's sessions, whatever they edit and however. A method is tested here by being in the registry.
 */

let model: LlamaModel;
beforeAll(async () => {
  model = await loadTiny();
});
afterAll(() => model.dispose());

/** Settings under which the same promises are asked for again. */
const MORE: Readonly<Record<string, readonly (readonly string[])[]>> = {
  wise: [
    ["save_freq=1", "merge_freq=2", "replay=true"],
    ["save_freq=1", "merge_freq=2", "retrieve=false"],
  ],
  grace: [["variant=released"], ["key_at=last_edit", "replacement=replace_all"]],
  "ft-l": [["norm_constraint=0.002", "weight_decay=0.01", "layers=[1, 2]"]],
  "ft-ewc": [["variant=released", "fisher_mem=2"]],
  "ft-m": [["norm_constraint=0.002", "weight_decay=0.01", "layers=[0, 3]"]],
  lora: [
    ["lora_type=adalora", "init_r=3", "variant=released", "weight_decay=0.01"],
    ["layers=[3, 1]", "target_modules=[down_proj, o_proj, gate_proj]", "lora_dropout=0"],
    ["layers=[3]", "target_modules=[down_proj]"],
  ],
  memit: [["variant=paper"]],
  alphaedit: [["variant=paper", "layers=[1]", "batch_size=2"]],
  "memit-mass": [["layers=[1]"]],
  ultraedit: [
    ["batch_size_once=1", "inner_params=[model.layers.0.self_attn.q_proj, model.layers.3.self_attn.v_proj]", "lr=0.02"],
  ],
};

/** Side data of the golden checkpoint, for methods that need it. */
const SIDE_DATA: Readonly<Record<string, string>> = { stats_dir: join(goldenMethods, "locate-stats") };

const STEPS = 3;

/** A method whose steps are not limited makes an edit in one. */
const cases = Object.values<EditMethod>(methods).flatMap(({ name, stepLimit }) =>
  [[], ...(MORE[name] ?? [])].map((set) => ({
    name,
    set: stepLimit === undefined ? set : [`${stepLimit}=${STEPS}`, ...set],
    stepLimit,
    steps: stepLimit === undefined ? 1 : STEPS,
    title: [name, ...set].join(" "),
  })),
);

/** The edit of golden record `i`, with all that any method needs. */
const request = (i: number): EditRequest => ({ ...fact(i), subject: goldenRecords.records[i]?.subject as string });

type Owner = EditOwner & { method: PreparedMethod };

/** A method for the tiny checkpoint, and what its edits belong to. */
async function prepare(name: string, set: readonly string[]): Promise<Owner> {
  const own = Object.entries(SIDE_DATA).filter(([key]) => key in methodNamed(name).options);
  const given = own.map(([key, value]) => `${key}=${JSON.stringify(value)}`);
  const method = await prepareNamed(name, { preset: "tiny", set: [...given, ...set] }, model.config);
  const assets = new Map<string, Asset>();
  for (const need of method.needs.assets) assets.set(need.name, await need.open(model));
  return { method, model, assets };
}

/** Mean of -log p of an edit's target in its first pass, and in its last one; where that is the first, in the next edit's. */
async function targetLosses({ method }: Owner, session: EditSession, traces: EditTrace[]): Promise<[number, number]> {
  const lossesOf = ([trace]: EditTrace[]) =>
    trace?.steps.map(({ terms }) => terms[method.method.targetTerm]) as number[];
  const losses = lossesOf(traces);
  const record = traces[0]?.record as number;
  const after = losses.length > 1 ? losses.at(-1) : lossesOf(await session.edit([request(record)]))[0];
  return [losses[0] as number, after as number];
}

/** Two templates, an empty store and a generator at its start. */
function settingOf({ method, assets }: Owner, of: LlamaModel = model): EditSetting {
  const templates = goldenRecords.templates.slice(0, 2);
  return { model: of, cuts: createCutStore(of, method.cut), templates, rng: createRng(0), assets };
}

/** @param edits records one after another, or several that are handed over together */
async function sessionOf(owner: Owner, edits: readonly (number | number[])[] = []): Promise<EditSession> {
  const session = owner.method.start(settingOf(owner));
  for (const records of edits) await session.edit([records].flat().map(request));
  return session;
}

/** sha256 of what edits leave, made anew. */
async function newHashOf(owner: Owner, edits: readonly (number | number[])[]): Promise<string> {
  const session = await sessionOf(owner, edits);
  const hash = await hashEdits(session, owner);
  session.dispose();
  return hash;
}

const hashes = new WeakMap<Owner, Map<string, Promise<string>>>();

/** The same, made once for all tests of an owner. */
function hashOf(owner: Owner, edits: readonly (number | number[])[]): Promise<string> {
  const known = hashes.get(owner) ?? new Map<string, Promise<string>>();
  hashes.set(owner, known);
  const key = JSON.stringify(edits);
  const hash = known.get(key) ?? newHashOf(owner, edits);
  known.set(key, hash);
  return hash;
}

const strangers = new Map<string, Promise<Owner>>();

/** A method with its own options, prepared once for all tests. */
function strangerCalled(name: string): Promise<Owner> {
  const stranger = strangers.get(name) ?? prepare(name, []);
  strangers.set(name, stranger);
  return stranger;
}

/** Logits at the last token of the prompts of some facts, each under the variant that answers it. [V] each */
async function answersOf(owner: Owner, overlay: Overlay): Promise<Float32Array[]> {
  const asked = [0, 1, 2].map((i) => model.tokenizer.encode(request(i).prompt));
  const batch = batchCuts(model, await settingOf(owner).cuts.get(asked));
  const routed = await overlay.route(batch);
  const answers: Float32Array[] = [];
  for (const [row, { variant }] of routed.decisions.entries()) {
    const patch = variant === MAIN ? [] : routed.patch(variant);
    const logits = logitsAt(model, batch, { patch, spots: [{ row, position: (asked[row] as number[]).length - 1 }] });
    answers.push(await logits.data<"float32">());
    logits.dispose();
  }
  for (const held of [routed, batch]) held.dispose();
  return answers;
}

async function readAnswers(owner: Owner, session: EditSession): Promise<Float32Array[]> {
  const overlay = await session.overlay();
  const answers = await answersOf(owner, overlay);
  overlay.dispose();
  return answers;
}

describe.each(cases)("$title", ({ name, set, stepLimit, steps }) => {
  let owner: Owner;
  beforeAll(async () => {
    owner = await prepare(name, set);
  });

  test("an edit tells every step, and lowers the loss of its target", async () => {
    await expectTidy(async () => {
      const session = await sessionOf(owner);
      const shown: number[] = [];
      const traces = await session.edit([request(2)], { onStep: ({ step }) => shown.push(step) });
      expect(traces).toMatchObject([{ record: 2, stoppedEarly: false }]);
      expect(traces[0]?.steps.map(({ step }) => step)).toEqual(shown);
      expect(shown).toEqual(Array.from({ length: steps }, (_, i) => i));
      const [before, after] = await targetLosses(owner, session, traces);
      expect(after).toBeLessThan(before);
      session.dispose();
    });
  });

  test("the rollback: weights and answers are the bits that they were, and another session begins anew", async () => {
    const bytesOf = (values: Float32Array) =>
      sha256Bytes(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    const weights = () => Promise.all(tensorsOf(model).map(async (tensor) => bytesOf(await tensor.data<"float32">())));
    const plain = () => answersOf(owner, untouched(owner.method.cut));
    const before = { weights: await weights(), answers: await plain() };
    const others = await sessionOf(owner, [0, 1, 2]);
    expect(await readAnswers(owner, others)).not.toEqual(before.answers);
    const beside = await sessionOf(owner, [5]); // while the others still stand
    others.dispose();
    expect({ weights: await weights(), answers: await plain() }).toEqual(before);
    expect(await hashEdits(beside, owner)).toBe(await hashOf(owner, [5]));
    beside.dispose();
  });

  test("before the first edit the untouched model answers, and its state can be saved", async () => {
    const session = await sessionOf(owner);
    expect(await readAnswers(owner, session)).toEqual(await answersOf(owner, untouched(owner.method.cut)));
    const path = join(await temporaryFolder(), "edits.safetensors");
    await saveEdits(path, session, owner);
    session.dispose();
    const restored = await restoreEdits(path, settingOf(owner), owner);
    expect(restored.edits).toBe(0);
    await restored.session.edit([request(1)]);
    expect(await hashEdits(restored.session, owner)).toBe(await hashOf(owner, [1]));
    restored.session.dispose();
  });

  test.skipIf(name === "defer")("an answer that is remembered is the one whose whole text is read again", async () => {
    const session = await sessionOf(owner, [0, 1]);
    const overlay = await session.overlay();
    const { cuts } = settingOf(owner);
    const asked = [0, 1, 2].map((i) => model.tokenizer.encode(request(i).prompt));
    const setting = { model, cuts, maxNewTokens: 6, ends: () => false, routing: "once" as const };
    const answers = await freeAnswers(asked, overlay, setting);
    for (const [i, prompt] of asked.entries()) {
      const { route, tokens } = answers[i] as FreeAnswer;
      const patch = async (batch: CutBatch) => {
        const routed = await overlay.route(batch);
        return { patch: route === MAIN ? [] : routed.patch(route), dispose: routed.dispose };
      };
      const [again] = await generateAfresh(model, [prompt], { maxNewTokens: 6, edited: { cut: overlay.cut, patch } });
      expect(tokens).toEqual(again);
    }
    overlay.dispose();
    session.dispose();
  });

  test("equal edits have one hash, others another; later edits go on from earlier ones", async () => {
    expect(await newHashOf(owner, [0, 1])).toBe(await hashOf(owner, [0, 1]));
    expect(await hashOf(owner, [1, 0])).not.toBe(await hashOf(owner, [0, 1]));
    expect(await hashOf(owner, [0, 1])).not.toBe(await hashOf(owner, [1]));
    expect(await newHashOf(await prepare(name, [...set, "seed=1"]), [0, 1])).not.toBe(await hashOf(owner, [0, 1]));
  });

  test("requests handed over together are the same as one after another, unless they are one edit", async () => {
    if (owner.method.together === "block") {
      expect(await hashOf(owner, [0, 1])).not.toBe(await hashOf(owner, [[0, 1]]));
      return;
    }
    const session = await sessionOf(owner);
    const traces = await session.edit([request(0), request(1)]);
    expect(traces.map(({ record }) => record)).toEqual([0, 1]);
    expect(await hashEdits(session, owner)).toBe(await hashOf(owner, [0, 1]));
    session.dispose();
  });

  test("saved, restored and carried on, byte for byte what it would have been without", async () => {
    const folder = await temporaryFolder();
    const [straight, path] = [join(folder, "straight.safetensors"), join(folder, "edits.safetensors")];
    for (const [file, edits] of [
      [straight, [0, 1, 2, 3]],
      [path, [0, 1]],
    ] as const) {
      const session = await sessionOf(owner, edits);
      await saveEdits(file, session, owner);
      session.dispose();
    }
    await expectTidy(async () => {
      const { session, edits } = await restoreEdits(path, settingOf(owner), owner);
      expect(edits).toBe(2);
      for (const i of [2, 3]) await session.edit([request(i)]);
      await saveEdits(path, session, owner);
      session.dispose();
    });
    expect((await readFile(path)).equals(await readFile(straight))).toBe(true);
  });

  test("a state that lacks a tensor, or has one in another shape, is refused", async () => {
    const session = await sessionOf(owner, [0]);
    const state = await session.state();
    session.dispose();
    const refused = (tensors: typeof state.tensors) =>
      expectTidy(() =>
        refusal(async () => owner.method.start(settingOf(owner), structuredClone({ ...state, tensors }))),
      );
    for (const [tensor, { shape }] of Object.entries(state.tensors)) {
      const { [tensor]: _, ...others } = state.tensors;
      const expected = `[${shape.join(", ")}]`;
      expect(await refused(others)).toMatchObject({ where: `tensor ${tensor}`, found: "no such tensor", expected });
      const narrow = { ...state.tensors, [tensor]: { shape: [1, 2], data: new Float32Array(2) } };
      expect(await refused(narrow)).toMatchObject({ where: `tensor ${tensor}`, found: "[1, 2]", expected });
    }
  });

  test("edits of another method are refused by name", async () => {
    const session = await sessionOf(owner, [0]);
    const path = join(await temporaryFolder(), "edits.safetensors");
    await saveEdits(path, session, owner);
    session.dispose();
    for (const other of Object.keys(methods).filter((each) => each !== name)) {
      const stranger = await strangerCalled(other);
      const error = await expectTidy(() => refusal(() => restoreEdits(path, settingOf(stranger), stranger)));
      expect(error).toMatchObject({ where: `${path}, method`, found: name, expected: other });
    }
  });

  test("a blank target, and a subject that the prompt does not hold, are refused; the session is as before", async () => {
    const session = await sessionOf(owner, [0]);
    const { subject } = owner.method.needs;
    const bad: Partial<EditRequest>[] = [
      { target: "" },
      { target: "  " },
      ...(subject ? [{ subject: null }, { subject: "" }, { subject: "Nobody" }] : []),
    ];
    await expectTidy(async () => {
      for (const change of bad) {
        const error = await refusal(() => session.edit([{ ...request(1), ...change }]));
        expect(error.where).toBe(`edit of ${JSON.stringify(request(1).prompt)}`);
      }
    });
    expect(await hashEdits(session, owner)).toBe(await hashOf(owner, [0]));
    session.dispose();
  });

  test("interrupted, it leaves the session as before: the next edit is the one it would have been", async () => {
    const session = await sessionOf(owner, [0]);
    await expectTidy(async () => {
      const controller = new AbortController();
      const { signal } = controller;
      const onStep = ({ step }: { step: number }) => (step === 1 ? controller.abort() : undefined);
      if (steps > 1) {
        expect(await errorOf(session.edit([request(1)], { signal, onStep }))).toBeInstanceOf(Interrupted);
      }
      const aborted = AbortSignal.abort();
      expect(await errorOf(session.edit([request(1)], { signal: aborted }))).toBeInstanceOf(Interrupted);
    });
    expect(await hashEdits(session, owner)).toBe(await hashOf(owner, [0]));
    await session.edit([request(2)]);
    expect(await hashEdits(session, owner)).toBe(await hashOf(owner, [0, 2]));
    session.dispose();
  });

  const looked =
    "looked at after some steps, it is what an edit of so many leaves, and goes on as if nobody had looked";
  test.skipIf(stepLimit === undefined)(looked, async () => {
    const seen = new Map<number, Float32Array[]>();
    const session = await sessionOf(owner, [3]);
    const read = async (steps: number, overlay: Overlay) => {
      seen.set(steps, await answersOf(owner, overlay));
    };
    // Three steps are its end, and it never comes to nine.
    await expectTidy(() => session.edit([request(0)], { checkpoints: { steps: [1, 2, STEPS, 9], read } }));
    expect([...seen.keys()]).toEqual([1, 2]);
    expect(await hashEdits(session, owner)).toBe(await hashOf(owner, [3, 0]));
    session.dispose();
    const first = await sessionOf(owner, [3]);
    const state = await first.state();
    first.dispose();
    for (const [steps, answers] of seen) {
      const shorter = await prepare(name, [...set, `${stepLimit}=${steps}`]);
      const other = shorter.method.start(settingOf(shorter), structuredClone(state));
      await other.edit([request(0)]);
      expect(await readAnswers(shorter, other)).toEqual(answers);
      other.dispose();
    }
  });

  test("an overlay stays what it was when the session goes on", async () => {
    const session = await sessionOf(owner, [0]);
    const overlay = await session.overlay();
    const before = await answersOf(owner, overlay);
    await session.edit([request(1)]);
    expect(await answersOf(owner, overlay)).toEqual(before);
    overlay.dispose();
    session.dispose();
  });

  test("a state is a copy: what is done with its arrays afterwards does not reach the session", async () => {
    const session = await sessionOf(owner, [0]);
    const before = await hashEdits(session, owner);
    for (const { data } of Object.values((await session.state()).tensors)) data.fill(7);
    expect(await hashEdits(session, owner)).toBe(before);
    session.dispose();
  });

  test("a streamed bf16 model is edited, too", async () => {
    const { cut, sites } = owner.method;
    const options = { residence: "streamed", precision: "bf16", cut, sites } as const;
    const streamed = await loadModel(join(golden, "tiny-llama3"), options);
    const session = owner.method.start(settingOf(owner, streamed));
    const [before, after] = await targetLosses(owner, session, await session.edit([request(0)]));
    expect(after).toBeLessThan(before);
    session.dispose();
    streamed.dispose();
  });
});
