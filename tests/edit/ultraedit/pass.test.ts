import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { crossEntropy, oneHotTargets, targetsOf } from "../../../src/edit/loss.js";
import { forcedRow, sequencesOfRows, type TokenRow } from "../../../src/edit/rows.js";
import { seenBy } from "../../../src/edit/ultraedit/pass.js";
import { batchCuts, logitsAt } from "../../../src/model/cut.js";
import { runFrozen } from "../../../src/model/frozen.js";
import type { LlamaModel } from "../../../src/model/model.js";
import { deltaChange, MATRICES, type Patch, type Site, siteName } from "../../../src/model/patch.js";
import { tf } from "../../../src/tensor/tf.js";
import { atInput } from "../../support/points.js";
import { expectTidy } from "../../support/tensor-matcher.js";
import { fact, largestDifference, loadTiny } from "../support.js";
import { normal } from "./support.js";

let model: LlamaModel;
let rows: TokenRow[];
beforeAll(async () => {
  model = await loadTiny();
  rows = [1, 2, 0].map((i) => forcedRow(fact(i), model.tokenizer));
});
afterAll(() => model.dispose());

const cutsOf = (of: readonly TokenRow[]) => runFrozen(model, sequencesOfRows(of), { point: atInput(0) });
const targetsIn = (of: readonly TokenRow[]) => targetsOf(of).ids.length;
const last = () => model.config.layers - 1;
const everyMatrix = (layer: number): Site[] => MATRICES.map((matrix) => ({ layer, matrix }));

async function seenOf(of: readonly TokenRow[], sites: readonly Site[], standing: Patch = []) {
  return seenBy({ model, sites, rows: of, cuts: await cutsOf(of), standing });
}

/** A change of a matrix that already stands. The caller disposes it. */
function standingAt(site: Site): { patch: Patch; delta: tf.Tensor2D } {
  const [out, inner] = model.matrix(site).shape;
  const delta = tf.tensor2d(normal(8, out * inner, 0.02), [out, inner]);
  return { patch: [{ site, change: deltaChange(delta) }], delta };
}

test("rows of several lengths together see what each sees alone, the gradient by its share of the target tokens", async () => {
  expect(new Set(rows.map(({ ids }) => ids.length)).size).toBe(3);
  const sites = [...everyMatrix(0), ...everyMatrix(last())];
  const together = await expectTidy(() => seenOf(rows, sites));
  const n = targetsIn(rows);
  let at = 0;
  let ce = 0;
  for (const row of rows) {
    const alone = await seenOf([row], sites);
    const own = targetsIn([row]);
    for (const [i, { n: found, h, g }] of together.pairs.entries()) {
      const single = alone.pairs[i] as (typeof together.pairs)[number];
      expect([found, single.n]).toEqual([n, own]);
      const [inner, out] = [h.length / n, g.length / n];
      const name = siteName(sites[i] as Site);
      expect(largestDifference(h.slice(at * inner, (at + own) * inner), single.h), name).toBeLessThan(1e-4);
      const scaled = single.g.map((x) => (x * own) / n);
      expect(largestDifference(g.slice(at * out, (at + own) * out), scaled), name).toBeLessThan(1e-3);
    }
    ce += (alone.ce * own) / n;
    at += own;
  }
  expect(together.ce).toBeCloseTo(ce, 5);
});

describe("the gradients of a matrix' outputs at the positions that predict the targets", () => {
  const sizes = [1e-2, 3e-2];

  /** Loss when the outputs of a matrix are moved along `direction` at those positions. */
  async function lossMoved(site: Site, direction: Float32Array, { size, standing }: { size: number; standing: Patch }) {
    const batch = batchCuts(model, await cutsOf(rows));
    const { spots, ids } = targetsOf(rows);
    const loss = tf.tidy(() => {
      const out = direction.length / spots.length;
      const N = batch.at.length * rows.length;
      const bump = new Float32Array(N * out);
      for (const [t, { row, position }] of spots.entries()) {
        const place = (row * batch.at.length + position) * out;
        for (let j = 0; j < out; j++) bump[place + j] = size * (direction[t * out + j] as number);
      }
      const moved = tf.tensor2d(bump, [N, out]);
      const patch: Patch = [...standing, { site, change: (_x, own, pick) => tf.add(own(), pick(moved)) }];
      const weights = tf.fill<tf.Rank.R1>([ids.length], 1 / ids.length);
      return crossEntropy(
        logitsAt(model, batch, { patch, spots }),
        oneHotTargets(ids, model.config.vocabSize),
        weights,
      );
    });
    const value = (await loss.data<"float32">())[0] as number;
    loss.dispose();
    batch.dispose();
    return value;
  }

  test.each([
    ["q", 0],
    ["v", 1],
    ["gate", 0],
    ["up", 2],
    ["down", 1],
    ["q", 3],
    ["v", 3],
    ["o", 3],
    ["gate", 3],
    ["down", 3],
  ] as const)("%s of layer %i: finite differences, on a change that stands", async (matrix, layer) => {
    const site: Site = { layer, matrix };
    const { patch: standing, delta } = standingAt({ layer: 1, matrix: "up" });
    const { pairs, ce } = await seenOf(rows, [site], standing);
    const [{ g }] = pairs as [(typeof pairs)[number]];
    const length = Math.hypot(...g);
    const direction = g.map((x) => x / length); // the loss changes most along its gradient
    const slopes: number[] = [];
    for (const size of sizes) {
      const up = await lossMoved(site, direction, { size, standing });
      const down = await lossMoved(site, direction, { size: -size, standing });
      slopes.push((up - down) / (2 * size));
    }
    const still = await lossMoved(site, direction, { size: 0, standing });
    expect(still).toBeCloseTo(ce, 4);
    for (const slope of slopes) expect(Math.abs(slope - length) / length).toBeLessThan(0.03);
    delta.dispose();
  });
});

test("in the last layer, where no other position counts, they multiply with the inputs to the gradient of the matrix", async () => {
  for (const matrix of ["q", "o", "gate", "up", "down"] as const) {
    const site: Site = { layer: last(), matrix };
    const { pairs } = await seenOf(rows, [site]);
    const [{ n, h, g }] = pairs as [(typeof pairs)[number]];
    const batch = batchCuts(model, await cutsOf(rows));
    const { spots, ids } = targetsOf(rows);
    const gradients = tf.tidy(() => {
      const targets = oneHotTargets(ids, model.config.vocabSize);
      const weights = tf.fill<tf.Rank.R1>([n], 1 / n);
      const wanted = tf.grad((delta) => {
        const patch: Patch = [{ site, change: deltaChange(delta as tf.Tensor2D) }];
        return crossEntropy(logitsAt(model, batch, { patch, spots }), targets, weights);
      })(tf.zerosLike(model.matrix(site)));
      const product = tf.matMul(tf.tensor2d(g, [n, g.length / n]), tf.tensor2d(h, [n, h.length / n]), true, false);
      return [product, wanted] as tf.Tensor[];
    });
    const [found, wanted] = await Promise.all(gradients.map((tensor) => tensor.data<"float32">()));
    expect(largestDifference(found as Float32Array, wanted as Float32Array), matrix).toBeLessThan(1e-5);
    tf.dispose(gradients);
    batch.dispose();
  }
});
