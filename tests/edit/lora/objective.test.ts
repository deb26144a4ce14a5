import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createRng } from "../../../src/core/rng.js";
import { joined, type Layout, layoutOf } from "../../../src/edit/lora/factors.js";
import { dropout, orthogonalTerm, type Term, targetTerm } from "../../../src/edit/lora/objective.js";
import type { LlamaModel } from "../../../src/model/model.js";
import { tf } from "../../../src/tensor/tf.js";
import { expectTidy } from "../../support/tensor-matcher.js";
import { fact, loadTiny } from "../support.js";
import { ALL_MODULES, loraTiny, problemOf } from "./support.js";

let model: LlamaModel;
beforeAll(async () => {
  model = await loadTiny();
});
afterAll(() => model.dispose());

const random = (seed: number, length: number, scale: number) => {
  const rng = createRng(seed);
  return Float32Array.from({ length }, () => scale * rng.normal());
};
const dot = (a: Float32Array, b: Float32Array) => a.reduce((sum, x, i) => sum + x * (b[i] as number), 0);

/** A term and its gradient at factors, end to end. */
async function at(layout: Layout, values: Float32Array, term: (vector: tf.Tensor1D) => Term) {
  const vector = joined(layout, [values]);
  const found = term(vector);
  const [value] = await found.value.data<"float32">();
  const gradient = await found.gradient.data<"float32">();
  tf.dispose([vector, found.value, found.gradient]);
  return { value: value as number, gradient };
}

/** Holds the gradient of each factor against finite differences, along itself and along another direction. */
async function expectSlopes(layout: Layout, values: Float32Array, term: (vector: tf.Tensor1D) => Term): Promise<void> {
  const { gradient } = await at(layout, values, term);
  const total = Math.hypot(...gradient);
  let from = 0;
  for (const { name, shape } of layout.factors) {
    const size = shape[0] * shape[1];
    const own = gradient.map((x, i) => (i >= from && i < from + size ? x : 0));
    const norm = Math.hypot(...own);
    expect(norm, name).toBeGreaterThan(0);
    const noise = random(from, own.length, 1 / Math.sqrt(size)).map((x, i) => (i >= from && i < from + size ? x : 0));
    for (const direction of [own.map((x) => x / norm), noise]) {
      const step = Math.min(0.02 / norm, 0.05);
      const moved = async (sign: number) =>
        (
          await at(
            layout,
            values.map((x, i) => x + sign * step * (direction[i] as number)),
            term,
          )
        ).value;
      const slope = ((await moved(1)) - (await moved(-1))) / (2 * step);
      expect(Math.abs(slope - dot(own, direction)), name).toBeLessThan(0.01 * norm + 2e-4 * total);
    }
    from += size;
  }
}

describe("the gradient is the slope that finite differences see", () => {
  test.each([
    ["lora, every matrix", ["rank=3", "layers=[1]", ALL_MODULES], 0],
    ["lora, the last layer", ["rank=2", "layers=[3]", ALL_MODULES], 0],
    ["adalora, every matrix", ["lora_type=adalora", "init_r=2", "layers=[2]", ALL_MODULES], 0],
    ["all layers, with dropout", ["rank=2", "target_modules=[v_proj, up_proj]"], 0.3],
  ])("%s", async (_, set, share) => {
    const options = await loraTiny(...set);
    const problem = await problemOf(model, options, { ...fact(0), target: "Leeds College" });
    await expectTidy(() =>
      // The masks of one step, again and again.
      expectSlopes(problem.layout, random(1, problem.layout.size, 0.1), (vector) =>
        targetTerm(problem, vector, dropout(share, createRng(0))),
      ),
    );
    problem.dispose();
  });

  test("of the penalty", async () => {
    const layout = layoutOf(await loraTiny("lora_type=adalora", "init_r=3", "layers=[0, 2]"), model.config);
    const values = random(2, layout.size, 0.1);
    const { gradient } = await at(layout, values, (vector) => orthogonalTerm(layout, vector, 0.7));
    const E = layout.factors.reduce((sum, { kind, shape }) => sum + (kind === "E" ? shape[0] : 0), 0);
    expect(gradient.filter((x) => x === 0)).toHaveLength(E);
    const direction = random(3, layout.size, 1);
    const moved = async (by: number) =>
      (
        await at(
          layout,
          values.map((x, i) => x + by * (direction[i] as number)),
          (vector) => orthogonalTerm(layout, vector, 0.7),
        )
      ).value;
    const slope = ((await moved(1e-3)) - (await moved(-1e-3))) / 2e-3;
    expect(Math.abs(slope - dot(gradient, direction))).toBeLessThan(2e-3 * Math.abs(slope));
  });
});

