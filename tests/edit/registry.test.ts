import { expect, test } from "vitest";
import { methodNamed, methods } from "../../src/edit/registry.js";
import { refusal } from "../model/support.js";

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
  const prepared = await methodNamed("wise").prepare({ preset: "tiny", set: ["seed=7"] }, { layers: 4 });
  expect(prepared).toMatchObject({ name: "wise", layer: 2, seed: 7, style: { chatTemplate: false } });
  expect(JSON.parse(JSON.stringify(prepared.options))).toEqual(prepared.options);
});
