import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { GradientFactors } from "../../../src/edit/factors.js";
import { exampleOf, keptPositions } from "../../../src/edit/mend/example.js";
import { editGradient } from "../../../src/edit/mend/gradient.js";
import { mendBytes, startMend } from "../../../src/edit/mend/mend.js";
import { type NetworkValues, type Slot, slotsOf, tensorsFor, updateOf } from "../../../src/edit/mend/network.js";
import type { MendOptions } from "../../../src/edit/mend/options.js";
import { prepareNamed } from "../../../src/edit/registry.js";
import type { EditState } from "../../../src/edit/state.js";
import { batchCuts } from "../../../src/model/cut.js";
import type { LlamaModel } from "../../../src/model/model.js";
import { siteName } from "../../../src/model/patch.js";
import { tf } from "../../../src/tensor/tf.js";
import { refusal } from "../../model/support.js";
import { expectTidy } from "../../support/tensor-matcher.js";
import { fact, largestDifference, loadTiny } from "../support.js";
import { MIXED, mendOptions, mendSetting, someNetwork } from "./support.js";

let model: LlamaModel;
let options: MendOptions;
let slots: Slot[];
let network: NetworkValues;
beforeAll(async () => {
  model = await loadTiny();
  options = await mendOptions(MIXED, "rank=3");
  slots = slotsOf(options, model.config);
  network = someNetwork(slots, options.rank);
});
afterAll(() => model.dispose());

/** What an edit adds to a matrix, [out, in]: the product where the state holds factors. */
async function added({ tensors }: EditState, { site }: Slot): Promise<Float32Array> {
  const [whole, left, right] = ["", ".left", ".right"].map((side) => tensors[`${siteName(site)}${side}`]);
  if (whole !== undefined) return whole.data as Float32Array;
  const sum = tf.tidy(() => {
    const [l, r] = [left, right].map((side) =>
      tf.tensor2d(side?.data as Float32Array, side?.shape as [number, number]),
    );
    return tf.matMul(l as tf.Tensor2D, r as tf.Tensor2D, true);
  });
  const values = await sum.data<"float32">();
  sum.dispose();
  return values;
}

/** Of every matrix, what the network makes of an edit's gradient at the untouched model. */
async function madeOf(record: number): Promise<Float32Array[]> {
  const example = exampleOf(fact(record), { tokenizer: model.tokenizer, options });
  const batch = batchCuts(model, await mendSetting(model, options, network).cuts.get([example.row.ids]));
  const { loss, factors } = await editGradient(model, { example, batch, slots, standing: [] });
  const products: Float32Array[] = [];
  for (const slot of slots) {
    const tensors = tensorsFor(slot, network);
    const { left, right } = updateOf(tensors, slot, factors[slot.index] as GradientFactors);
    const product = tf.matMul(left, right, true);
    products.push(await product.data<"float32">());
    tf.dispose([tensors, left, right, product]);
  }
  tf.dispose([loss, factors.map(({ x, delta }) => [x, delta])]);
  batch.dispose();
  return products;
}

describe("an edit", () => {
  test("adds to every matrix what the network makes of its gradient", async () => {
    await expectTidy(async () => {
      const session = startMend(options, mendSetting(model, options, network));
      await session.edit([fact(0)]);
      const state = await session.state();
      for (const [i, product] of (await madeOf(0)).entries()) {
        expect(largestDifference(await added(state, slots[i] as Slot), product)).toBeLessThan(1e-5);
      }
      session.dispose();
    });
  });

  test("after others goes on from them, and sums are held once they are smaller than their factors", async () => {
    const small = await mendOptions("inner_params=[model.layers.3.self_attn.k_proj.weight]", "rank=3");
    const own = slotsOf(small, model.config) as [Slot];
    const session = startMend(small, mendSetting(model, small));
    const rows: unknown[] = [];
    let before = new Float32Array(own[0].inner * own[0].out);
    for (let record = 0; record < 6; record++) {
      const overlay = await session.overlay();
      overlay.dispose();
      await session.edit([fact(record)]);
      const state = await session.state();
      rows.push(...(state.json as unknown[]));
      const after = await added(state, own[0]);
      expect(largestDifference(after, before)).toBeGreaterThan(1e-3);
      before = Float32Array.from(after);
    }
    // 64 inputs and 32 outputs: a row has 96 numbers, the sum 2048.
    const held = rows as (number | null)[];
    expect(held[0]).toBeGreaterThan(0);
    for (const count of held) if (count !== null) expect(count).toBeLessThanOrEqual(2048 / 96);
    expect(held.at(-1)).toBeNull();
    session.dispose();
  });

  test.each<[string, (state: EditState) => EditState, found: unknown]>([
    ["of fewer matrices", (state) => ({ ...state, json: [1] }), [1]],
    ["with rows below 0", (state) => ({ ...state, json: slots.map(() => -1) }), undefined],
    ["of other rows", (state) => ({ ...state, json: slots.map(() => 99) }), undefined],
  ])("does not go on from a state %s", async (_, change, found) => {
    const session = startMend(options, mendSetting(model, options, network));
    await session.edit([fact(0)]);
    const state = change(await session.state());
    session.dispose();
    await expectTidy(async () => {
      const refused = await refusal(() => startMend(options, mendSetting(model, options, network), state));
      if (found !== undefined) expect(refused.found).toEqual(found);
    });
  });
});