describe("the penalty", () => {
  const layout = async (...set: string[]) =>
    layoutOf(await loraTiny("lora_type=adalora", "layers=[1]", ...set), model.config);

  test("is the mean distance of A A' and B' B from the identity, weighted", async () => {
    const own = await layout("init_r=3");
    const values = random(4, own.size, 0.2);
    let from = 0;
    const distances: number[] = [];
    for (const { kind, shape } of own.factors) {
      const [rows, columns] = shape;
      const entry = (r: number, i: number) =>
        values[from + (kind === "A" ? r * columns + i : i * columns + r)] as number; // of A' and of B, column r
      if (kind !== "E") {
        let sum = 0;
        for (let r = 0; r < 3; r++) {
          for (let s = 0; s < 3; s++) {
            let product = r === s ? -1 : 0;
            for (let i = 0; i < (kind === "A" ? columns : rows); i++) product += entry(r, i) * entry(s, i);
            sum += product ** 2;
          }
        }
        distances.push(Math.sqrt(sum));
      }
      from += rows * columns;
    }
    expect(distances).toHaveLength(4);
    const mean = distances.reduce((sum, x) => sum + x, 0) / 4;
    const { value } = await expectTidy(() => at(own, values, (vector) => orthogonalTerm(own, vector, 0.5)));
    expect(value).toBeCloseTo(0.5 * mean, 5);
  });

  test("is 0 for orthogonal factors, with a gradient of 0", async () => {
    const own = await layout("init_r=1", "target_modules=[q_proj]");
    const values = new Float32Array(own.size); // one entry of 1 in A, and one in B
    values[3] = 1;
    values[model.config.hiddenSize + 5] = 1;
    const { value, gradient } = await at(own, values, (vector) => orthogonalTerm(own, vector, 0.5));
    expect([value, ...new Set(gradient)]).toEqual([0, 0]);
  });
});

describe("dropout", () => {
  const site = { layer: 2, matrix: "q" } as const;
  const masked = async (share: number, seed: number, at: Parameters<ReturnType<typeof dropout>>[1] = site) => {
    const x = tf.ones<tf.Rank.R2>([100, 50]);
    const dropped = dropout(share, createRng(seed))(x, at);
    const values = await dropped.data<"float32">();
    tf.dispose([x, dropped]);
    return values;
  };

  test("leaves a share of the entries out, and makes up for them", async () => {
    await expectTidy(async () => {
      const values = await masked(0.2, 0);
      expect(new Set(values)).toEqual(new Set([0, 1.25]));
      expect(values.filter((x) => x === 0).length / values.length).toBeCloseTo(0.2, 1);
    });
  });

  test("follows from the generator and the matrix", async () => {
    expect(await masked(0.2, 0)).toEqual(await masked(0.2, 0));
    expect(await masked(0.2, 1)).not.toEqual(await masked(0.2, 0));
    expect(await masked(0.2, 0, { layer: 2, matrix: "v" })).not.toEqual(await masked(0.2, 0));
  });

  test("of no share leaves the input as it is", async () => {
    const x = tf.ones<tf.Rank.R2>([2, 2]);
    expect(dropout(0, createRng(0))(x, site)).toBe(x);
    x.dispose();
  });
});
