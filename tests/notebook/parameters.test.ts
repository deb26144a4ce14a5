import { describe, expect, it } from "vitest";
import { checkNotebook, type Notebook } from "../../src/notebook/nbformat.js";
import { declaredParameters, injectParameters } from "../../src/notebook/parameters.js";

function notebook(source: string, others: object[] = []): Notebook {
  const code = { cell_type: "code", metadata: { tags: ["parameters"] }, source, outputs: [], execution_count: null };
  return checkNotebook({ nbformat: 4, nbformat_minor: 4, metadata: {}, cells: [code, ...others] }, "test.ipynb");
}

const injectedSource = (source: string, values: Record<string, unknown>) =>
  injectParameters(notebook(source), values, "test.ipynb").cells[1]?.source;

describe("declared parameters", () => {
  it("have the type written, or the one their value shows", () => {
    const source = [
      'const a: readonly (number | "all")[] = [1, "all"];',
      "let b = -1, c = true;",
      'const d = ["x", 2];',
      "const e: Record<string, number> = {};",
      "function notAParameter() {}",
    ].join("\n");
    const found = declaredParameters(notebook(source)).map(({ name, type }) => `${name}: ${type}`);
    expect(found).toEqual([
      'a: readonly (number | "all")[]',
      "b: number",
      "c: boolean",
      "d: (string | number)[]",
      "e: Record<string, number>",
    ]);
  });

  it.each([
    ["number", "12", "12"],
    ["number", 12, "12"],
    ["string", "12", '"12"'],
    ["boolean", "true", "true"],
    ["number | null", "null", "null"],
    ['"a" | "b"', "b", '"b"'],
    ["'a' | 'b'", "a", '"a"'],
    ["-1 | 1", "-1", "-1"],
    ["string[]", '["x"]', '["x"]'],
    ["Array<number>", [1], "[1]"],
    ["Record<string, number>", '{"x": 1}', '{"x":1}'],
    ["string", "a\u2028b\u2029", '"a\\u2028b\\u2029"'],
    ["number", "-0", "-0"],
    ["Record<string, number>", '{"__proto__": 1}', 'JSON.parse("{\\"__proto__\\":1}")'],
  ])("of type %s take %j", (type, given, written) => {
    expect(injectedSource(`let p: ${type} = 0 as never;`, { p: given })).toBe(
      `// Parameters of this run\nconst p: ${type} = ${written};`,
    );
  });

  it.each([
    ["number", "1e999"],
    ["number", "9007199254740993"],
    ["number[]", "[1e999]"],
    ["Record<string, number>", '{"x": -1e999}'],
  ])("of type %s refuse %j, which no number is", (type, given) => {
    expect(() => injectedSource(`let p: ${type} = 0 as never;`, { p: given })).toThrow(/cannot be held exactly/);
  });

  it.each([
    ["number", "twelve"],
    ["number", "[1]"],
    ["boolean", "yes"],
    ['"a" | "b"', "c"],
    ["number[]", "[1, null]"],
    ["string", 12],
  ])("of type %s refuse %j", (type, given) => {
    expect(() => injectedSource(`let p: ${type} = 0 as never;`, { p: given })).toThrow(/wrong type/);
  });

  it("replace those of an earlier run and leave none when none are given", () => {
    const once = injectParameters(notebook("const x = 1;"), { x: "2" }, "test.ipynb");
    const twice = injectParameters(once, { x: "3" }, "test.ipynb");
    expect(twice.cells.map(({ source }) => source)).toEqual([
      "const x = 1;",
      "// Parameters of this run\nconst x: number = 3;",
    ]);
    expect(injectParameters(twice, {}, "test.ipynb").cells).toHaveLength(1);
  });

  it("need a tagged cell", () => {
    const plain = checkNotebook({ nbformat: 4, nbformat_minor: 5, metadata: {}, cells: [] }, "test.ipynb");
    expect(() => injectParameters(plain, { x: "1" }, "test.ipynb")).toThrow(/tagged "parameters"/);
  });
});
