import { expect, test } from "vitest";
import { openCheckpoint } from "../../../src/model/folder.js";
import { DEFAULT_MODEL } from "../../../src/run/inputs.js";
import { recordGflop } from "../../../src/workshop/bench/floor.js";

const { config, close } = await openCheckpoint(DEFAULT_MODEL);
await close();

const row = (tokens: number, answer = 0) => ({ ids: Array<number>(tokens).fill(1), promptTokens: tokens - answer });

/** Operations for one token in the matrices of the lab's model: D 256, M 2048, 4 heads and 2 of keys, of 64 each. */
const ATTENTION = 2 * 256 * (256 + 128 + 128 + 256);
const MATRIX = 2 * 256 * 2048;

test("an edit at the last layer: the frozen part once, and two products of the value matrix a step", () => {
  const none = recordGflop(config, { edit: [row(10)], probes: [] }, { layer: 3, steps: 0 });
  const mixing = 4 * 2 * 256 * 10 ** 2;
  expect(none * 1e9).toBeCloseTo(10 * (4 * ATTENTION + 12 * MATRIX) + mixing, 0);
  const five = recordGflop(config, { edit: [row(10)], probes: [] }, { layer: 3, steps: 5 });
  expect((five - none) * 1e9).toBeCloseTo(5 * 2 * 10 * MATRIX, 0);
});

test("logits are counted where a target is predicted, forward and back", () => {
  const of = (answer: number) => recordGflop(config, { edit: [row(10, answer)], probes: [] }, { layer: 3, steps: 1 });
  expect((of(3) - of(0)) * 1e9).toBeCloseTo(3 * 2 * (2 * 256 * 1024), 0);
});

test("layers behind the cut run in every step, and under both variants of a score", () => {
  const rows = { edit: [row(10)], probes: [row(8, 2)] };
  const at = (layer: number, steps: number) => recordGflop(config, rows, { layer, steps });
  const layer = (n: number) => n * (ATTENTION + 3 * MATRIX) + 2 * 256 * n ** 2;
  expect((at(2, 1) - at(3, 1)) * 1e9).toBeCloseTo((2 - 1) * layer(10) + (2 - 1) * layer(8), 0);
});
