import { describe, expect, it } from "vitest";
import { checkNotebook, notebookText } from "../../src/notebook/nbformat.js";

const code = (fields: object = {}) => ({
  cell_type: "code",
  metadata: {},
  source: ["a\n", "b"],
  execution_count: null,
  outputs: [],
  ...fields,
});
const notebook = (cells: unknown[], fields: object = {}) => ({
  nbformat: 4,
  nbformat_minor: 4,
  metadata: {},
  cells,
  ...fields,
});

describe("a notebook file", () => {
  it("becomes 4.5 with an id for each cell, and is written as Jupyter writes it", () => {
    const png = {
      "image/png": "aGk=",
      "text/plain": ["x\n", "y"],
      "application/vnd.plotly.v1+json": { b: 1, a: ["t"] },
    };
    const output = { output_type: "display_data", data: png, metadata: {} };
    const checked = checkNotebook(
      notebook([code({ outputs: [output] }), { cell_type: "markdown", metadata: {}, source: "# t" }]),
      "n",
    );
    expect(checked.nbformat_minor).toBe(5);
    expect(checked.cells.map(({ id, source }) => [id, source])).toEqual([
      ["cell-1", "a\nb"],
      ["cell-2", "# t"],
    ]);
    const written = JSON.parse(notebookText(checked));
    expect(written.cells[0].source).toEqual(["a\n", "b"]);
    expect(written.cells[0].outputs[0].data).toEqual(png);
    expect(Object.keys(written.cells[0])).toEqual([
      "cell_type",
      "execution_count",
      "id",
      "metadata",
      "outputs",
      "source",
    ]);
    expect(notebookText(checkNotebook(written, "n"))).toBe(notebookText(checked));
  });

  it.each([
    ["another format", { nbformat: 3 }, /nbformat 3/],
    ["no object", "text", /Jupyter notebook, nbformat 4/],
    ["no cells", notebook([], { cells: {} }), /malformed cells/],
    [
      "an unknown cell",
      notebook([{ cell_type: "music", metadata: {}, source: "" }]),
      /cell 1[\s\S]*code, markdown or raw/,
    ],
    ["a source that is a number", notebook([code({ source: 1 })]), /malformed source/],
    ["no outputs", notebook([code({ outputs: undefined })]), /malformed outputs/],
    ["an unknown output", notebook([code({ outputs: [{ output_type: "smell" }] })]), /malformed output_type/],
    ["one id twice", notebook([code({ id: "x" }), code({ id: "x" })]), /an id no other cell has/],
    ["an impossible id", notebook([code({ id: "a b" })]), /1 to 64 letters/],
    ["tags that are no list", notebook([code({ metadata: { tags: "parameters" } })]), /malformed tags/],
  ])("with %s is refused", (_, value, message) => {
    expect(() => checkNotebook(value, "n.ipynb")).toThrow(message);
  });
});
