import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createRng } from "../../../src/core/rng.js";
import { createLoss, type SearchPlace, searchValue } from "../../../src/edit/locate/search.js";
import { patchOf, type Update, updateBytes } from "../../../src/edit/locate/updates.js";
import { unrouted } from "../../../src/edit/overlay.js";
import { type LocatedEdit, locate } from "../../../src/edit/rome/rome.js";
import type { StepReport } from "../../../src/edit/steps.js";
import { mainOutput } from "../../../src/model/cut.js";
import type { LlamaModel } from "../../../src/model/model.js";
import type { Patch } from "../../../src/model/patch.js";
import { tf } from "../../../src/tensor/tf.js";
import { expectTidy } from "../../support/tensor-matcher.js";
import { largestDifference, loadTiny } from "../support.js";
import { located, prepareRome, romeSetting, TEMPLATES } from "./support.js";

let model: LlamaModel;
let D: number;
beforeAll(async () => {
  model = await loadTiny();
  D = model.config.hiddenSize;
});
afterAll(() => model.dispose());

const random = (seed: number, length: number, scale: number) => {
  const rng = createRng(seed);
  return Float32Array.from({ length }, () => scale * rng.normal());
};

/** Earlier updates of any matrix. */
const earlier = (): Update[] =>
  [1, 2].map((seed) => ({ left: random(seed, D, 0.3), right: random(seed + 10, model.config.intermediateSize, 0.1) }));

/** The place of a search, for the edit of one record. */
async function placeOf(
  set: string[],
  given: { record?: number; templates?: readonly string[]; updates?: Update[] } = {},
) {
  const { record = 0, templates = TEMPLATES, updates = [] } = given;
  const { method, options } = await prepareRome(model, ...set);
  const setting = romeSetting(model, method, { templates });
  const edit = await locate(located(record), updates, { options, setting });
  return { edit, options };
}

type Options = Awaited<ReturnType<typeof placeOf>>["options"];

interface Seen {
  report: StepReport;
  gradient: Float32Array;
}

/** Loss and gradient at deltas, one after another, as one search sees them. */
async function passesAt({ place }: LocatedEdit, options: Options, deltas: readonly Float32Array[]) {
  const loss = createLoss(place, options);
  const passes: Seen[] = [];
  for (const delta of deltas) {
    const at = tf.tensor2d(delta, [1, D]);
    const { gradient, report } = loss.pass(at);
    passes.push({ report: await report(), gradient: await gradient.data<"float32">() });
    tf.dispose([at, gradient]);
  }
  loss.dispose();
  return passes;
}

