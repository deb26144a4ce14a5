import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { LabFailure } from "../../../src/core/errors.js";
import type { Asset, EditSession } from "../../../src/edit/contract.js";
import type { Covariance } from "../../../src/edit/covariance.js";
import { type Overlay, untouched } from "../../../src/edit/overlay.js";
import { locate } from "../../../src/edit/rome/rome.js";
import { hashEdits } from "../../../src/edit/state.js";
import { batchCuts, logitsAt, type Sequences } from "../../../src/model/cut.js";
import type { LlamaModel } from "../../../src/model/model.js";
import type { CutPoint } from "../../../src/model/patch.js";
import { linear } from "../../../src/model/weight.js";
import { tf } from "../../../src/tensor/tf.js";
import { goldenMethods } from "../../support/shared.js";
import { expectTidy } from "../../support/tensor-matcher.js";
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
  test("a loss that is not finite fails with a word on what to change, and leaves the session as before", async () => {
    const wild = await prepareRome(model, "v_lr=1e38", "clamp_norm_factor=1e38");
    const session = await sessionOf(wild);
    const error = await expectTidy(() => errorOf(session.edit([located(0)])));
    expect(error).toBeInstanceOf(LabFailure);
    expect(error.message).toMatch(/loss .* became (NaN|Infinity) at step 1 .*smaller v_lr/);
    expect(await hashEdits(session, wild)).toBe(await hashOf(wild, []));
    session.dispose();
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
});

test("the plan names what is needed, and the bytes of edits and statistics", async () => {
  const { method } = await prepareRome(model, "layers=[2]");
  expect(method.needs).toMatchObject({ subject: true, irrelevant: false, assets: [] });
  expect(method.together).toBe(1);
  expect(method.sites).toEqual([]);
  const [D, M] = [model.config.hiddenSize, model.config.intermediateSize];
  expect(method.bytes(3, 9)).toMatchObject({ kept: 12 * (D + M), reading: 12 * (D + M), variants: 1 });
  expect(method.bytes(10_000, 30_000).reading).toBe(4 * D * M);
  const context = { tokenizer: model.tokenizer, templates: TEMPLATES };
  expect(method.rows(located(0), context)).toHaveLength(TEMPLATES.length + 1);
  const paper = await prepareRome(model, "variant=paper");
  expect(paper.method.needs.assets.map(({ name }) => name)).toEqual(["covariance layers.1.down"]);
  expect(paper.method.bytes(3, 9).kept).toBe(12 * (D + M) + 12 * M * M);
});
