import { expect, test } from "vitest";
import { methodNamed, methods, prepareNamed, withUnsaid } from "../../src/edit/registry.js";
import { refusal } from "../model/support.js";
import { modelOf } from "./model-of.js";

test("every method is found under its own name", () => {
  for (const [name, method] of Object.entries(methods)) {
    expect(methodNamed(name)).toBe(method);
    expect(method.name).toBe(name);
  }
});

test("an unknown method is refused with the nearest one", async () => {
  for (const name of ["wsie", "WISE", "toString"]) {
    const error = await refusal(() => methodNamed(name));
    expect(error).toMatchObject({ where: "method", found: name, expected: expect.stringContaining("wise") });
  }
  expect((await refusal(() => methodNamed("WISE"))).hint).toBe("wise");
});

test("a prepared method says what its numbers stand under", async () => {
  const prepared = await prepareNamed("wise", { preset: "tiny", set: ["seed=7"] }, modelOf(4));
  expect(prepared).toMatchObject({
    name: "wise",
    method: methodNamed("wise"),
    cut: { layer: 2, at: "mlpIn" },
    seed: 7,
    style: { chatTemplate: false },
  });
  expect(JSON.parse(JSON.stringify(prepared.options))).toEqual(prepared.options);
  expect(Object.keys(prepared.options).at(-1)).toBe("seed");
});

test("what cannot be prepared is refused with what there is", async () => {
  expect((await refusal(() => prepareNamed("rmoe", { preset: "tiny" }, modelOf(4)))).where).toBe("method");
  expect((await refusal(() => prepareNamed("wise", { preset: "tiny" }, modelOf(2)))).expected).toContain("0 to 1");
});

test("options of files that were written before an option was known have its value of then, and no others are added", () => {
  const { released_label_cut: cut, ...before } = withUnsaid("wise", { layer: 3, act_ratio: 0.5 });
  expect([before, cut]).toEqual([{ layer: 3, act_ratio: 0.5 }, false]);
  expect(withUnsaid("wise", { released_label_cut: true })).toEqual({ released_label_cut: true });
  expect(withUnsaid("mend", { rank: 16 })).toEqual({ rank: 16 }); // those of its training are not recorded
  expect(withUnsaid("of tomorrow", { a: 1 })).toEqual({ a: 1 });
});
