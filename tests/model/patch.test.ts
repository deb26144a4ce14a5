import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createRng } from "../../src/core/rng.js";
import { batchCuts, type CutBatch, logitsAt, type Spot } from "../../src/model/cut.js";
import { runFrozen } from "../../src/model/frozen.js";
import { forward, type LlamaLayer, layerForward, positions } from "../../src/model/llama.js";
import type { LlamaModel } from "../../src/model/model.js";
import {
  type Change,
  type CutPoint,
  cutBefore,
  cutName,
  deltaChange,
  lowRankChange,
  MATRICES,
  type MatrixName,
  moduleName,
  outputChange,
  type Patch,
  type Site,
  siteName,
  siteOfModule,
} from "../../src/model/patch.js";
import { linear } from "../../src/model/weight.js";
import { tf } from "../../src/tensor/tf.js";
import { goldenRecords, largestDifference, loadTiny } from "../edit/support.js";
import { atInput, atValue } from "../support/points.js";
import { expectTidy } from "../support/tensor-matcher.js";
import { weightsOf } from "../support/whole-model.js";

let model: LlamaModel;
/** Logits of the model as it is, at every position of every text. */
let untouched: Float32Array[];
beforeAll(async () => {
  model = await loadTiny();
  untouched = await changedModel([]);
});
afterAll(() => model.dispose());

const LAYERS = [0, 1, 2, 3];
const sites: Site[] = LAYERS.flatMap((layer) => MATRICES.map((matrix) => ({ layer, matrix })));

/** Texts of unlike lengths. */
const texts = Object.values(goldenRecords.tokens)
  .filter((ids) => ids.length > 2)
  .slice(0, 4);
/** Every position of some sequences. */
const all = (...rows: number[]): Spot[] =>
  rows.flatMap((row) => (texts[row] as number[]).map((_, position) => ({ row, position })));

/** Spots of two sequences, three of the one and one of the other. */
const uneven: Spot[] = [
  { row: 3, position: 1 },
  { row: 1, position: 2 },
  { row: 3, position: 0 },
  { row: 3, position: 2 },
];

/** Spots as they are asked for: of every sequence, of the first ones, of others; many, few, and in any order. */
const asked: Record<string, Spot[]> = {
  "every position": all(0, 1, 2, 3),
  "the first sequences alone": [
    { row: 0, position: 2 },
    { row: 1, position: 1 },
    { row: 1, position: 0 },
  ],
  "other sequences, one more often than the other": uneven,
};

const random = (shape: [number, number], size: number, seed = 1): tf.Tensor2D => {
  const rng = createRng(seed);
  const values = Float32Array.from({ length: shape[0] * shape[1] }, () => size * rng.normal());
  return tf.tensor2d(values, shape);
};

/** A third of the weights of a matrix, root mean square: large enough to change every answer. */
async function sizeOf(site: Site): Promise<number> {
  const values = await model.matrix(site).data<"float32">();
  return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length) / 3;
}

/** Logits of the uncut pass at every position of every text, of a model whose matrices were really changed. */
async function changedModel(deltas: readonly { site: Site; delta: tf.Tensor2D }[]): Promise<Float32Array[]> {
  const whole = weightsOf(model);
  const layers = whole.layers.map((own) => ({ ...own }));
  const made: tf.Tensor[] = [];
  for (const { site, delta } of deltas) {
    const layer = layers[site.layer] as LlamaLayer<tf.Tensor2D>;
    layer[site.matrix] = tf.add(layer[site.matrix], delta);
    made.push(layer[site.matrix]);
  }
  const logits: Float32Array[] = [];
  for (const ids of texts) {
    const x = await model.embed(ids);
    const at = positions(model.config, ids.length);
    const own = forward(x, { ...whole, layers }, model.config, at);
    logits.push(await own.data<"float32">());
    tf.dispose([x, at.cos, at.sin, at.causal, own]);
  }
  tf.dispose(made);
  return logits;
}