describe("the loss of a search", () => {
  test.each([
    ["layer 0", ["layers=[0]"], 0],
    ["layer 1, after earlier edits, its divergence read at the end", ["layers=[1]", "kl_at=end"], 2],
    ["the last layer", ["layers=[3]"], 0],
  ])("its gradient is the slope that finite differences see: %s", async (_, set, edits) => {
    await expectTidy(async () => {
      // Weights that give every term a slope.
      const weighed = [...set, "kl_factor=50", "v_weight_decay=50"];
      const { edit, options } = await placeOf(weighed, { updates: earlier().slice(0, edits) });
      const zero = new Float32Array(D);
      const delta = random(3, D, 0.5);
      const step = 0.01;
      const directions = [4, 5, 6].map((seed) => random(seed, D, 1));
      const moved = (direction: Float32Array, by: number) => delta.map((x, i) => x + by * (direction[i] as number));
      const around = directions.flatMap((direction) => [moved(direction, step), moved(direction, -step)]);
      const [, at, ...others] = (await passesAt(edit, options, [zero, delta, ...around])) as [Seen, Seen, ...Seen[]];
      const { report, gradient } = at;
      expect(Math.min(...Object.values(report.terms))).toBeGreaterThan(0.05);
      const size = Math.sqrt(gradient.reduce((sum, g) => sum + g * g, 0));
      for (const [i, direction] of directions.entries()) {
        const [above, below] = [others[2 * i], others[2 * i + 1]].map((pass) => pass?.report.loss as number);
        const seen = ((above as number) - (below as number)) / (2 * step);
        const claimed = gradient.reduce((sum, g, j) => sum + g * (direction[j] as number), 0);
        expect(Math.abs(seen - claimed), `claimed ${claimed}, seen ${seen}`).toBeLessThan(0.01 * size);
      }
      edit.dispose();
    });
  });

  test("at delta = 0 only the target counts, and the gradient is finite there", async () => {
    const { edit, options } = await placeOf(["v_weight_decay=1", "kl_factor=1"]);
    const [{ report, gradient }] = (await passesAt(edit, options, [new Float32Array(D)])) as [Seen];
    const { loss, terms, numbers } = report;
    expect({ terms, numbers }).toEqual({ terms: { nll: loss, kl: 0, wd: 0 }, numbers: { delta_norm: 0 } });
    expect(gradient.every(Number.isFinite)).toBe(true);
    expect(Math.max(...gradient)).toBeGreaterThan(0);
    edit.dispose();
  });

  test("terms are weighted as they enter the sum", async () => {
    const delta = random(7, D, 1);
    const length = Math.sqrt(delta.reduce((sum, x) => sum + x * x, 0));
    const termsOf = async (...set: string[]) => {
      const { edit, options } = await placeOf(set);
      const [, at] = await passesAt(edit, options, [new Float32Array(D), delta]);
      edit.dispose();
      const startNorm = Math.sqrt(edit.place.start.reduce((sum, x) => sum + x * x, 0));
      return { ...(at?.report as StepReport), startNorm };
    };
    const once = await termsOf("kl_factor=0.5", "v_weight_decay=0.5");
    const twice = await termsOf("kl_factor=1", "v_weight_decay=1");
    const none = await termsOf("kl_factor=0", "v_weight_decay=0");
    expect(twice.terms.kl).toBeCloseTo(2 * (once.terms.kl as number), 5);
    expect(twice.terms.wd).toBeCloseTo(length / twice.startNorm ** 2, 6);
    expect(once.terms.wd).toBeCloseTo((twice.terms.wd as number) / 2, 6);
    expect(none).toMatchObject({ loss: none.terms.nll, terms: { kl: 0, wd: 0 } });
    const { nll, kl, wd } = once.terms as Record<"nll" | "kl" | "wd", number>;
    expect(once.loss).toBeCloseTo(nll + kl + wd, 4);
    expect(once.numbers.delta_norm).toBeCloseTo(length, 4);
  });

  test("is the mean over the templates, whatever they are padded with", async () => {
    const delta = random(8, D, 0.5);
    const nll = async (templates: readonly string[]) => {
      const { edit, options } = await placeOf([], { record: 4, templates });
      const [, at] = await passesAt(edit, options, [new Float32Array(D), delta]);
      edit.dispose();
      return at?.report.terms.nll as number;
    };
    const alone: number[] = [];
    for (const template of TEMPLATES) alone.push(await nll([template]));
    const together = await nll(TEMPLATES);
    expect(together).toBeCloseTo(alone.reduce((sum, x) => sum + x, 0) / alone.length, 4);
  });

  test("v0 is what the matrix gives at the look-up of the bare prompt, with its earlier updates", async () => {
    const { edit } = await placeOf([], { updates: earlier() });
    const { place, k } = edit;
    const main = tf.tidy(() => mainOutput(model, place.batch));
    const all = await main.data<"float32">();
    main.dispose();
    const { lookup } = place.rows.templates[0] as { lookup: number };
    const expected = all.slice(lookup * D, (lookup + 1) * D);
    for (const { left, right } of earlier()) {
      const along = right.reduce((sum, x, j) => sum + x * (k[j] as number), 0);
      for (let i = 0; i < D; i++) expected[i] = (expected[i] as number) + along * (left[i] as number);
    }
    expect(largestDifference(place.start, expected)).toBeLessThan(1e-5);
    edit.dispose();
  });
});

