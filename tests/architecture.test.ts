import { readdirSync, readFileSync } from "node:fs";
import { builtinModules } from "node:module";
import { dirname, join, relative, resolve, sep } from "node:path";
import ts from "typescript";
import { describe, expect, it } from "vitest";
import { repository } from "./support/shared.js";

/** From the ground up. A file imports from its own folder and from layers below, never from a sibling or from above. */
const LAYERS = [
  ["core"],
  ["tensor", "torch"],
  ["model", "data"],
  ["stats"],
  ["edit"],
  ["eval"],
  ["run"],
  ["tables"],
  ["figures"],
  ["published"],
  ["verdict"],
  ["explore"],
  ["report"],
  ["notebook"],
  ["doctor"],
  ["workshop"],
  ["index", "cli", "page"],
];

const source = join(repository, "src");
const files = readdirSync(source, { recursive: true, encoding: "utf8" })
  .filter((file) => /\.[cm]?[tj]s$/.test(file))
  .map((file) => ({ file, text: readFileSync(join(source, file), "utf8") }));

/** What runs in a browser: these and all that they import. */
const IN_A_BROWSER = ["page/main.ts", "page/worker.ts"];

/** Files that scripts/page.mjs takes in place of others. */
const IN_PLACE_OF: Readonly<Record<string, string>> = { "tensor/tf.ts": "tensor/tf-in-page.ts" };

/** They have a function of their own called `require`. */
const OWN_REQUIRE = ["edit/state.ts"];

/** Files that a file needs when it runs, by their paths in src, with the packages they import. Types are not needed then. */
function neededBy(entries: readonly string[]): Map<string, string[]> {
  const needed = new Map<string, string[]>();
  for (const open = [...entries]; open.length > 0; ) {
    const file = open.pop() as string;
    if (needed.has(file)) continue;
    const { outputText } = ts.transpileModule(readFileSync(join(source, file), "utf8"), {
      compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ESNext, verbatimModuleSyntax: true },
    });
    const targets = imports(outputText);
    needed.set(
      file,
      targets.filter((target) => !target.startsWith(".")),
    );
    for (const target of targets.filter((name) => name.startsWith("."))) {
      const path = relative(source, resolve(source, dirname(file), target)).replace(/\.js$/, ".ts");
      open.push(IN_PLACE_OF[path] ?? path);
    }
  }
  return needed;
}

/** Part of the project that a path inside src belongs to: its first folder, or a file of its own (index, cli). */
function part(path: string): string {
  return (path.split(sep)[0] as string).replace(/\..*$/, "");
}

function level(name: string): number {
  return LAYERS.findIndex((layer) => layer.includes(name));
}

function imports(text: string): string[] {
  return ts.preProcessFile(text, true, true).importedFiles.map(({ fileName }) => fileName);
}

describe("the source", () => {
  it("has a place in the layers for every part", () => {
    expect(files.length).toBeGreaterThan(20);
    expect(files.map(({ file }) => part(file)).filter((name) => level(name) < 0)).toEqual([]);
  });

  it("imports only downwards", () => {
    const upwards = files.flatMap(({ file, text }) =>
      imports(text)
        .filter((target) => target.startsWith("."))
        .map((target) => relative(source, resolve(source, dirname(file), target)))
        .filter((target) => part(target) !== part(file) && level(part(target)) >= level(part(file)))
        .map((target) => `${file} imports ${target}`),
    );
    expect(upwards).toEqual([]);
  });

  it("keeps the workshop out of the library", () => {
    const reached = new Set(["index.ts"]);
    for (const file of reached) {
      const text = files.find((one) => one.file === file)?.text ?? "";
      for (const target of imports(text).filter((name) => name.startsWith("."))) {
        reached.add(join(dirname(file), target).replace(/\.js$/, ".ts"));
      }
    }
    expect(reached.size).toBeGreaterThan(100);
    expect([...reached].filter((file) => part(file) === "workshop")).toEqual([]);
  });

  it("takes TensorFlow.js from src/tensor alone", () => {
    const direct = files.filter(
      ({ file, text }) => part(file) !== "tensor" && imports(text).some((name) => name.startsWith("@tensorflow/")),
    );
    expect(direct.map(({ file }) => file)).toEqual([]);
  });

  it("reads tensors back asynchronously outside src/tensor", () => {
    const blocking = files.filter(({ file, text }) => part(file) !== "tensor" && /\b(dataSync|arraySync)\b/.test(text));
    expect(blocking.map(({ file }) => file)).toEqual([]);
  });

  it("needs nothing of Node in a browser", () => {
    const needed = neededBy(IN_A_BROWSER);
    expect([...needed.keys()]).toContain("edit/wise/wise.ts");
    const ofNode = [...needed].flatMap(([file, packages]) =>
      packages.filter((name) => builtinModules.includes(name.replace(/^node:/, ""))).map((name) => `${file}: ${name}`),
    );
    expect(ofNode).toEqual([]);
    const globals = [...needed.keys()].filter((file) => {
      const code = ts.transpileModule(readFileSync(join(source, file), "utf8"), {
        compilerOptions: { removeComments: true, target: ts.ScriptTarget.ESNext },
      }).outputText;
      return /(?<![.\w"`])(Buffer|process|require|__dirname)\s*[.(]|import\.meta/.test(code);
    });
    expect(globals.filter((file) => !OWN_REQUIRE.includes(file))).toEqual([]);
  });

  it("has no default exports", () => {
    const defaults = files.filter(({ text }) => /^export (default\b|=|\{[^}]*\bas default\b)/m.test(text));
    expect(defaults.map(({ file }) => file)).toEqual([]);
  });
});
