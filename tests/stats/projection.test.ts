import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { LlamaModel } from "../../src/model/model.js";
import { openSafetensors } from "../../src/model/safetensors-file.js";
import { openProjection } from "../../src/stats/projection.js";
import { loadTiny } from "../edit/support.js";
import { refusal } from "../model/support.js";
import { goldenMethods } from "../support/shared.js";
import { tensor, torchFile } from "../torch/support.js";
import { GOLDEN_SIZE as m } from "./support.js";

let model: LlamaModel;
/** P of layers 0 to 2 of the golden checkpoint. */
let golden: Float32Array[];
beforeAll(async () => {
  model = await loadTiny();
  const file = await openSafetensors(join(goldenMethods, "locate-stats.safetensors"));
  golden = [];
  for (const layer of [0, 1, 2]) golden.push(await file.read(`layers.${layer}.P`));
  await file.close();
});
afterAll(() => model.dispose());

/** A file as the released code writes it: matrices under each other. */
function projections(matrices: readonly Float32Array[], shape = [matrices.length, m, m]): Promise<string> {
  const values = Float32Array.from(matrices.flatMap((matrix) => [...matrix]));
  const [, rows, columns] = shape as [number, number, number];
  const strides = [rows * columns, columns, 1];
  return torchFile(tensor({ items: values.length, shape, strides }), { 0: Buffer.from(values.buffer) });
}

const place = (layer: number, index = layer) => ({ index, count: 3, layer });

test.each([0, 1, 2])("the projection of layer %i is that of the file", async (layer) => {
  const { project, size } = await openProjection(await projections(golden), model, place(layer));
  expect(size).toBe(m);
  for (const column of [0, 77]) {
    const projected = project(Float64Array.from({ length: m }, (_, i) => +(i === column)));
    for (const [row, value] of projected.entries()) expect(value).toBe(golden[layer]?.[row * m + column]);
  }
});

describe("refused", () => {
  test("matrices of other layers or another size, and files of something else", async () => {
    const path = await projections(golden.slice(0, 2));
    const found = await refusal(() => openProjection(path, model, place(0)));
    expect(found).toMatchObject({ where: path, found: `a tensor [2, ${m}, ${m}]` });
    const small = await projections(
      golden.map((matrix) => matrix.slice(0, 4)),
      [3, 2, 2],
    );
    expect(await refusal(() => openProjection(small, model, place(0)))).toMatchObject({ found: "a tensor [3, 2, 2]" });
    const other = await torchFile("N");
    expect(await refusal(() => openProjection(other, model, place(0)))).toMatchObject({ found: "no tensor" });
  });

  test("what is no projection", async () => {
    const scaled = await projections(golden.map((matrix) => matrix.map((x) => 2 * x)));
    expect((await refusal(() => openProjection(scaled, model, place(1)))).found).toBe("P P is not P");
    const shifted = await projections(
      golden.map((matrix) => matrix.map((_, at) => matrix[(at + 1) % (m * m)] as number)),
    );
    expect((await refusal(() => openProjection(shifted, model, place(1)))).message).toMatch(/not symmetric|not P/);
    const nothing = await projections(golden.map((matrix) => matrix.map(() => 0)));
    expect((await refusal(() => openProjection(nothing, model, place(1)))).found).toBe("a matrix that leaves nothing");
  });

  test("that of another layer, and of a model of the same shape, by the model's own keys", async () => {
    const path = await projections(golden);
    const refused = await refusal(() => openProjection(path, model, place(0, 1)));
    expect(refused.message).toContain("another model or layer");
    expect(refused.found).toMatch(/^\d+ % of the square of keys of tiny-llama3, layer 0, in its null space$/);
  });
});
