import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it, vi } from "vitest";
import { Interrupted, RefusedInput } from "../../src/core/errors.js";
import { runNotebook } from "../../src/notebook/run.js";
import { codeCells, errorOf, plainText, printed, readCells, scratchFolder, writeCells } from "./support.js";

const folder = scratchFolder();

/** Runs cells in a notebook of its own, in a folder that knows nothing of the package. */
async function run(name: string, sources: string[], options: Parameters<typeof runNotebook>[1] = {}) {
  const path = await writeCells(join(await folder(), name, `${name}.ipynb`), sources, { 0: ["parameters"] });
  const result = await runNotebook(path, options);
  return { ...result, cells: codeCells(result.notebook) };
}

vi.setConfig({ testTimeout: 180_000 }); // kernels start in seconds, on a busy machine in many

describe("a notebook run over the real protocol", () => {
  it("keeps prints, results, displays and counts, the same bytes each time", async () => {
    const sources = [
      'console.log("one"); console.error("two");\n1 + 1',
      'import { display, displayTable } from "wise-lab";\ndisplay({ "text/markdown": "**b**", "text/plain": "b" });\ndisplayTable([{ name: "<a>", value: 1.5 }]);',
      'for (let i = 0; i < 20_000; i++) console.log("line " + i);',
      'process.stdout.write("no newline"); process.stdout.write(Buffer.from("é ☂"));',
    ];
    const first = await run("outputs", sources);
    const bytes = await readFile(first.output, "utf8");
    expect(first.ok).toBe(true);
    expect(first.cells.map((cell) => cell.execution_count)).toEqual([1, 2, 3, 4]);
    expect(first.cells[0]?.outputs).toEqual([
      { output_type: "stream", name: "stdout", text: "one\n" },
      { output_type: "stream", name: "stderr", text: "two\n" },
      { output_type: "execute_result", execution_count: 1, data: { "text/plain": "2" }, metadata: {} },
    ]);
    const [markdown, table] = first.cells[1]?.outputs ?? [];
    expect(markdown).toMatchObject({ output_type: "display_data", data: { "text/markdown": "**b**" } });
    expect(table).toMatchObject({ data: { "text/html": expect.stringContaining(">&lt;a&gt;</td>") } });
    const lines = printed(first.cells[2]).split("\n");
    expect(lines).toEqual([...Array.from({ length: 20_000 }, (_, i) => `line ${i}`), ""]);
    expect(printed(first.cells[3])).toBe("no newlineé ☂");
    expect(bytes).not.toContain(await folder());
    await run("outputs", sources);
    expect(await readFile(first.output, "utf8")).toBe(bytes);
  });

  it("imports the package, danfo, TensorFlow.js and plotly's types from a folder anywhere", async () => {
    const { cells, errors } = await run("imports", [
      'import { displayTable, interruptSignal, progress } from "wise-lab";\nimport * as tf from "@tensorflow/tfjs";\nimport * as dfd from "danfojs-node";\nimport type { Data } from "plotly.js-dist";',
      'const frame = new dfd.DataFrame([{ T: 1, rewrite: 0.5 }]);\nconst trace: Data = { type: "scatter", y: [1] };\nframe',
      'await tf.setBackend("cpu");\ntf.tidy(() => tf.tensor1d([1, 2, 3]).sum()).dataSync()[0]',
      "process.cwd()",
    ]);
    expect(errors).toEqual([]);
    expect(plainText(cells[1])).toBe("T  rewrite\n-  -------\n1    0.500");
    expect(plainText(cells[2])).toBe("6");
    expect(plainText(cells[3])).toBe(`'${join(await folder(), "imports")}'`);
  });

  it("updates progress in place, and shows a figure as plotly data with a picture or says that nothing here can draw", async () => {
    const { cells, errors } = await run("displays", [
      'import { displayFigure, type Figure, progress } from "wise-lab";\nconst p = progress("edits", 4);\nfor (let i = 1; i <= 4; i++) { p.update(i, "record " + i); await new Promise((r) => setTimeout(r, 10)); }\np.finish();',
      'const figure: Figure = { data: [{ type: "scatter", y: [1, 3, 2] }], layout: { title: { text: "Three <b>points</b>" } }, config: {} };\nawait displayFigure(figure);',
    ]);
    expect(errors).toEqual([]);
    expect(cells[0]?.outputs).toHaveLength(1);
    expect(plainText(cells[0])).toBe(`edits  ${"█".repeat(24)} 4/4`);
    const output = cells[1]?.outputs[0];
    const data = output && "data" in output ? output.data : {};
    expect(data["application/vnd.plotly.v1+json"]).toMatchObject({ data: [{ y: [1, 3, 2] }] });
    expect(data["text/plain"]).toMatch(/^Figure: Three points/);
    const metadata = output && "metadata" in output ? output.metadata : {};
    if (data["image/png"]) {
      expect(data["image/png"]).toMatch(/^iVBORw0KGgo[\w+/=]+$/);
      expect(metadata).toEqual({ "image/png": { width: 312, height: 203 } });
    } else expect(data["text/plain"]).toContain("\n");
  });

  it("runs `for await` at top level and takes declarations anew", async () => {
    const { cells, errors } = await run("syntax", [
      "async function* two() { yield 1; yield 2; }\nfor await (const x of two()) console.log(x);",
      'const a = 1;\nenum Kind { A = "a" }\nKind.A',
      'const a: string = "again";\na',
      "let left = 0;\n({ a, copy: { ...{ left } } })",
      "({ left = 5 } = { left: undefined as number | undefined });\n({ left, [a]: a }).left",
    ]);
    expect(errors).toEqual([]);
    expect(printed(cells[0])).toBe("1\n2\n");
    expect(plainText(cells[2])).toBe("'again'");
    expect(plainText(cells[3])).toBe("{ a: 'again', copy: { left: 0 } }");
    expect(plainText(cells[4])).toBe("5");
  });
});

