import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { LabFailure } from "../../../src/core/errors.js";
import type { EditRequest, EditSession, PreparedMethod } from "../../../src/edit/contract.js";
import { type Overlay, untouched } from "../../../src/edit/overlay.js";
import { prepareNamed } from "../../../src/edit/registry.js";
import { type EditOwner, hashEdits } from "../../../src/edit/state.js";
import { batchCuts, logitsAt, type Sequences } from "../../../src/model/cut.js";
import { loadModel } from "../../../src/model/folder.js";
import type { LlamaModel } from "../../../src/model/model.js";
import type { CutPoint } from "../../../src/model/patch.js";
import { golden } from "../../support/shared.js";
import { expectTidy } from "../../support/tensor-matcher.js";
import { errorOf, fact, loadTiny } from "../support.js";
import { evaluate, type FtName, ftSetting, METHODS, problemOf } from "./support.js";

let model: LlamaModel;
let shape: [number, number];
beforeAll(async () => {
  model = await loadTiny();
  shape = [model.config.hiddenSize, model.config.intermediateSize];
});
afterAll(() => model.dispose());

/** A method for the tiny checkpoint, three steps an edit, and what its edits belong to. */
async function prepare(
  name: FtName,
  ...set: string[]
): Promise<EditOwner & { method: PreparedMethod; cut: CutPoint; layers: number[] }> {
  const method = await prepareNamed(name, { preset: "tiny", set: ["num_steps=3", ...set] }, model.config);
  return { method, model, assets: new Map(), cut: method.cut, layers: method.options.layers as number[] };
}

type Owner = Awaited<ReturnType<typeof prepare>>;

async function sessionOf({ method, layers }: Owner, edits: readonly number[] = []): Promise<EditSession> {
  const session = method.start(ftSetting(model, layers));
  for (const i of edits) await session.edit([fact(i)]);
  return session;
}

/** sha256 of what edits leave. */
async function hashOf(owner: Owner, edits: readonly number[]): Promise<string> {
  const session = await sessionOf(owner, edits);
  const hash = await hashEdits(session, owner);
  session.dispose();
  return hash;
}

/** Deltas by name. */
async function deltasOf(session: EditSession): Promise<Record<string, Float32Array>> {
  const { tensors } = await session.state();
  return Object.fromEntries(Object.entries(tensors).map(([name, { data }]) => [name, data]));
}

