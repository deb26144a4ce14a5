import { type CutBatch, logitsAt } from "../../model/cut.js";
import type { LlamaModel } from "../../model/model.js";
import type { Patch } from "../../model/patch.js";
import { tf } from "../../tensor/tf.js";
import { type GradientFactors, gradientFactors } from "../factors.js";
import { crossEntropy, oneHotTargets } from "../loss.js";
import { type MendExample, spotsOf } from "./example.js";
import type { Slot } from "./network.js";

/** The tokens of an example as a loss takes them. The caller disposes both, once the gradients are there. */
export function aimOf({ tokens }: MendExample, vocabSize: number): { targets: tf.Tensor2D; weights: tf.Tensor1D } {
  return { targets: oneHotTargets(tokens, vocabSize), weights: tf.fill([tokens.length], 1 / tokens.length) };
}

/**
 * The loss of an edit before it is made, and the factors of its gradient in each matrix, in their order: rows in which
 * the input or the gradient is 0 throughout are left out. The caller disposes all of it.
 * @param standing changes of earlier edits
 */
export async function editGradient(
  model: LlamaModel,
  {
    example,
    batch,
    slots,
    standing,
  }: { example: MendExample; batch: CutBatch; slots: readonly Slot[]; standing: Patch },
): Promise<{ loss: tf.Scalar; factors: GradientFactors[] }> {
  const spots = spotsOf(example.positions, 0);
  const { targets, weights } = aimOf(example, model.config.vocabSize);
  const { loss, factors } = gradientFactors(
    slots.map(({ site }) => site),
    (looking) => crossEntropy(logitsAt(model, batch, { patch: [...standing, ...looking], spots }), targets, weights),
  );
  tf.dispose([targets, weights]);
  const kept: GradientFactors[] = [];
  for (const whole of factors) {
    kept.push(await withoutZeroRows(whole));
    tf.dispose([whole.x, whole.delta]);
  }
  return { loss, factors: kept };
}

/** Factors without the rows that add nothing to their product. */
async function withoutZeroRows({ x, delta }: GradientFactors): Promise<GradientFactors> {
  const marks = tf.tidy(() => {
    const varies = (rows: tf.Tensor2D) => tf.notEqual(tf.max(tf.abs(rows), 1), 0);
    return tf.logicalAnd(varies(x), varies(delta));
  });
  const values = await marks.data<"bool">();
  marks.dispose();
  const rows = [...values.keys()].filter((row) => values[row] !== 0);
  if (rows.length === values.length) return { x: x.clone(), delta: delta.clone() };
  return tf.tidy(() => {
    const index = tf.tensor1d(rows, "int32");
    return { x: tf.gather(x, index), delta: tf.gather(delta, index) };
  });
}