describe("errors in cells", () => {
  it("show name, message and line of the TypeScript, across cells and awaits, and the run ends", async () => {
    const thrower =
      'interface Shape { a: number }\ntype Other = Shape;\n\nfunction check(s: Other): void {\n  if (s.a > 0) throw new RangeError("too large");\n}';
    const { cells, ok, errors } = await run("error", [thrower, "// first\n\ncheck({ a: 1 });", "console.log(1);"]);
    expect(ok).toBe(false);
    expect(errors).toEqual([{ cell: 2, name: "RangeError", message: "too large" }]);
    const text = errorOf(cells[1]).traceback.join("\n");
    expect(text).toContain("in cell 1, line 5, column 22");
    expect(text).toContain('> 5 |   if (s.a > 0) throw new RangeError("too large");');
    expect(text).toContain("at cell 2, line 3:1");
    expect(text).not.toMatch(/node_modules|kernel|evalmachine/);
    expect(cells[2]).toMatchObject({ execution_count: null, outputs: [] });
  });

  it("with allowErrors the next cells run", async () => {
    const { cells, ok, errors } = await run(
      "allowed",
      [
        'await new Promise((r) => setTimeout(r, 5));\nthrow new TypeError("late", { cause: new Error("deep") });',
        "const s: string = 5;",
        "let u = null as string | null;\nu.length",
        'throw "text";',
        '({ get x() { throw new Error("no"); }, [Symbol.for("nodejs.util.inspect.custom")]() { throw new Error("unprintable"); } })',
        '"alive"',
      ],
      { allowErrors: true },
    );
    expect(ok).toBe(true);
    expect(errors.map(({ name }) => name)).toEqual([
      "TypeError",
      "TypeScriptError",
      "TypeScriptError",
      "Thrown",
      "Error",
    ]);
    expect(errorOf(cells[0]).traceback.join("\n")).toMatch(/cell 1, line 2, column 7[\s\S]*caused by Error: deep/);
    expect(errors[1]?.message).toBe("line 1, column 7: Type 'number' is not assignable to type 'string'. (TS2322)");
    expect(errors[2]?.message).toContain("line 2, column 1: 'u' is possibly 'null'.");
    expect(plainText(cells[5])).toBe("'alive'");
  });

  it("a time limit stops a cell, and a dead kernel ends the run; both are saved", async () => {
    const slow = "for (;;) await new Promise((r) => setTimeout(r, 20));";
    const limited = await run("limit", ["1", slow, "2"], { timeoutSeconds: 1 });
    expect(limited.errors).toEqual([{ cell: 2, name: "TimeLimit", message: "the cell ran longer than 1 s" }]);
    const dead = await run("dead", ['console.log("before");', "process.exit(3);", "1"], { allowErrors: true });
    expect(dead.ok).toBe(false);
    expect(dead.errors).toEqual([{ cell: 2, name: "KernelDied", message: "the kernel ended: exit code 3" }]);
    const saved = await readCells(dead.output);
    expect(printed(saved[0])).toBe("before\n");
    expect(errorOf(saved[1]).ename).toBe("KernelDied");
  });

  it("the user's stop interrupts the cell; what ran is saved, cell by cell", async () => {
    const stop = new AbortController();
    const path = await writeCells(join(await folder(), "stop.ipynb"), [
      'console.log("kept");',
      'import { interruptSignal } from "wise-lab";\nconst signal = interruptSignal();\nfor (;;) { signal.throwIfAborted(); await null; }',
    ]);
    const output = join(await folder(), "stopped.ipynb");
    const savedBefore: string[] = [];
    const work = runNotebook(path, {
      output,
      signal: stop.signal,
      onCell: ({ phase, cell }) => {
        if (phase !== "start" || cell !== 2) return;
        setTimeout(async () => {
          savedBefore.push(printed((await readCells(output))[0]));
          stop.abort();
        }, 700);
      },
    });
    await expect(work).rejects.toThrow(Interrupted);
    expect(savedBefore).toEqual(["kept\n"]);
    expect(errorOf((await readCells(output))[1]).ename).toBe("Interrupted");
  });
});