/** The logits of an uncut pass that stand at spots, in order. */
function standingAt(logits: readonly Float32Array[], spots: readonly Spot[]): Float32Array {
  const V = model.config.vocabSize;
  const found = new Float32Array(spots.length * V);
  spots.forEach(({ row, position }, i) => {
    found.set((logits[row] as Float32Array).subarray(position * V, (position + 1) * V), i * V);
  });
  return found;
}

async function batchAt(point: CutPoint): Promise<CutBatch> {
  return batchCuts(model, await runFrozen(model, texts, { point }));
}

async function logitsOf(batch: CutBatch, patch: Patch, spots: readonly Spot[]): Promise<Float32Array> {
  const logits = logitsAt(model, batch, { patch, spots });
  const values = await logits.data<"float32">();
  logits.dispose();
  return values;
}

/** The points of both kinds that a pass can be cut at before a site: the last of each, and the first of all. */
function cutsBefore({ layer, matrix }: Site): CutPoint[] {
  const value = matrix === "down" ? layer : layer - 1;
  return [atInput(0), atInput(layer), ...(value < 0 ? [] : [atValue(value)])];
}

/** Input of a matrix for every row of a batch that is cut at the start of its layer. */
function inputOf(batch: CutBatch, { layer, matrix }: Site): tf.Tensor2D {
  let found: tf.Tensor2D | undefined;
  const look: Change = (x, own) => {
    found = tf.keep(x.clone());
    return own();
  };
  const changes = { [matrix]: [look] };
  layerForward(batch.stream, model.layer(layer), model.config, { at: batch.at, changes }).dispose();
  return found as tf.Tensor2D;
}

describe.each(sites)("a change at layer $layer, $matrix", (site) => {
  /** Logits under a change, from every cut and at all kinds of spots, against a model with the changed matrix. */
  async function expectAsChanged(change: Change, delta: tf.Tensor2D): Promise<void> {
    const changed = await changedModel([{ site, delta }]);
    for (const point of cutsBefore(site)) {
      const batch = await batchAt(point);
      for (const [what, spots] of Object.entries(asked)) {
        const found = await logitsOf(batch, [{ site, change }], spots);
        const where = `${what}, cut at ${cutName(point)}`;
        expect(largestDifference(found, standingAt(changed, spots)), where).toBeLessThan(1e-5);
        if (spots.length > 10) expect(largestDifference(found, standingAt(untouched, spots))).toBeGreaterThan(1e-3);
      }
      batch.dispose();
    }
  }

  test("by a delta is the model with W + delta", () =>
    expectTidy(async () => {
      const delta = random(model.matrix(site).shape, await sizeOf(site));
      await expectAsChanged(deltaChange(delta), delta);
      delta.dispose();
    }));

  test("by a delta of low rank is the model with W + left right^T", () =>
    expectTidy(async () => {
      const [outer, inner] = model.matrix(site).shape;
      const [left, right] = [random([outer, 2], await sizeOf(site)), random([inner, 2], 1, 2)];
      const delta: tf.Tensor2D = tf.matMul(left, right, false, true);
      await expectAsChanged(lowRankChange(left, right), delta);
      tf.dispose([left, right, delta]);
    }));

  test("by another output, given for every row of the batch, is the model whose matrix gives it", () =>
    expectTidy(async () => {
      const delta = random(model.matrix(site).shape, await sizeOf(site));
      const batch = await batchAt(atInput(site.layer));
      const x = inputOf(batch, site);
      const output = tf.tidy(() => linear(x, tf.add(model.matrix(site), delta) as tf.Tensor2D));
      await expectAsChanged(outputChange(output), delta);
      tf.dispose([delta, x, output]);
      batch.dispose();
    }));

  /** Weights that make one number of the logits at the uneven spots. */
  const sum = (patch: Patch, batch: CutBatch, weights: tf.Tensor2D): tf.Scalar => {
    return tf.sum(tf.mul(logitsAt(model, batch, { patch, spots: uneven }), weights));
  };

  /** Holds the gradient of a loss at a point against its slope along a random direction. */
  async function expectSlope(loss: (x: tf.Tensor2D) => tf.Scalar, at: tf.Tensor2D, h: number): Promise<void> {
    const direction = random(at.shape, 1, 5);
    const along = async (step: number) => {
      const value = tf.tidy(() => loss(tf.add(at, tf.mul(direction, step))));
      const [found] = await value.data();
      value.dispose();
      return found as number;
    };
    const slope = ((await along(h)) - (await along(-h))) / (2 * h);
    const gradient = tf.grad((x) => loss(x as tf.Tensor2D))(at);
    const found = tf.tidy(() => tf.stack([tf.sum(tf.mul(gradient, direction)), tf.norm(gradient)]));
    const [claimed, size] = await found.data();
    tf.dispose([direction, gradient, found]);
    expect(size).toBeGreaterThan(0);
    // The slope along a random direction is a normal value of deviation |gradient|.
    expect(Math.abs((claimed as number) - slope), `claimed ${claimed}, seen ${slope}`).toBeLessThan(
      0.02 * (size as number),
    );
  }

  test("has the gradient that finite differences see, in a delta and in what is added to the output", () =>
    expectTidy(async () => {
      const batch = await batchAt(cutBefore([site]));
      const weights = random([uneven.length, model.config.vocabSize], 1 / 30, 3);
      const size = await sizeOf(site);
      const delta = random(model.matrix(site).shape, size, 4);
      await expectSlope((x) => sum([{ site, change: deltaChange(x) }], batch, weights), delta, 0.01 * size);
      const nothing: tf.Tensor2D = tf.zeros([batch.stream.shape[0], delta.shape[0]]);
      const beside = (v: tf.Tensor2D): Patch => [{ site, change: (_x, own, pick) => tf.add(own(), pick(v)) }];
      await expectSlope((v) => sum(beside(v), batch, weights), nothing, 0.01);
      tf.dispose([weights, delta, nothing]);
      batch.dispose();
    }));
});

