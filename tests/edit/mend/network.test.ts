import { beforeAll, describe, expect, test } from "vitest";
import { createRng } from "../../../src/core/rng.js";
import {
  EDIT_LRS,
  LAYERS,
  type NetworkValues,
  networkShapes,
  type Slot,
  slotsOf,
  tensorsFor,
  updateOf,
} from "../../../src/edit/mend/network.js";
import { noStatistics, observe, type Statistics, statisticsValues } from "../../../src/edit/mend/statistics.js";
import { newNetwork } from "../../../src/edit/mend/training.js";
import { openCheckpoint } from "../../../src/model/folder.js";
import { selectBackend } from "../../../src/tensor/backend.js";
import { tf } from "../../../src/tensor/tf.js";
import { TINY_MODEL } from "../../run/support.js";
import { expectTidy } from "../../support/tensor-matcher.js";
import { largestDifference } from "../support.js";
import { MIXED, mendOptions, someNetwork } from "./support.js";

let slots: Slot[];
beforeAll(async () => {
  await selectBackend();
  const checkpoint = await openCheckpoint(TINY_MODEL);
  await checkpoint.close();
  slots = slotsOf(await mendOptions(MIXED), checkpoint.config);
});

const RANK = 5;
const normal = (seed: number, n: number, width: number) => {
  const rng = createRng(seed);
  return Array.from({ length: n }, () => Array.from({ length: width }, () => rng.normal()));
};

test("matrices of one shape share a network, each with a mode of its own", () => {
  expect(slots.map(({ site, shape, mode }) => [site.layer, site.matrix, shape, mode])).toEqual([
    [3, "q", "(64, 64)", 0],
    [2, "down", "(176, 64)", 0],
    [2, "q", "(64, 64)", 1],
    [3, "k", "(64, 32)", 0],
    [3, "up", "(64, 176)", 0],
    [3, "down", "(176, 64)", 1],
  ]);
  const shapes = networkShapes(slots, RANK);
  expect(shapes.get("(64, 64).layers.1.u")).toEqual([128, RANK]);
  expect(shapes.get("(176, 64).layers.0.scale")).toEqual([2, 240]);
  expect(shapes.get("(64, 32).layers.0.shift")).toEqual([1, 96]);
  expect(shapes.get(EDIT_LRS)).toEqual([6]);
  expect(shapes.size).toBe(1 + 4 * (2 * 5 + 4));
});

/** The factors of an update, number by number (methods-tune.md "MEND"). */
function naiveUpdate(values: NetworkValues, { shape, inner, out, mode, index }: Slot, x: number[], delta: number[]) {
  const of = (part: string) => values[`${shape}.${part}`]?.data as Float32Array;
  const at = (part: string, i: number) => of(part)[i] as number;
  const d = inner + out;
  let h = [
    ...x.map((value, i) => (value - at("u_mean", i)) / (at("u_std", i) + 1e-7)),
    ...delta.map((value, i) => (value - at("v_mean", i)) / (at("v_std", i) + 1e-7)),
  ];
  for (const layer of LAYERS) {
    const low = Array.from({ length: RANK }, (_, r) =>
      h.reduce((sum, value, i) => sum + at(`layers.${layer}.v`, r * d + i) * value, 0),
    );
    h = h.map((value, i) => {
      const z = low.reduce(
        (sum, own, r) => sum + at(`layers.${layer}.u`, i * RANK + r) * own,
        at(`layers.${layer}.bias`, i),
      );
      const moved = z * at(`layers.${layer}.scale`, mode * d + i) + at(`layers.${layer}.shift`, mode * d + i);
      return value + Math.max(0, moved);
    });
  }
  const lr = values[EDIT_LRS]?.data[index] as number;
  return { right: h.slice(0, inner), left: h.slice(inner).map((value) => lr * value) };
}

