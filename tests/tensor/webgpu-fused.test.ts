import { beforeAll, describe, expect, it } from "vitest";
import { createRng } from "../../src/core/rng.js";
import { selectBackend } from "../../src/tensor/backend.js";
import type { LayerOps } from "../../src/tensor/layer-ops.js";
import { plain } from "../../src/tensor/layer-plain.js";
import { inWgsl } from "../../src/tensor/layer-wgsl.js";
import { maskedStep, type SgdStep, stepByStep } from "../../src/tensor/masked-step.js";
import { tf } from "../../src/tensor/tf.js";
import type { WebgpuBackend } from "../../src/tensor/webgpu.js";
import { requires } from "../support/requires.js";
import { expectTidy } from "../support/tensor-matcher.js";

const SHAPE: [number, number] = [61, 173];

describe.runIf(requires("webgpu"))("programs of our own on webgpu", () => {
  beforeAll(() => selectBackend("webgpu"), 60_000);

  const normals = (name: string, scale = 1) => {
    const rng = createRng(7, [name]);
    return Float32Array.from({ length: SHAPE[0] * SHAPE[1] }, () => scale * rng.normal());
  };

  /** The bits of what work gives, and the dispatches that it took. */
  async function bitsOf(work: () => tf.Tensor): Promise<{ bits: Int32Array; dispatches: number }> {
    const backend = tf.backend() as unknown as WebgpuBackend;
    const before = backend.dispatches;
    const made = work();
    const dispatches = backend.dispatches - before;
    const values = await made.data<"float32">();
    made.dispose();
    return { bits: new Int32Array(values.slice().buffer), dispatches };
  }

  const steps: [string, Omit<SgdStep, "main">, masked: boolean, dispatches: number][] = [
    ["as WISE takes them", { lr: 0.9, decay: 0, bound: 1 }, true, 4],
    ["with weight decay", { lr: 0.3, decay: 0.01, bound: 0.7 }, true, 7],
    ["without a mask", { lr: 1 / 3, decay: 0.1, bound: 0.3 }, false, 6],
    ["without a bound", { lr: 1e-3, decay: 0.7, bound: null }, true, 6],
    ["of nothing but SGD", { lr: 0.1, decay: 0, bound: null }, false, 2],
  ];
  it.each(steps)("step an edit %s in one dispatch, to the same bits", async (_, step, masked, dispatches) => {
    const [delta, gradient, main] = ["delta", "gradient", "main"].map((name) => tf.tensor2d(normals(name), SHAPE));
    const drawn = normals("mask").map((x) => Number(x > 0.8));
    const mask = masked ? tf.tensor2d(drawn, SHAPE, "bool") : null;
    const given = [delta, gradient, mask, { main, ...step }] as Parameters<typeof maskedStep>;
    const [one, many] = await expectTidy(async () => [
      await bitsOf(() => maskedStep(...given)),
      await bitsOf(() => stepByStep(...given)),
    ]);
    expect(one?.bits).toEqual(many?.bits);
    expect([one?.dispatches, many?.dispatches]).toEqual([1, dispatches]);
    tf.dispose([delta, gradient, main, ...(mask ? [mask] : [])] as tf.Tensor[]);
  });

  it("step over what is no number as TensorFlow.js does", async () => {
    const odd = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, -0, 1e-40, 3e38];
    const values = normals("odd").map((x, i) => odd[i % 13] ?? x);
    const [gradient, zeros] = [tf.tensor2d(values, SHAPE), tf.zeros(SHAPE)];
    const mask = tf.tensor2d(
      normals("mask").map((x) => Number(x > 0)),
      SHAPE,
      "bool",
    );
    const given = [zeros, gradient, mask, { main: zeros, lr: 2, decay: 0.5, bound: 0.9 }] as Parameters<
      typeof maskedStep
    >;
    const [one, many] = [await bitsOf(() => maskedStep(...given)), await bitsOf(() => stepByStep(...given))];
    expect(new Float32Array(one.bits.buffer)).toEqual(new Float32Array(many.bits.buffer));
    tf.dispose([gradient, zeros, mask]);
  });

  const rows = (name: string) => tf.tensor2d(normals(name, 3), SHAPE);
  /** Heads of 2 sequences of 13 positions; tables for each of them, or for both. */
  const heads = () => tf.tensor4d(normals("heads").subarray(0, 2 * 5 * 13 * 16), [2, 5, 13, 16]);
  const table = (name: string, apart: boolean) =>
    tf.tensor(normals(name).subarray(0, (apart ? 2 : 1) * 13 * 16), apart ? [2, 1, 13, 16] : [13, 16]);
  const turned = (ops: LayerOps, direction: 1 | -1, apart: boolean) =>
    tf.tidy(() => ops.turned(heads(), [table("cos", apart), table("sin", apart)], direction));
  /** Gradient of a product that no two entries of weigh alike. */
  const gradient = (work: (x: tf.Tensor2D) => tf.Tensor2D, at: string) =>
    tf.tidy(() => tf.grad((x: tf.Tensor) => tf.sum(tf.mul(work(x as tf.Tensor2D), rows("weights"))))(rows(at)));

  const layers: [string, (ops: LayerOps) => tf.Tensor, ours: number, plainly: number][] = [
    ["rows of length one", (ops) => tf.tidy(() => ops.unitRows(rows("x"), 1e-5)), 3, 5],
    ["back through them", (ops) => gradient((x) => ops.unitRows(x, 1e-5), "x"), 10, 14],
    ["a gate", (ops) => tf.tidy(() => ops.gated(rows("gate"), rows("up"))), 1, 3],
    ["back to a gate", (ops) => gradient((gate) => ops.gated(gate, rows("up")), "gate"), 7, 13],
    ["back to what it lets through", (ops) => gradient((up) => ops.gated(rows("gate"), up), "up"), 7, 13],
    ["turned heads", (ops) => turned(ops, 1, false), 1, 7],
    ["heads turned back", (ops) => turned(ops, -1, true), 1, 7],
  ];
  it.each(layers)("make %s in fewer dispatches, to the same bits", async (_, work, ours, plainly) => {
    const [few, many] = await expectTidy(async () => [
      await bitsOf(() => work(inWgsl)),
      await bitsOf(() => work(plain)),
    ]);
    expect(few?.bits).toEqual(many?.bits);
    expect([few?.dispatches, many?.dispatches]).toEqual([ours, plainly]);
  });
});