describe("several changes", () => {
  const spots = asked["every position"] as Spot[];

  test.each(
    LAYERS.flatMap((layer) => [
      { layer, matrix: "v" as const },
      { layer, matrix: "down" as const },
    ]),
  )("at layer $layer, $matrix are made in order, each on top of the ones before", (site) =>
    expectTidy(async () => {
      const size = await sizeOf(site);
      const shape = model.matrix(site).shape;
      const [one, two] = [random(shape, size, 1), random(shape, size, 2)];
      const batch = await batchAt(cutBefore([site]));
      const start = await batchAt(atInput(site.layer));
      const x = inputOf(start, site);
      const output = tf.tidy(() => linear(x, tf.add(model.matrix(site), one) as tf.Tensor2D));
      const both = standingAt(
        await changedModel([
          { site, delta: one },
          { site, delta: two },
        ]),
        spots,
      );
      const first = standingAt(await changedModel([{ site, delta: one }]), spots);
      const under = (...changes: Change[]) =>
        logitsOf(
          batch,
          changes.map((change) => ({ site, change })),
          spots,
        );
      for (const [found, expected] of [
        [await under(deltaChange(one), deltaChange(two)), both],
        [await under(deltaChange(two), deltaChange(one)), both],
        [await under(outputChange(output), deltaChange(two)), both],
        [await under(deltaChange(two), outputChange(output)), first], // another output takes the place of all before it
      ] as const) {
        expect(largestDifference(found, expected)).toBeLessThan(1e-5);
      }
      expect(largestDifference(both, first)).toBeGreaterThan(1e-3);
      tf.dispose([one, two, x, output]);
      batch.dispose();
      start.dispose();
    }),
  );

  test("at unlike sites are the model with all of them changed", () =>
    expectTidy(async () => {
      const chosen: Site[] = [
        { layer: 3, matrix: "k" },
        { layer: 1, matrix: "down" },
        { layer: 2, matrix: "o" },
        { layer: 2, matrix: "gate" },
      ];
      const deltas: { site: Site; delta: tf.Tensor2D }[] = [];
      for (const [i, site] of chosen.entries()) {
        deltas.push({ site, delta: random(model.matrix(site).shape, await sizeOf(site), i) });
      }
      const expected = standingAt(await changedModel(deltas), spots);
      const patch = deltas.map(({ site, delta }) => ({ site, change: deltaChange(delta) }));
      expect(cutBefore(chosen)).toEqual(atValue(1));
      for (const point of [atValue(1), atInput(1), atInput(0)]) {
        const batch = await batchAt(point);
        expect(largestDifference(await logitsOf(batch, patch, spots), expected)).toBeLessThan(1e-5);
        batch.dispose();
      }
      tf.dispose(deltas.map(({ delta }) => delta));
    }));

  test("none at all are the untouched model", async () => {
    const expected = standingAt(untouched, spots);
    const batch = await batchAt(atInput(2));
    expect(largestDifference(await logitsOf(batch, [], spots), expected)).toBeLessThan(1e-5);
    batch.dispose();
  });
});

