import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { LabFailure } from "../../../src/core/errors.js";
import type { EditSession } from "../../../src/edit/contract.js";
import { joined, layoutOf } from "../../../src/edit/lora/factors.js";
import { startLora } from "../../../src/edit/lora/lora.js";
import { dropout, targetTerm } from "../../../src/edit/lora/objective.js";
import type { LoraOptions } from "../../../src/edit/lora/options.js";
import { prepareNamed } from "../../../src/edit/registry.js";
import { forcedRow } from "../../../src/edit/rows.js";
import { scoreProbes } from "../../../src/eval/score.js";
import type { LlamaModel } from "../../../src/model/model.js";
import { PLAIN } from "../../../src/model/prompt.js";
import { tf } from "../../../src/tensor/tf.js";
import { expectTidy } from "../../support/tensor-matcher.js";
import { errorOf, fact, largestDifference, loadTiny } from "../support.js";
import { loraSetting, loraTiny, problemOf } from "./support.js";

let model: LlamaModel;
beforeAll(async () => {
  model = await loadTiny();
});
afterAll(() => model.dispose());

const start = (options: LoraOptions) => startLora(options, loraSetting(model, layoutOf(options, model.config)));

/** All factors, end to end. */
async function factorsOf(session: EditSession): Promise<Float32Array> {
  const { tensors } = await session.state();
  return Float32Array.from(Object.values(tensors).flatMap(({ data }) => [...data]));
}

/** Names of the loss's terms at the first step of each of two edits. */
async function termsOf(...set: string[]): Promise<string[][]> {
  const session = start(await loraTiny(...set));
  const traces = await session.edit([fact(0), fact(1)]);
  session.dispose();
  for (const { steps } of traces) {
    for (const { loss, terms } of steps) expect(loss).toBe(Object.values(terms).reduce((sum, x) => sum + x, 0));
  }
  return traces.map(({ steps }) => Object.keys(steps[0]?.terms ?? {}));
}

describe("the penalty of adalora", () => {
  test.each([
    [
      "is part of every edit's loss",
      ["lora_type=adalora"],
      [
        ["ce", "orth"],
        ["ce", "orth"],
      ],
    ],
    [
      "is part of the first one's alone, as released",
      ["lora_type=adalora", "variant=released"],
      [["ce", "orth"], ["ce"]],
    ],
    ["may have no weight", ["lora_type=adalora", "orth_reg_weight=0"], [["ce"], ["ce"]]],
    ["is none of lora's", ["variant=released"], [["ce"], ["ce"]]],
  ])("%s", async (_, set, terms) => {
    expect(await termsOf(...set)).toEqual(terms);
  });

  test("as released, is over where a session goes on from a state", async () => {
    const options = await loraTiny("lora_type=adalora", "variant=released");
    const session = start(options);
    await session.edit([fact(0)]);
    const restored = startLora(options, loraSetting(model, layoutOf(options, model.config)), await session.state());
    const [trace] = await restored.edit([fact(1)]);
    expect(Object.keys(trace?.steps[0]?.terms ?? {})).toEqual(["ce"]);
    session.dispose();
    restored.dispose();
  });
});