describe("parameters", () => {
  const sources = [
    'const T: number | "all" = 1;\nconst model = "tiny";\nconst seeds = [1, 2];',
    "({ T, model, seeds })",
  ];

  it("go into one cell behind the tagged one, read by their declared type", async () => {
    const { cells } = await run("given", sources, { parameters: { T: "all", model: "7", seeds: "[3]" } });
    expect(cells[1]).toMatchObject({ id: "injected-parameters", metadata: { tags: ["injected-parameters"] } });
    expect(cells[1]?.source).toContain('const T: number | "all" = "all";');
    expect(plainText(cells[2])).toBe("{ T: 'all', model: '7', seeds: [ 3 ] }");
  });

  it("are refused before anything runs", async () => {
    await expect(run("unknown", sources, { parameters: { modle: "x" } })).rejects.toThrow(
      /no such parameter[\s\S]*try: model/,
    );
    await expect(run("mistyped", sources, { parameters: { T: "ten" } })).rejects.toThrow(/expected: number \| "all"/);
  });
});

describe("what is no notebook to run", () => {
  it("is refused", async () => {
    const path = join(await folder(), "python.ipynb");
    const kernelspec = { name: "python3", language: "python" };
    await writeFile(path, JSON.stringify({ nbformat: 4, nbformat_minor: 5, metadata: { kernelspec }, cells: [] }));
    await expect(runNotebook(path)).rejects.toThrow(/another language/);
    await expect(runNotebook(join(await folder(), "absent.ipynb"))).rejects.toThrow(RefusedInput);
  });
});