describe("what a change is handed", () => {
  test.each(
    MATRICES.flatMap((matrix) => [
      { layer: 2, matrix },
      { layer: 3, matrix },
    ]),
  )("at layer $layer, $matrix: its input, and `pick`, which finds the same rows in any tensor", (site) =>
    expectTidy(async () => {
      const batch = await batchAt(atInput(site.layer));
      const inputs = inputOf(batch, site);
      const seen: tf.Tensor[] = [];
      const look: Change = (x, own, pick) => {
        seen.push(tf.keep(x.clone()), tf.keep(tf.clone(pick(inputs))));
        return own();
      };
      await logitsOf(batch, [{ site, change: look }], uneven);
      expect(seen).toHaveLength(2);
      const [x, picked] = (await Promise.all(seen.map((tensor) => tensor.data<"float32">()))) as Float32Array[];
      expect(largestDifference(x as Float32Array, picked as Float32Array)).toBeLessThan(1e-5);
      // Two of four sequences; in the last layer what makes keys and values sees all of their positions, the rest the spots.
      const T = batch.at.length;
      const wide = site.layer < 3 || ["k", "v"].includes(site.matrix);
      expect(seen[0]?.shape[0]).toBe(2 * (wide ? T : 3));
      tf.dispose([...seen, inputs]);
      batch.dispose();
    }),
  );
});

describe("the point before sites", () => {
  const at = (layer: number, matrix: MatrixName): Site => ({ layer, matrix });

  test.each<[string, Site[], CutPoint]>([
    ["a value matrix", [at(2, "down")], atValue(2)],
    ["any other matrix", [at(2, "up")], atInput(2)],
    ["a value matrix and another one of its layer", [at(2, "down"), at(2, "q")], atInput(2)],
    ["a value matrix and others behind it", [at(3, "q"), at(2, "down")], atValue(2)],
    ["matrices of several layers", [at(5, "down"), at(4, "k")], atInput(4)],
  ])("of %s", (_, chosen, point) => {
    expect(cutBefore(chosen)).toEqual(point);
  });

  test("has a name, and a site has one", () => {
    expect([cutName(atValue(29)), cutName(atInput(0))]).toEqual(["layers.29.mlpIn", "layers.0.input"]);
    expect(siteName(at(29, "down"))).toBe("layers.29.down");
  });

  test("a site is read back from its module's name, also as other files spell it", () => {
    for (const matrix of MATRICES) expect(siteOfModule(moduleName(at(3, matrix)))).toEqual(at(3, matrix));
    expect(moduleName(at(11, "gate"))).toBe("model.layers.11.mlp.gate_proj");
    expect(moduleName(at(0, "o"))).toBe("model.layers.0.self_attn.o_proj");
    expect(siteOfModule("model.layers[27].mlp.down_proj.weight")).toEqual(at(27, "down"));
    const none = ["mlp.q_proj", "self_attn.up_proj", "mlp.down_proj.bias", "mlp.down"].map(
      (end) => `model.layers.1.${end}`,
    );
    for (const name of [...none, "model.layers.1", "layers.1.down", "lm_head", ""])
      expect(siteOfModule(name)).toBeNull();
  });
});
