import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Interrupted, LabFailure } from "../../../src/core/errors.js";
import { sha256Bytes } from "../../../src/core/hash.js";
import type { Asset, EditSession } from "../../../src/edit/contract.js";
import type { Covariance } from "../../../src/edit/covariance.js";
import { type Overlay, untouched } from "../../../src/edit/overlay.js";
import { locate } from "../../../src/edit/rome/rome.js";
import { hashEdits, restoreEdits, saveEdits } from "../../../src/edit/state.js";
import { batchCuts, logitsAt, type Sequences } from "../../../src/model/cut.js";
import { linear } from "../../../src/model/llama.js";
import { type LlamaModel, loadModel } from "../../../src/model/model.js";
import type { CutPoint } from "../../../src/model/patch.js";
import { tf } from "../../../src/tensor/tf.js";
import { refusal, temporaryFolder } from "../../model/support.js";
import { golden, goldenMethods } from "../../support/shared.js";
import { expectTidy } from "../../support/tensor-matcher.js";
import { tensorsOf } from "../../support/whole-model.js";
import { errorOf, largestDifference, loadTiny } from "../support.js";
import { located, prepareRome, romeSetting, TEMPLATES } from "./support.js";

let model: LlamaModel;
let owner: Owner;
beforeAll(async () => {
  model = await loadTiny();
  owner = await prepareRome(model);
});
afterAll(() => model.dispose());

type Owner = Awaited<ReturnType<typeof prepareRome>>;

async function sessionOf({ method, assets }: Owner, edits: readonly number[] = []): Promise<EditSession> {
  const session = method.start(romeSetting(model, method, { assets }));
  for (const i of edits) await session.edit([located(i)]);
  return session;
}

/** sha256 of what edits leave. */
async function hashOf(of: Owner, edits: readonly number[]): Promise<string> {
  const session = await sessionOf(of, edits);
  const hash = await hashEdits(session, of);
  session.dispose();
  return hash;
}

/** Logits at the last token of each sequence, as an overlay answers them in one batch. [n, V] */
async function answersOf(cut: CutPoint, overlay: Overlay, sequences?: Sequences): Promise<Float32Array[]> {
  const asked = sequences ?? [0, 1, 2].map((i) => model.tokenizer.encode(located(i).prompt));
  const batch = batchCuts(model, await romeSetting(model, { cut }).cuts.get(asked));
  const routed = await overlay.route(batch);
  const variants = [...new Set(routed.decisions.map(({ variant }) => variant))];
  expect(variants).toHaveLength(1);
  const spots = asked.map((ids, row) => ({ row, position: ids.length - 1 }));
  const logits = logitsAt(model, batch, { patch: routed.patch(variants[0] as string), spots });
  const values = await logits.data<"float32">();
  for (const held of [logits, routed, batch]) held.dispose();
  const V = model.config.vocabSize;
  return asked.map((_, i) => values.slice(i * V, (i + 1) * V));
}

async function readAnswers(of: Owner, session: EditSession, sequences?: Sequences): Promise<Float32Array[]> {
  const overlay = await session.overlay();
  const answers = await answersOf(of.method.cut, overlay, sequences);
  overlay.dispose();
  return answers;
}

const largest = (a: Float32Array, b: Float32Array) =>
  a.reduce((most, x, i) => Math.max(most, Math.abs(x - (b[i] as number))), 0);

