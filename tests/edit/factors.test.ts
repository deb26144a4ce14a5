import { afterAll, beforeAll, expect, test } from "vitest";
import { gradientFactors } from "../../src/edit/factors.js";
import { crossEntropy, oneHotTargets, targetsOf } from "../../src/edit/loss.js";
import { batchCuts, logitsAt } from "../../src/model/cut.js";
import { runFrozen } from "../../src/model/frozen.js";
import type { LlamaModel } from "../../src/model/model.js";
import { deltaChange, MATRICES, type Patch, type Site } from "../../src/model/patch.js";
import { tf } from "../../src/tensor/tf.js";
import { atInput } from "../support/points.js";
import { expectTidy } from "../support/tensor-matcher.js";
import { goldenRecords, largestDifference, loadTiny } from "./support.js";

let model: LlamaModel;
beforeAll(async () => {
  model = await loadTiny();
});
afterAll(() => model.dispose());

test("of every matrix of the first and the last layer, the two factors multiply to its gradient", async () => {
  const rows = Object.values(goldenRecords.tokens)
    .filter((ids) => ids.length > 3)
    .slice(0, 3)
    .map((ids) => ({ ids, promptTokens: ids.length - 2 }));
  const cuts = await runFrozen(
    model,
    rows.map(({ ids }) => ids),
    { point: atInput(0) },
  );
  await expectTidy(async () => {
    const batch = batchCuts(model, cuts);
    const { spots, ids, weights } = targetsOf(rows);
    const targets = oneHotTargets(ids, model.config.vocabSize);
    const shares = tf.tensor1d(weights);
    const loss = (patch: Patch) => crossEntropy(logitsAt(model, batch, { patch, spots }), targets, shares);
    const sites: Site[] = [0, model.config.layers - 1].flatMap((layer) =>
      MATRICES.map((matrix) => ({ layer, matrix })),
    );
    const { loss: value, factors } = gradientFactors(sites, loss);
    for (const [i, site] of sites.entries()) {
      const zeros = tf.zerosLike(model.matrix(site));
      const { value: wanted, grad } = tf.valueAndGrad((delta) =>
        loss([{ site, change: deltaChange(delta as tf.Tensor2D) }]),
      )(zeros);
      const { x, delta } = factors[i] as (typeof factors)[number];
      const product = tf.matMul(delta, x, true, false);
      expect(largestDifference(await product.data<"float32">(), await grad.data<"float32">())).toBeLessThan(1e-6);
      expect(largestDifference(await value.data<"float32">(), await wanted.data<"float32">())).toBeLessThan(1e-5);
      tf.dispose([zeros, wanted, grad, x, delta, product]);
    }
    batch.dispose();
    tf.dispose([value, targets, shares]);
  });
});
