import { expect, it } from "vitest";
import { RefusedInput, show } from "../../src/core/errors.js";
import { parseJson } from "../../src/core/json.js";

const deep = (depth: number): unknown => {
  let value: unknown = "x";
  for (let i = 0; i < depth; i++) value = [value];
  return value;
};
const itself: unknown[] = [];
itself.push(itself);
const odd = Object.assign(Object.create(null) as object, { toString: 1 });
const throwing = {
  toJSON() {
    throw new Error("no");
  },
};

it.each<[string, unknown]>([
  ["lies deep", deep(100_000)],
  ["holds itself", itself],
  ["has no text", odd],
  ["throws", throwing],
  ["is a bigint", 1n],
  ["is a symbol", Symbol("x")],
  ["is a function", () => 1],
])("a refusal is worded whatever was found: a value that %s", (_, found) => {
  const { message } = new RefusedInput("refused", { where: "here", found, expected: "something else" });
  expect(message).toContain("  where: here\n  found: ");
  expect(message.length).toBeLessThan(400);
});

it("what is shown on a terminal cannot act on it", () => {
  expect(show("\u001b]0;title\u0007 \u202e")).toBe("\\u001b]0;title\\u0007 \\u202e");
  expect(show("tab\tand\nline")).toBe("tab\tand\nline");
});

it.each(["1e999", "[0, -1E+400]", `{"a": {"b": ${"9".repeat(400)}}}`])(
  "JSON with a number beyond a double is refused: %s",
  (text) => {
    expect(() => parseJson(text, "file.json")).toThrow(/where: file\.json\n.*\n {2}expected: numbers up to 1\.8e308/);
  },
);

it.each(["1e308", '"1e999"', "[1e-999]"])("JSON with other numbers is read: %s", (text) => {
  expect(parseJson(text, "file.json")).toEqual(JSON.parse(text));
});