describe("the tokens of an edit", () => {
  const at = (own: Partial<MendOptions> = {}) => ({ tokenizer: model.tokenizer, options: { ...options, ...own } });
  const p = () => model.tokenizer.encode(fact(0).prompt);
  const f = () => model.tokenizer.encode(`${fact(0).prompt} ${fact(0).target}`);

  test("are those of the target, each predicted one position before it", () => {
    const { row, positions, tokens } = exampleOf(fact(0), at());
    expect(row).toEqual({ ids: f(), promptTokens: p().length });
    expect(tokens).toEqual(f().slice(p().length));
    expect(positions).toEqual(tokens.map((_, i) => p().length - 1 + i));
  });

  test("released: begin with begin-of-text, which is predicted where the prompt's last token is", () => {
    const { positions, tokens } = exampleOf(fact(0), at({ bos_in_targets: true }));
    expect(tokens).toEqual([model.tokenizer.bosId, ...f().slice(p().length)]);
    expect(positions[0]).toBe(p().length - 2);
  });

  test("of an unrelated question are its last ones, that behind its answer included", () => {
    const row = { ids: [1, 2, 3, 4, 5, 6], promptTokens: 4 };
    expect(keptPositions(row, { bos_in_targets: false })).toEqual([4, 5]);
    expect(keptPositions(row, { bos_in_targets: true })).toEqual([3, 4, 5]);
    expect(keptPositions({ ids: [1, 2], promptTokens: 0 }, { bos_in_targets: true })).toEqual([0, 1]);
  });

  test("are refused where there is no room or no token for them", async () => {
    const empty = { ...fact(0), prompt: "" };
    expect((await refusal(async () => exampleOf(empty, at({ bos_in_targets: true })))).message).toContain("too short");
    const without = { ...at({ bos_in_targets: true }), tokenizer: { ...model.tokenizer, bosId: null } };
    expect(await refusal(async () => exampleOf(fact(0), without))).toMatchObject({ where: "option bos_in_targets" });
    for (const target of ["", " "]) {
      expect((await refusal(async () => exampleOf({ ...fact(0), target }, at()))).found).toBe(JSON.stringify(target));
    }
  });
});

describe("options are refused:", () => {
  test.each<[set: string, where: string]>([
    ["inner_params=[]", "inner_params"],
    ["inner_params=[model.layers.1.mlp.up_proj.weight, model.layers[1].mlp.up_proj]", "inner_params"],
    ["inner_params=[model.layers.9.mlp.up_proj.weight]", "inner_params"],
    ["inner_params=[lm_head.weight]", "inner_params"],
    ["edit_lr=0", "edit_lr"],
    ["rank=0", "rank"],
    ["shared=false", "shared"],
    ["n_hidden=2", "n_hidden"],
    ["outer=loc", "outer"],
  ])("%s", async (set, where) => {
    const refused = await refusal(() => prepareNamed("mend", { preset: "tiny", set: [set] }, model.config));
    expect(refused.where).toContain(where);
  });
});

test("memory is foreseen: a matrix of sums for each, and the network twice", async () => {
  const { kept, working, variants } = mendBytes(options, model.config);
  const matrices = slots.map(({ inner, out }) => 4 * inner * out);
  const held = matrices.reduce((sum, bytes) => sum + bytes, 0);
  const bytes = Object.values(network).reduce((sum, { data }) => sum + data.byteLength, 0);
  expect(kept).toBe(held + bytes);
  expect(working).toBe(held + Math.max(...matrices) + bytes);
  expect(variants).toBe(1);
});
