import { afterAll, beforeAll, expect, test } from "vitest";
import { batchCuts, logitsAt } from "../../src/model/cut.js";
import { runFrozen } from "../../src/model/frozen.js";
import type { LlamaModel } from "../../src/model/model.js";
import { deltaChange, type Patch } from "../../src/model/patch.js";
import { tailAfterValue } from "../../src/model/tail.js";
import { tf } from "../../src/tensor/tf.js";
import { goldenRecords, largestDifference, loadTiny } from "../edit/support.js";
import { atValue } from "../support/points.js";
import { expectTidy } from "../support/tensor-matcher.js";

let model: LlamaModel;
beforeAll(async () => {
  model = await loadTiny();
});
afterAll(() => model.dispose());

const texts = Object.values(goldenRecords.tokens).filter((ids) => ids.length > 3);

test.each([
  ["somewhere within each", (length: number, row: number) => (row * 5) % length],
  ["at their beginnings", () => 0],
  ["at their last tokens", (length: number) => length - 1],
])("tails that begin %s give the logits of the whole pass, at every layer", async (_, begin) => {
  for (let layer = 0; layer < model.config.layers; layer++) {
    const cuts = await runFrozen(model, texts, { point: atValue(layer) });
    await expectTidy(async () => {
      const batch = batchCuts(model, cuts);
      const [D, M] = [model.config.hiddenSize, model.config.intermediateSize];
      const earlier = tf.randomNormal<tf.Rank.R2>([D, M], 0, 0.02, "float32", 5);
      const patch: Patch = [{ site: { layer, matrix: "down" }, change: deltaChange(earlier) }];
      const from = batch.lengths.map(begin);
      const tail = tailAfterValue(model, batch, { from, patch });
      const ends = batch.lengths.flatMap((length, row) => [
        { row, position: from[row] as number },
        { row, position: length - 1 },
      ]);
      const own = ends.map(({ row, position }) => ({ row, position: position - (from[row] as number) }));
      // The tail's stream has the value already.
      const none: Patch = [{ site: { layer, matrix: "down" }, change: (x) => tf.zeros([x.shape[0], D]) }];
      const whole = logitsAt(model, batch, { patch, spots: ends });
      const [first, again] = [1, 2].map(() => logitsAt(model, tail, { patch: none, spots: own, past: tail.past }));
      const values = await Promise.all([whole, first, again].map((logits) => (logits as tf.Tensor).data<"float32">()));
      const [wanted, found, twice] = values as [Float32Array, Float32Array, Float32Array];
      expect(largestDifference(found, wanted)).toBeLessThan(1e-3);
      expect(twice).toEqual(found); // what is kept stays
      tf.dispose([whole, first as tf.Tensor, again as tf.Tensor, earlier]);
      tail.dispose();
      batch.dispose();
    });
  }
});