describe("an edit", () => {
  test("moves all factors as Adam does from the gradients, with decay, each edit anew and with masks of its own", async () => {
    const options = await loraTiny("layers=[1, 3]", "weight_decay=0.5", "lora_dropout=0.2", "lr=0.003");
    const layout = layoutOf(options, model.config);
    const { rng } = loraSetting(model, layout);
    const session = start(options);
    let values = Float64Array.from(await factorsOf(session));
    for (const edit of [0, 1]) {
      const problem = await problemOf(model, options, fact(edit));
      const [m, v] = [new Float64Array(values.length), new Float64Array(values.length)];
      for (let step = 0; step < 3; step++) {
        const vector = joined(layout, [Float32Array.from(values)]);
        const { value, gradient } = targetTerm(problem, vector, dropout(0.2, rng.fork("dropout", edit, step)));
        const slopes = await gradient.data<"float32">();
        tf.dispose([vector, value, gradient]);
        values = values.map((x, i) => {
          const g = (slopes[i] as number) + 0.5 * x;
          m[i] = 0.9 * (m[i] as number) + 0.1 * g;
          v[i] = 0.999 * (v[i] as number) + 0.001 * g ** 2;
          return x - (0.003 * m[i]) / (1 - 0.9 ** (step + 1)) / (Math.sqrt(v[i] / (1 - 0.999 ** (step + 1))) + 1e-8);
        });
      }
      problem.dispose();
      await expectTidy(() => session.edit([fact(edit)]));
      const made = await factorsOf(session);
      // An entry whose first gradient is rounding may go either way.
      const apart = made.filter((x, i) => Math.abs(x - (values[i] as number)) > 1e-5).length;
      expect(apart / made.length).toBeLessThan(1e-3);
      values = Float64Array.from(made);
    }
    session.dispose();
  });

  test("takes all its steps, and answers its own prompt", async () => {
    const options = await loraTiny("num_steps=40", "lora_dropout=0");
    const session = start(options);
    const [trace] = await session.edit([fact(1)]);
    expect(trace).toMatchObject({ stoppedEarly: false, numbers: {} });
    expect(trace?.steps).toHaveLength(40);
    expect(trace?.steps[39]?.loss).toBeLessThan((trace?.steps[0]?.loss as number) / 10);
    const overlay = await session.overlay();
    const probe = { kind: "rewrite" as const, prompt: fact(1).prompt, answer: fact(1).target };
    const [score] = await scoreProbes([probe], overlay, {
      ...loraSetting(model, layoutOf(options, model.config)),
      style: PLAIN,
    });
    expect(score?.score).toBe(1);
    overlay.dispose();
    session.dispose();
  });

  test("is read without dropout, whatever it was made with", async () => {
    const session = start(await loraTiny("lora_dropout=0.5"));
    await session.edit([fact(0)]);
    const lossAt = async (lora_dropout: string) => {
      const options = await loraTiny(`lora_dropout=${lora_dropout}`);
      const setting = loraSetting(model, layoutOf(options, model.config));
      const other = startLora(options, setting, await session.state());
      const overlay = await other.overlay();
      const probe = { kind: "rewrite" as const, prompt: fact(0).prompt, answer: fact(0).target };
      const [score] = await scoreProbes([probe], overlay, { ...setting, style: PLAIN });
      overlay.dispose();
      other.dispose();
      return score;
    };
    expect(await lossAt("0.5")).toEqual(await lossAt("0"));
    session.dispose();
  });

  test("can be made of a prompt of one token, and of a rank that is larger than the matrix", async () => {
    const session = start(await loraTiny("rank=100", "target_modules=[k_proj]"));
    const [trace] = await session.edit([{ ...fact(0), prompt: "" }]);
    expect(trace?.steps[2]?.loss).toBeLessThan(trace?.steps[0]?.loss as number);
    session.dispose();
  });

  test.each(["lora", "adalora"])("of %s whose loss is not finite fails with a word on what to change", async (type) => {
    const session = start(await loraTiny(`lora_type=${type}`, "lr=1e38"));
    const before = await session.state();
    const error = await expectTidy(() => errorOf(session.edit([fact(0)])));
    expect(error).toBeInstanceOf(LabFailure);
    expect(error.message).toMatch(/loss .* became (NaN|Infinity) at step \d .*smaller lr/);
    expect(await session.state()).toEqual(before);
    session.dispose();
  });
});

describe("the plan", () => {
  const planOf = (...set: string[]) => prepareNamed("lora", { preset: "tiny", set }, model.config);

  test.each([
    [["layers=[]"], { layer: 0, at: "input" }],
    [["layers=[3, 2]"], { layer: 2, at: "input" }],
    [["layers=[2, 3]", "target_modules=[down_proj]"], { layer: 2, at: "mlpIn" }],
    [["layers=[2]", "target_modules=[up_proj, down_proj]"], { layer: 2, at: "input" }],
  ])("%j is cut before the first matrix that has factors", async (set, cut) => {
    expect((await planOf(...set)).cut).toEqual(cut);
  });

  test("needs no matrix' values and nothing beside prompt and target", async () => {
    const { sites, needs, style, together, rows } = await planOf();
    expect({ sites, needs, style, together }).toEqual({
      sites: [],
      needs: { templates: null, irrelevant: false, subject: false, assets: [] },
      style: PLAIN,
      together: 1,
    });
    const { tokenizer } = model;
    expect(rows(fact(0), { tokenizer, templates: ["{}"] })).toEqual([forcedRow(fact(0), tokenizer)]);
  });
});

test("before its first edit a session has factors whose product is 0", async () => {
  for (const type of ["lora", "adalora"]) {
    const session = start(await loraTiny(`lora_type=${type}`, "lora_dropout=0.3", "num_steps=1"));
    const plain = start(await loraTiny(`lora_type=${type}`, "lora_dropout=0", "num_steps=1"));
    const ce = async (of: EditSession) => (await of.edit([fact(0)]))[0]?.steps[0]?.terms.ce as number;
    expect(largestDifference([await ce(session)], [await ce(plain)])).toBeLessThan(1e-6);
    session.dispose();
    plain.dispose();
  }
});
