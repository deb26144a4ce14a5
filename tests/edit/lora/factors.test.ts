import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createRng } from "../../../src/core/rng.js";
import { drawFactors, joined, layoutOf, pairsOf, patchOf } from "../../../src/edit/lora/factors.js";
import { batchCuts, logitsAt } from "../../../src/model/cut.js";
import { runFrozen } from "../../../src/model/frozen.js";
import type { LlamaModel } from "../../../src/model/model.js";
import { cutBefore, deltaChange, MATRICES, type Patch, siteName } from "../../../src/model/patch.js";
import { tf } from "../../../src/tensor/tf.js";
import { expectTidy } from "../../support/tensor-matcher.js";
import { largestDifference, loadTiny } from "../support.js";
import { ALL_MODULES, loraTiny } from "./support.js";

let model: LlamaModel;
beforeAll(async () => {
  model = await loadTiny();
});
afterAll(() => model.dispose());

const layout = async (...set: string[]) => layoutOf(await loraTiny(...set), model.config);

describe("the layout", () => {
  test("no layers stands for all of them, module by module as they are named", async () => {
    const { sites } = await layout("target_modules=[v_proj, q_proj]");
    expect(sites).toEqual((["v", "q"] as const).flatMap((matrix) => [0, 1, 2, 3].map((layer) => ({ layer, matrix }))));
    expect((await layout("layers=[2]", "target_modules=[down_proj]")).sites).toEqual([{ layer: 2, matrix: "down" }]);
  });

  test.each(MATRICES)("factors of %s fit its rows and columns", async (matrix) => {
    const [out, width] = model.matrix({ layer: 1, matrix }).shape;
    const set = ["layers=[1]", `target_modules=[${matrix}_proj]`];
    const { factors, size } = await layout(...set, "lora_type=adalora", "init_r=5");
    expect(factors.map(({ name, shape }) => [name, shape])).toEqual([
      [`layers.1.${matrix}.A`, [5, width]],
      [`layers.1.${matrix}.B`, [out, 5]],
      [`layers.1.${matrix}.E`, [5, 1]],
    ]);
    expect(size).toBe(5 * (width + out + 1));
  });

  test("scales by lora_alpha over the rank", async () => {
    expect((await layout("rank=3", "lora_alpha=12")).scale).toBe(4);
    expect((await layout("lora_type=adalora", "init_r=3", "lora_alpha=12")).scale).toBe(12 / 3.00001);
  });
});

describe("factors begin", () => {
  const drawn = async (seed: number, ...set: string[]) => {
    const { factors, ...rest } = await layout(...set);
    const values = drawFactors({ factors, ...rest }, createRng(seed));
    return Object.fromEntries(factors.map(({ name }, i) => [name, values[i] as Float32Array]));
  };
  const spread = (values: Float32Array) => Math.sqrt(values.reduce((sum, x) => sum + x * x, 0) / values.length);

  test("of lora uniform within 1 / sqrt(in), and zero", async () => {
    const { "layers.1.q.A": A, "layers.1.q.B": B } = await drawn(0, "rank=64");
    const bound = 1 / Math.sqrt(model.config.hiddenSize);
    expect(Math.max(...(A as Float32Array).map(Math.abs))).toBeLessThanOrEqual(bound);
    expect(spread(A as Float32Array) / bound).toBeCloseTo(1 / Math.sqrt(3), 2);
    expect(new Set(B)).toEqual(new Set([0]));
  });

  test("of adalora normal, and zero", async () => {
    const {
      "layers.1.q.A": A,
      "layers.1.q.B": B,
      "layers.1.q.E": E,
    } = await drawn(0, "lora_type=adalora", "init_r=64");
    expect(spread(A as Float32Array)).toBeCloseTo(0.02, 3);
    expect(spread(B as Float32Array)).toBeCloseTo(0.02, 3);
    expect(new Set(E)).toEqual(new Set([0]));
  });

  test("keyed by seed and name: the same whatever else has factors", async () => {
    const [all, one, other] = [await drawn(0), await drawn(0, "layers=[3]", "target_modules=[v_proj]"), await drawn(1)];
    expect(one["layers.3.v.A"]).toEqual(all["layers.3.v.A"]);
    expect(other["layers.3.v.A"]).not.toEqual(all["layers.3.v.A"]);
    expect(all["layers.2.v.A"]).not.toEqual(all["layers.3.v.A"]);
  });
});

describe("the change", () => {
  test.each([["lora"], ["adalora"]])("of %s is scale B A of every matrix, with E between them", async (type) => {
    const own = await layout(`lora_type=${type}`, "rank=2", "init_r=2", "layers=[1, 2]", ALL_MODULES);
    const rng = createRng(5);
    const values = own.factors.map(({ shape: [rows, columns] }) =>
      Float32Array.from({ length: rows * columns }, () => 0.3 * rng.normal()),
    );
    const named = new Map(own.factors.map(({ name }, i) => [name, values[i]]));
    /** scale times the sum over r of B[o, r] E[r] A[r, i] */
    const naive = own.sites.map((site) => {
      const [A, B, E] = ["A", "B", "E"].map((kind) => named.get(`${siteName(site)}.${kind}`));
      if (A === undefined || B === undefined) throw new Error(`no factors of ${siteName(site)}`);
      const [width, out] = [A.length / 2, B.length / 2];
      const delta = new Float32Array(out * width);
      for (let o = 0; o < out; o++) {
        for (let i = 0; i < width; i++) {
          const term = (r: number) => (B[o * 2 + r] as number) * (E?.[r] ?? 1) * (A[r * width + i] as number);
          delta[o * width + i] = own.scale * (term(0) + term(1));
        }
      }
      return { delta, shape: [out, width] as [number, number] };
    });
    const ids = [0, 5, 17, 301, 44];
    const [cut] = await runFrozen(model, [ids], { point: cutBefore(own.sites) });
    await expectTidy(async () => {
      const batch = batchCuts(model, [cut as NonNullable<typeof cut>]);
      const spots = ids.map((_, position) => ({ row: 0, position }));
      const under = async (patch: () => Patch) => {
        const logits = tf.tidy(() => logitsAt(model, batch, { patch: patch(), spots }));
        const found = await logits.data<"float32">();
        logits.dispose();
        return found;
      };
      const factored = await under(() => patchOf(own, pairsOf(own, joined(own, values))));
      const dense = await under(() =>
        own.sites.map((site, s) => {
          const { delta, shape } = naive[s] as (typeof naive)[number];
          return { site, change: deltaChange(tf.tensor2d(delta, shape)) };
        }),
      );
      expect(largestDifference(factored, dense)).toBeLessThan(1e-4);
      expect(largestDifference(factored, await under(() => []))).toBeGreaterThan(0.1);
      batch.dispose();
    });
  });
});