describe("an edit", () => {
  test("lowers its loss, and tells every pass", async () => {
    await expectTidy(async () => {
      const session = await sessionOf(owner);
      const shown: number[] = [];
      const [trace] = await session.edit([located(2)], { onStep: ({ step }) => shown.push(step) });
      expect(shown).toEqual([0, 1, 2, 3]);
      expect(trace).toMatchObject({ record: 2, stoppedEarly: false, numbers: { division: expect.any(Number) } });
      const losses = trace?.steps.map(({ loss }) => loss) as number[];
      expect(losses[3]).toBeLessThan(losses[0] as number);
      for (const { loss, terms } of trace?.steps ?? []) {
        expect(Object.keys(terms)).toEqual(["nll", "kl", "wd"]);
        expect(loss).toBeCloseTo(
          Object.values(terms).reduce((sum, term) => sum + term, 0),
          4,
        );
      }
      session.dispose();
    });
  });

  test.each(["mended", "paper"])(
    "makes the matrix give v* for the key of its prompt, after others too: %s",
    async (variant) => {
      const stats = [`stats_dir=${join(goldenMethods, "locate-stats")}`, "mom2_dataset=lab", "mom2_n_samples=64"];
      const prepared = await prepareRome(model, `variant=${variant}`, ...stats);
      const assets = new Map<string, Asset>();
      for (const need of prepared.method.needs.assets) assets.set(need.name, await need.open(model));
      expect([...assets.keys()]).toEqual(variant === "paper" ? ["covariance layers.1.down"] : []);
      const session = await sessionOf({ ...prepared, assets }, [3]);
      const { options, method } = prepared;
      const setting = romeSetting(model, method, { assets });
      const { tensors } = await session.state();
      const before = [{ left: tensors["down.left"]?.data, right: tensors["down.right"]?.data }];
      const edit = await locate(located(0), before as never, { options, setting });
      const [trace] = await session.edit([located(0)]);
      const { tensors: after } = await session.state();
      const [D, M] = [model.config.hiddenSize, model.config.intermediateSize];
      const left = after["down.left"]?.data as Float32Array;
      const right = after["down.right"]?.data as Float32Array;
      const k = tf.tensor2d(Float32Array.from(edit.k), [1, M]);
      const made = tf.tidy(() => linear(k, model.weight({ layer: 1, matrix: "down" })));
      const value = await made.data<"float32">();
      for (const e of [0, 1]) {
        const along = edit.k.reduce((sum, x, j) => sum + x * (right[e * M + j] as number), 0);
        for (let i = 0; i < D; i++) value[i] = (value[i] as number) + along * (left[e * D + i] as number);
      }
      const delta = value.map((x, i) => x - (edit.place.start[i] as number));
      const length = Math.sqrt(delta.reduce((sum, x) => sum + x * x, 0));
      expect(length).toBeCloseTo(trace?.steps.at(-1)?.numbers.delta_norm as number, 3);
      expect(Math.hypot(...right.slice(M))).toBeCloseTo(1, 5);
      // u is the mean key or, of the paper, solves C u ~ mean key.
      const covariance = assets.get("covariance layers.1.down")?.value as Covariance | undefined;
      const own = covariance === undefined ? Float64Array.from(edit.u) : product(covariance.mean(), edit.u);
      const scale = Math.hypot(...edit.mean) / Math.hypot(...own);
      expect(
        largestDifference(
          own.map((x) => x * scale),
          edit.mean,
        ),
      ).toBeLessThan(1e-4);
      edit.dispose();
      tf.dispose([k, made]);
      session.dispose();
    },
  );

  function product(matrix: Float64Array, x: Float32Array): Float64Array {
    return Float64Array.from(x, (_, i) =>
      x.reduce((sum, value, j) => sum + (matrix[i * x.length + j] as number) * value, 0),
    );
  }

  test("writes its fact: given passes enough, the target is what the model says", async () => {
    const search = ["v_lr=2", "clamp_norm_factor=20", "kl_factor=0.001", "v_weight_decay=0", "stop=0.5"];
    const long = await prepareRome(model, "layers=[2]", "v_num_grad_steps=25", ...search);
    const session = await sessionOf(long);
    const request = { ...located(0), prompt: "The city of Tadeo Quill", target: "born" };
    const [trace] = await session.edit([request]);
    expect(trace?.stoppedEarly).toBe(true);
    const [logits] = await readAnswers(long, session, [model.tokenizer.encode(request.prompt)]);
    const target = model.tokenizer.encode(`${request.prompt} born`).at(-1) as number;
    expect(logits?.indexOf(Math.max(...logits))).toBe(target);
    session.dispose();
  });
});

