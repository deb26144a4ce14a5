import { batchCuts, type Cut, logitsAt, type Spot } from "../../model/cut.js";
import type { LlamaModel } from "../../model/model.js";
import type { Patch, Site } from "../../model/patch.js";
import { tf } from "../../tensor/tf.js";
import { gradientFactors } from "../factors.js";
import { crossEntropy, oneHotTargets, targetsOf } from "../loss.js";
import type { TokenRow } from "../rows.js";
import type { Pairs } from "./spread.js";

/** A micro-batch, and the changes that it sees. */
export interface MicroBatch {
  model: LlamaModel;
  sites: readonly Site[];
  rows: readonly TokenRow[];
  cuts: readonly Cut[];
  standing: Patch;
}

/**
 * One pass with its gradient: the mean of -log p over all target tokens of a micro-batch, in nats, and for each matrix
 * its inputs and the gradients of its outputs at the positions that predict them, in the order of the rows.
 */
export async function seenBy({
  model,
  sites,
  rows,
  cuts,
  standing,
}: MicroBatch): Promise<{ ce: number; pairs: Pairs[] }> {
  const batch = batchCuts(model, cuts);
  const { spots, ids } = targetsOf(rows);
  const made = {
    targets: oneHotTargets(ids, model.config.vocabSize),
    weights: tf.fill<tf.Rank.R1>([ids.length], 1 / ids.length),
    numbers: tf.range(0, batch.lengths.length * batch.at.length),
  };
  const rowsOf: tf.Tensor1D[] = [];
  const counting: Patch = sites.map((site, i) => ({
    site,
    change: (_x, own, pick) => {
      rowsOf[i] = tf.keep(pick(made.numbers).clone());
      return own();
    },
  }));
  const { loss, factors } = gradientFactors(sites, (looking) => {
    const patch = [...standing, ...looking, ...counting];
    return crossEntropy(logitsAt(model, batch, { patch, spots }), made.targets, made.weights);
  });
  const predicting = spots.map(({ row, position }: Spot) => row * batch.at.length + position);
  try {
    const pairs: Pairs[] = [];
    for (const [i, { x, delta }] of factors.entries()) {
      const rows = [...(await (rowsOf[i] as tf.Tensor1D).data<"float32">())];
      const places = predicting.map((row) => rows.indexOf(row)); // the last layer runs few rows, some of them twice
      const [h, g] = [await rowsAt(x, places), await rowsAt(delta, places)];
      pairs.push({ n: places.length, h, g });
    }
    return { ce: (await loss.data<"float32">())[0] as number, pairs };
  } finally {
    tf.dispose([loss, ...factors.flatMap(({ x, delta }) => [x, delta]), ...rowsOf, ...Object.values(made)]);
    batch.dispose();
  }
}

async function rowsAt(x: tf.Tensor2D, places: number[]): Promise<Float32Array> {
  const picked = tf.tidy(() => tf.gather(x, tf.tensor1d(places, "int32")));
  const values = await picked.data<"float32">();
  picked.dispose();
  return values;
}