test.each([0, 1, 2, 3, 4, 5])("the update of matrix %i is that of the formula", async (index) => {
  const slot = slots[index] as Slot;
  const values = someNetwork(slots, RANK, 3);
  const [xs, deltas] = [normal(1, 3, slot.inner), normal(2, 3, slot.out)];
  await expectTidy(async () => {
    const network = tensorsFor(slot, values);
    const factors = { x: tf.tensor2d(xs), delta: tf.tensor2d(deltas) };
    const { left, right } = updateOf(network, slot, factors);
    const naive = xs.map((x, row) => naiveUpdate(values, slot, x, deltas[row] as number[]));
    expect(
      largestDifference(
        await left.data<"float32">(),
        naive.flatMap(({ left }) => left),
      ),
    ).toBeLessThan(1e-5);
    expect(
      largestDifference(
        await right.data<"float32">(),
        naive.flatMap(({ right }) => right),
      ),
    ).toBeLessThan(1e-5);
    tf.dispose([network, factors.x, factors.delta, left, right]);
  });
});

test("a new network is the identity, and a step size", async () => {
  const slot = slots[3] as Slot;
  const trained = newNetwork(slots, { rank: RANK, edit_lr: -0.5 }, createRng(0));
  const ones = (size: number) => tf.ones([size]);
  const normalised = {
    [`${slot.shape}.u_mean`]: tf.zeros([slot.inner]),
    [`${slot.shape}.v_mean`]: tf.zeros([slot.out]),
    [`${slot.shape}.u_std`]: ones(slot.inner),
    [`${slot.shape}.v_std`]: ones(slot.out),
  };
  const [xs, deltas] = [normal(1, 2, slot.inner), normal(2, 2, slot.out)];
  const { left, right } = updateOf({ ...trained, ...normalised }, slot, {
    x: tf.tensor2d(xs),
    delta: tf.tensor2d(deltas),
  });
  expect(largestDifference(await right.data<"float32">(), xs.flat())).toBeLessThan(1e-6);
  expect(
    largestDifference(
      await left.data<"float32">(),
      deltas.flat().map((value) => -0.5 * value),
    ),
  ).toBeLessThan(1e-6);
});

describe("the statistics", () => {
  test("are mean and standard deviation over all rows, however they came", async () => {
    const slot = slots[3] as Slot;
    const statistics = noStatistics(slots).get(slot.shape) as Statistics;
    const [xs, deltas] = [normal(4, 7, slot.inner), normal(5, 7, slot.out)];
    for (const [start, end] of [
      [0, 3],
      [3, 3],
      [3, 4],
      [4, 7],
    ] as const) {
      const x = tf.tensor2d(xs.slice(start, end), [end - start, slot.inner]);
      const delta = tf.tensor2d(deltas.slice(start, end), [end - start, slot.out]);
      await observe(statistics, { x, delta });
      tf.dispose([x, delta]);
    }
    expect(statistics.k).toBe(7);
    const values = statisticsValues(slot.shape, statistics);
    for (const [side, rows] of [
      ["u", xs],
      ["v", deltas],
    ] as const) {
      const columns = (rows[0] as number[]).map((_, i) => rows.map((row) => row[i] as number));
      const means = columns.map((column) => column.reduce((sum, value) => sum + value, 0) / 7);
      const stds = columns.map((column, i) =>
        Math.sqrt(column.reduce((sum, value) => sum + (value - (means[i] as number)) ** 2, 0) / 6),
      );
      expect(largestDifference(values[`${slot.shape}.${side}_mean`]?.data as Float32Array, means)).toBeLessThan(1e-5);
      expect(largestDifference(values[`${slot.shape}.${side}_std`]?.data as Float32Array, stds)).toBeLessThan(1e-5);
    }
  });

  test("of a single row have no deviation, which divides nothing by 0", async () => {
    const slot = slots[3] as Slot;
    const statistics = noStatistics(slots).get(slot.shape) as Statistics;
    const [x, delta] = [tf.ones([1, slot.inner]), tf.ones([1, slot.out])] as [tf.Tensor2D, tf.Tensor2D];
    await observe(statistics, { x, delta });
    tf.dispose([x, delta]);
    expect(new Set(statisticsValues(slot.shape, statistics)[`${slot.shape}.u_std`]?.data)).toEqual(new Set([0]));
  });
});