/** Logits at the last token of each sequence, as an overlay answers them in one batch. [n, V] */
async function answersOf({ layers }: Owner, overlay: Overlay, sequences?: Sequences): Promise<Float32Array[]> {
  const asked = sequences ?? [0, 1, 2].map((i) => model.tokenizer.encode(fact(i).prompt));
  const batch = batchCuts(model, await ftSetting(model, layers).cuts.get(asked));
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

async function readAnswers(owner: Owner, session: EditSession, sequences?: Sequences): Promise<Float32Array[]> {
  const overlay = await session.overlay();
  const answers = await answersOf(owner, overlay, sequences);
  overlay.dispose();
  return answers;
}

const largest = (a: Float32Array, b: Float32Array) =>
  a.reduce((most, x, i) => Math.max(most, Math.abs(x - (b[i] as number))), 0);

describe.each(METHODS)("%s", (name) => {
  test("lowers its loss, and tells every step", async () => {
    await expectTidy(async () => {
      const session = await sessionOf(await prepare(name, "num_steps=5"));
      const shown: number[] = [];
      const [trace] = await session.edit([fact(2)], { onStep: ({ step }) => shown.push(step) });
      expect(shown).toEqual([0, 1, 2, 3, 4]);
      expect(trace).toMatchObject({ record: 2, stoppedEarly: false, numbers: {} });
      const losses = trace?.steps.map(({ loss }) => loss) as number[];
      expect(losses[4]).toBeLessThan(losses[0] as number);
      for (const { loss, terms, numbers } of trace?.steps ?? []) {
        expect([terms, numbers]).toEqual([{ ce: loss }, {}]);
      }
      session.dispose();
    });
  });

  test("a loss that is not finite fails with a word on what to change, and leaves the session as before", async () => {
    const owner = await prepare(name, "lr=1e38", "norm_constraint=null");
    const session = await sessionOf(owner);
    const error = await expectTidy(() => errorOf(session.edit([fact(0)])));
    expect(error).toBeInstanceOf(LabFailure);
    expect(error.message).toMatch(/loss .* became (NaN|Infinity) at step 1 .*smaller lr/);
    expect(await hashEdits(session, owner)).toBe(await hashOf(owner, []));
    session.dispose();
  });

  test("stops with the pass whose loss is under 0.01, without a move", async () => {
    const known: EditRequest = { ...fact(0), target: "is" };
    const owner = await prepare(name, "num_steps=60", "lr=0.01", "norm_constraint=null");
    const session = await sessionOf(owner);
    const [trace] = await session.edit([known]);
    expect(trace?.stoppedEarly).toBe(true);
    const losses = trace?.steps.map(({ loss }) => loss) as number[];
    expect(losses.findIndex((loss) => loss < 0.01)).toBe(losses.length - 1);
    const before = await deltasOf(session);
    const [again] = await session.edit([known]);
    expect(again?.steps).toHaveLength(1);
    expect(again?.steps[0]?.loss).toBe(losses.at(-1));
    expect(await deltasOf(session)).toEqual(before);
    session.dispose();
  });

  test.each([
    ["the first layer", "[0]"],
    ["the last layer", "[3]"],
    ["first and last, named in reverse", "[3, 0]"],
  ])("edits %s, and reads sequences of any length together as alone", async (_, layers) => {
    const owner = await prepare(name, `layers=${layers}`, "lr=0.005");
    const lowest = Math.min(...owner.layers);
    expect(owner.cut).toEqual({ layer: lowest, at: "mlpIn" });
    const session = await sessionOf(owner, [0, 1]);
    const sequences = [[7], model.tokenizer.encode(fact(0).prompt), [0, 5, 9]]; // a prompt of one token first
    const together = await readAnswers(owner, session, sequences);
    const plain = await answersOf(owner, untouched(owner.cut), sequences);
    for (const [i, ids] of sequences.entries()) {
      const [alone] = await readAnswers(owner, session, [ids]);
      expect(largest(together[i] as Float32Array, alone as Float32Array)).toBeLessThan(1e-4);
      expect(largest(together[i] as Float32Array, plain[i] as Float32Array)).toBeGreaterThan(1e-2);
    }
    session.dispose();
  });

  test("a prompt of one token can be edited", async () => {
    const owner = await prepare(name);
    expect(model.tokenizer.encode("")).toEqual([model.tokenizer.bosId]);
    const session = await sessionOf(owner);
    const [trace] = await session.edit([{ ...fact(0), prompt: "" }]);
    expect(trace?.steps[2]?.loss).toBeLessThan(trace?.steps[0]?.loss as number);
    session.dispose();
  });

  test("moves as Adam does from the gradients, with decay, each edit anew, clamped to where it began", async () => {
    const set = ["layers=[0, 3]", "weight_decay=0.5", "norm_constraint=0.004", "lr=0.003"];
    const owner = await prepare(name, ...set);
    const session = await sessionOf(owner);
    const options = { ...owner.method.options, bos_in_targets: false } as never;
    const main = await Promise.all(
      owner.layers.map((layer) => model.matrix({ layer, matrix: "down" }).data<"float32">()),
    );
    let deltas = owner.layers.map(() => new Float32Array(shape[0] * shape[1]));
    for (const i of [0, 1]) {
      const problem = await problemOf(name, options, { model, request: fact(i) });
      const starts = deltas;
      const moments = owner.layers.map(
        () => [new Float64Array(deltas[0]?.length ?? 0), new Float64Array(deltas[0]?.length ?? 0)] as const,
      );
      for (let step = 1; step <= 3; step++) {
        const { gradients } = await evaluate(problem, deltas, shape);
        deltas = deltas.map((delta, l) =>
          delta.map((x, k) => {
            const [m, v] = moments[l] as readonly [Float64Array, Float64Array];
            const gradient = (gradients[l]?.[k] as number) + 0.5 * ((main[l]?.[k] as number) + x);
            m[k] = 0.9 * (m[k] as number) + 0.1 * gradient;
            v[k] = 0.999 * (v[k] as number) + 0.001 * gradient ** 2;
            const scale = Math.sqrt(v[k] / (1 - 0.999 ** step)) + 1e-8;
            const moved = x - (0.003 * m[k]) / (1 - 0.9 ** step) / scale;
            const start = starts[l]?.[k] as number;
            return Math.min(Math.max(moved, start - 0.004), start + 0.004);
          }),
        );
      }
      problem.dispose();
      await session.edit([fact(i)]);
      const made = Object.values(await deltasOf(session));
      // Adam's first steps are as long whatever the gradient's size: an entry whose gradient is rounding may go either way.
      for (const [l, delta] of deltas.entries()) {
        const apart = delta.filter((x, k) => Math.abs(x - (made[l]?.[k] as number)) > 1e-5).length;
        expect(apart / delta.length).toBeLessThan(1e-3);
        const before = starts[l] as Float32Array;
        expect(largest(made[l] as Float32Array, before)).toBeGreaterThan(0.0039);
        expect(largest(made[l] as Float32Array, before)).toBeLessThan(0.0041);
      }
    }
    session.dispose();
  });

  test("the matrices themselves are needed for weight decay alone", async () => {
    expect((await prepare(name, "weight_decay=0")).method.sites).toEqual([]);
    const decaying = await prepare(name, "weight_decay=0.1", "layers=[2]");
    expect(decaying.method.sites).toEqual([{ layer: 2, matrix: "down" }]);
  });

  test("edits a streamed bf16 model, with weight decay too", async () => {
    for (const decay of ["weight_decay=0", "weight_decay=0.1"]) {
      const owner = await prepare(name, decay, "layers=[2, 3]");
      const { cut, sites } = owner.method;
      const streamed = await loadModel(join(golden, "tiny-llama3"), {
        residence: "streamed",
        precision: "bf16",
        cut,
        sites,
      });
      const session = owner.method.start(ftSetting(streamed, owner.layers));
      const [trace] = await session.edit([fact(0)]);
      expect(trace?.steps[2]?.loss).toBeLessThan(trace?.steps[0]?.loss as number);
      session.dispose();
      streamed.dispose();
    }
  });
});