describe("a search", () => {
  async function search(place: SearchPlace, options: Options) {
    const standing = async () => unrouted({ layer: 1, at: "mlpIn" }, [], () => {});
    const { delta, taken } = await searchValue(place, options, { control: {}, standing });
    const startNorm = Math.sqrt(place.start.reduce((sum, x) => sum + x * x, 0));
    return { delta, ...taken, length: Math.sqrt(delta.reduce((sum, x) => sum + x * x, 0)), startNorm };
  }

  test("of one pass makes no move; the first move is the step size in every coordinate", async () => {
    const { edit, options } = await placeOf(["v_lr=0.25", "clamp_norm_factor=1000"]);
    const one = await search(edit.place, { ...options, v_num_grad_steps: 1 });
    expect([...one.delta].every((x) => x === 0)).toBe(true);
    const two = await search(edit.place, { ...options, v_num_grad_steps: 2 });
    expect(two.steps).toHaveLength(2);
    for (const x of two.delta) expect(Math.abs(x)).toBeCloseTo(0.25, 3);
    expect(two.steps[1]?.loss).toBeLessThan(two.steps[0]?.loss as number);
    edit.dispose();
  });

  test("moves as Adam does in float64, clamped to the ball with its moments as they are", async () => {
    const { edit, options } = await placeOf(["v_lr=0.3", "clamp_norm_factor=0.25", "v_num_grad_steps=6"]);
    const found = await search(edit.place, options);
    const bound = 0.25 * found.startNorm;
    const loss = createLoss(edit.place, options);
    let delta = new Float64Array(D);
    const [m, v] = [new Float64Array(D), new Float64Array(D)];
    let clamped = 0;
    for (let step = 1; step <= 5; step++) {
      const at = tf.tensor2d(Float32Array.from(delta), [1, D]);
      const { gradient, report } = loss.pass(at);
      await report();
      const g = await gradient.data<"float32">();
      tf.dispose([at, gradient]);
      delta = delta.map((x, i) => {
        m[i] = 0.9 * (m[i] as number) + 0.1 * (g[i] as number);
        v[i] = 0.999 * (v[i] as number) + 0.001 * (g[i] as number) ** 2;
        return x - (0.3 * m[i]) / (1 - 0.9 ** step) / (Math.sqrt(v[i] / (1 - 0.999 ** step)) + 1e-8);
      });
      const length = Math.sqrt(delta.reduce((sum, x) => sum + x * x, 0));
      if (length > bound) {
        clamped += 1;
        delta = delta.map((x) => (x * bound) / length);
      }
    }
    loss.dispose();
    edit.dispose();
    expect(clamped).toBeGreaterThan(1);
    expect(clamped).toBeLessThan(5);
    expect(found.length).toBeCloseTo(bound, 3);
    expect(largestDifference(found.delta, delta)).toBeLessThan(1e-3);
  });

  test("ends with the pass whose loss is below the stop, without a move", async () => {
    const { edit, options } = await placeOf(["v_lr=2", "clamp_norm_factor=20"]);
    const [first] = (await search(edit.place, { ...options, v_num_grad_steps: 6 })).steps;
    const stop = (first?.loss as number) - 0.5;
    const found = await search(edit.place, { ...options, v_num_grad_steps: 6, stop });
    expect(found.stoppedEarly).toBe(true);
    const losses = found.steps.map(({ loss }) => loss);
    expect(losses.findIndex((loss) => loss < stop)).toBe(losses.length - 1);
    expect(found.length).toBeCloseTo(found.steps.at(-1)?.numbers.delta_norm as number, 4);
    edit.dispose();
  });
});

describe("updates of a matrix", () => {
  const site = { layer: 1, matrix: "down" } as const;

  async function outputsOf(patch: Patch, x: tf.Tensor2D, own: tf.Tensor2D): Promise<Float32Array> {
    const made = tf.tidy(() =>
      patch.reduce(
        (y, { change }) =>
          change(
            x,
            () => y,
            (rows) => rows,
          ),
        own,
      ),
    );
    return made.data<"float32">();
  }

  test.each([
    ["few, kept as factors", 2],
    ["many, summed where that is smaller", 5],
  ])("%s, change it by the sum of left right^T", async (_, n) => {
    const updates = Array.from({ length: n }, (_, i) => ({
      left: random(i, 3, 1),
      right: random(i + 20, 4, 1),
    }));
    tf.engine().startScope();
    const [x, own] = [tf.tensor2d(random(50, 8, 1), [2, 4]), tf.tensor2d(random(51, 6, 1), [2, 3])];
    const before = tf.memory();
    const { patch, dispose } = patchOf(site, updates);
    expect(tf.memory().numBytes - before.numBytes).toBe(updateBytes(n, [3, 4]).onDevice);
    const found = await outputsOf(patch, x, own);
    dispose();
    expect(updateBytes(n, [3, 4]).kept).toBe(4 * 7 * n);
    const [input, output] = [await x.data<"float32">(), await own.data<"float32">()];
    tf.engine().endScope();
    for (let row = 0; row < 2; row++) {
      for (let i = 0; i < 3; i++) {
        const changed = updates.reduce(
          (sum, { left, right }) => {
            const along = right.reduce((sum, r, j) => sum + r * (input[row * 4 + j] as number), 0);
            return sum + along * (left[i] as number);
          },
          output[row * 3 + i] as number,
        );
        expect(found[row * 3 + i]).toBeCloseTo(changed, 4);
      }
    }
  });

  test("none change nothing", () => {
    expect(patchOf(site, []).patch).toEqual([]);
  });
});