describe("a session", () => {
  test("the rollback: weights and answers are the bits that they were, and another session begins anew", async () => {
    const { cut } = owner.method;
    const bytesOf = (values: Float32Array) =>
      sha256Bytes(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    const weights = () => Promise.all(tensorsOf(model).map(async (tensor) => bytesOf(await tensor.data<"float32">())));
    const before = { weights: await weights(), answers: await answersOf(cut, untouched(cut)) };
    const others = await sessionOf(owner, [0, 1, 2]);
    expect(await readAnswers(owner, others)).not.toEqual(before.answers);
    const beside = await sessionOf(owner, [5]); // while the others still stand
    others.dispose();
    expect({ weights: await weights(), answers: await answersOf(cut, untouched(cut)) }).toEqual(before);
    expect(await hashEdits(beside, owner)).toBe(await hashOf(owner, [5]));
    beside.dispose();
  });

  test("before the first edit the untouched model answers, and its state can be saved", async () => {
    const session = await sessionOf(owner);
    const answers = await readAnswers(owner, session);
    expect(answers).toEqual(await answersOf(owner.method.cut, untouched(owner.method.cut)));
    const path = join(await temporaryFolder(), "edits.safetensors");
    await saveEdits(path, session, owner);
    session.dispose();
    const restored = await restoreEdits(path, romeSetting(model, owner.method), owner);
    expect(restored.edits).toBe(0);
    await restored.session.edit([located(1)]);
    expect(await hashEdits(restored.session, owner)).toBe(await hashOf(owner, [1]));
    restored.session.dispose();
  });

  test("equal edits have one hash, others another; later edits go on from earlier ones", async () => {
    expect(await hashOf(owner, [0, 1])).toBe(await hashOf(owner, [0, 1]));
    expect(await hashOf(owner, [1, 0])).not.toBe(await hashOf(owner, [0, 1]));
    expect(await hashOf(owner, [0, 1])).not.toBe(await hashOf(owner, [1]));
  });

  test("a block handed over at once is the same as its edits one after another", async () => {
    const session = await sessionOf(owner);
    const traces = await session.edit([located(0), located(1)]);
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
      const { session, edits } = await restoreEdits(path, romeSetting(model, owner.method), owner);
      expect(edits).toBe(2);
      for (const i of [2, 3]) await session.edit([located(i)]);
      await saveEdits(path, session, owner);
      session.dispose();
    });
    expect((await readFile(path)).equals(await readFile(straight))).toBe(true);
  });

  test("a state of another model is refused", async () => {
    const session = await sessionOf(owner, [0]);
    const state = await session.state();
    session.dispose();
    const start = (tensors: typeof state.tensors) =>
      refusal(async () => owner.method.start(romeSetting(model, owner.method), { ...state, tensors }));
    const narrow = { shape: [1, 2], data: new Float32Array(2) };
    expect(await start({ ...state.tensors, "down.left": narrow })).toMatchObject({
      where: "tensor down.left",
      found: "[1, 2]",
      expected: "[1, 64]",
    });
    expect(await start({})).toMatchObject({ where: "tensor down.left", found: "no such tensor" });
  });

  test("what cannot be edited is refused, and the session is as before", async () => {
    const session = await sessionOf(owner, [0]);
    await expectTidy(async () => {
      for (const bad of [{ subject: null }, { subject: "Nobody" }, { target: "" }, { subject: "" }]) {
        await refusal(() => session.edit([{ ...located(1), ...bad }]));
      }
    });
    expect(await hashEdits(session, owner)).toBe(await hashOf(owner, [0]));
    session.dispose();
  });

  test("interrupted, it leaves the session as before: the next edit is the one it would have been", async () => {
    const session = await sessionOf(owner, [0]);
    await expectTidy(async () => {
      const controller = new AbortController();
      const onStep = ({ step }: { step: number }) => (step === 1 ? controller.abort() : undefined);
      const signal = controller.signal;
      expect(await errorOf(session.edit([located(1)], { signal, onStep }))).toBeInstanceOf(Interrupted);
      const aborted = AbortSignal.abort();
      expect(await errorOf(session.edit([located(1)], { signal: aborted }))).toBeInstanceOf(Interrupted);
    });
    expect(await hashEdits(session, owner)).toBe(await hashOf(owner, [0]));
    await session.edit([located(2)]);
    expect(await hashEdits(session, owner)).toBe(await hashOf(owner, [0, 2]));
    session.dispose();
  });

  test("a loss that is not finite fails with a word on what to change, and leaves the session as before", async () => {
    const wild = await prepareRome(model, "v_lr=1e38", "clamp_norm_factor=1e38");
    const session = await sessionOf(wild);
    const error = await expectTidy(() => errorOf(session.edit([located(0)])));
    expect(error).toBeInstanceOf(LabFailure);
    expect(error.message).toMatch(/loss .* became (NaN|Infinity) at step 1 .*smaller v_lr/);
    expect(await hashEdits(session, wild)).toBe(await hashOf(wild, []));
    session.dispose();
  });

  test("looked at after some passes, it is what an edit of so many leaves, and goes on as if nobody had looked", async () => {
    const seen = new Map<number, Float32Array[]>();
    const session = await sessionOf(owner, [3]);
    const read = async (steps: number, overlay: Overlay) => {
      seen.set(steps, await answersOf(owner.method.cut, overlay));
    };
    // Four passes are its end, and it never comes to nine.
    await expectTidy(() => session.edit([located(0)], { checkpoints: { steps: [1, 3, 4, 9], read } }));
    expect([...seen.keys()]).toEqual([1, 3]);
    expect(await hashEdits(session, owner)).toBe(await hashOf(owner, [3, 0]));
    session.dispose();
    const first = await sessionOf(owner, [3]);
    const state = await first.state();
    first.dispose();
    for (const [steps, answers] of seen) {
      const shorter = await prepareRome(model, `v_num_grad_steps=${steps}`);
      const other = shorter.method.start(romeSetting(model, shorter.method), structuredClone(state));
      await other.edit([located(0)]);
      expect(await readAnswers(shorter, other)).toEqual(answers);
      other.dispose();
    }
  });

  test.each([0, 3])("edits layer %i, and reads sequences of any length together as alone", async (layer) => {
    const other = await prepareRome(model, `layers=[${layer}]`);
    expect(other.method.cut).toEqual({ layer, at: "mlpIn" });
    const session = await sessionOf(other, [0, 1]);
    const sequences = [[7], model.tokenizer.encode(located(0).prompt), [0, 5, 9]]; // a prompt of one token first
    const together = await readAnswers(other, session, sequences);
    const plain = await answersOf(other.method.cut, untouched(other.method.cut), sequences);
    for (const [i, ids] of sequences.entries()) {
      const [alone] = await readAnswers(other, session, [ids]);
      expect(largest(together[i] as Float32Array, alone as Float32Array)).toBeLessThan(1e-4);
      expect(largest(together[i] as Float32Array, plain[i] as Float32Array)).toBeGreaterThan(1e-3);
    }
    session.dispose();
  });

  test("a prompt that is its subject, and targets of one token, can be edited", async () => {
    const session = await sessionOf(owner);
    const request = { ...located(0), prompt: "a", subject: "a", target: "born" };
    const [trace] = await session.edit([request]);
    expect(trace?.steps[3]?.loss).toBeLessThan(trace?.steps[0]?.loss as number);
    session.dispose();
  });

  test("edits a streamed bf16 model, of which it takes no matrix as float32", async () => {
    const { cut, sites } = owner.method;
    expect(sites).toEqual([]);
    const options = { residence: "streamed", precision: "bf16", cut, sites } as const;
    const streamed = await loadModel(join(golden, "tiny-llama3"), options);
    const session = owner.method.start(romeSetting(streamed, owner.method));
    const [trace] = await session.edit([located(0)]);
    expect(trace?.steps[3]?.loss).toBeLessThan(trace?.steps[0]?.loss as number);
    session.dispose();
    streamed.dispose();
  });
});

test("the plan names what is needed, and the bytes of edits and statistics", async () => {
  const { method } = await prepareRome(model, "layers=[2]");
  expect(method.needs).toMatchObject({ subject: true, irrelevant: false, assets: [] });
  expect(method.together).toBe(1);
  const [D, M] = [model.config.hiddenSize, model.config.intermediateSize];
  expect(method.bytes(3)).toMatchObject({ kept: 12 * (D + M), reading: 12 * (D + M), variants: 1 });
  expect(method.bytes(10_000).reading).toBe(4 * D * M);
  const context = { tokenizer: model.tokenizer, templates: TEMPLATES };
  expect(method.rows(located(0), context)).toHaveLength(TEMPLATES.length + 1);
  const paper = await prepareRome(model, "variant=paper");
  expect(paper.method.needs.assets.map(({ name }) => name)).toEqual(["covariance layers.1.down"]);
  expect(paper.method.bytes(3).kept).toBe(12 * (D + M) + 12 * M * M);
});
