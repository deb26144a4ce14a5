import { readdirSync, readFileSync } from "node:fs";
import { basename, dirname, join, relative, resolve, sep } from "node:path";
import ts from "typescript";
import { describe, expect, it } from "vitest";
import type { EditMethod } from "../../src/edit/contract.js";
import { methods } from "../../src/edit/registry.js";
import { repository } from "../support/shared.js";

/*
 * A method is a folder and one line in the registry: nothing else knows it, by import or by the names of its options
 * and variants. Comments may name them as examples; what runs may not.
 */

/** Parts that compare methods by name, one file or table for each: against golden vectors, and against other programs. */
const BY_NAME = [join("workshop", "parity"), join("workshop", "bench")];

/** Keys of options that are words of their own, each with what it is outside of methods. */
const GENERIC: Readonly<Record<string, string>> = {
  layer: "a layer of the model",
  layers: "the layers of a model",
  weights: "the weights of a model, of records in a mean and of target tokens in a loss",
  eps: "what RMS norms add under the root",
  lr: "the step size of an optimizer",
  rank: "the axes of a tensor, and a place in an order",
  stop: "to end a process or a pass",
  archive: "a zip file",
  threshold: "a level that a router decides at, whatever it is called in its method",
  inner_params: "the key under which released files name the matrices of any method",
  batch_size: "the key under which released files say how many requests any method edits together",
};

/** The same of keys in another spelling, such as camelCase. */
const GENERIC_IN_OTHER_SPELLING: Readonly<Record<string, string>> = {
  double_bos: "a style of prompts, and a field of protocols",
  batch_size: "of a product of matrices",
  num_steps: "wise-lab explore num-steps, which is for every method with a limit of steps",
  weight_decay: "of the optimizer that trains a model",
  in_scope: "prompts that an edit is about",
  out_of_scope: "prompts that no edit is about",
  stats_dir: "a folder of statistics, which are a model's",
};

/** Earlier names of commands that stay. */
const ALIASES: Readonly<Record<string, readonly string[]>> = { [join("cli", "declare", "result.ts")]: ["act-ratio"] };

const every = Object.values<EditMethod>(methods);
/** Measurements of steps and readings, where the name is not one word of English. */
const measured = ["min_act", "in_scope", "out_of_scope"];
const keys = [...new Set([...every.flatMap(({ options }) => Object.keys(options)), ...measured])];

/** Variants of WISE, GRACE and DEFER. */
const VARIANTS = /^(side|merged|memory-.*|codebook|module)$/;

const source = join(repository, "src");
/** Of methods each, or of what several of them share: the registry does not know it, and only they import it. */
const folders = readdirSync(join(source, "edit"), { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => join("edit", name));
const registry = readFileSync(join(source, "edit", "registry.ts"), "utf8");
const isShared = (folder: string) => !registry.includes(`./${basename(folder)}/`);
const files = readdirSync(source, { recursive: true, encoding: "utf8" })
  .filter((file) => file.endsWith(".ts"))
  .map((file) => ({ file, text: readFileSync(join(source, file), "utf8") }));

/** The method's folder that a path inside src lies in; an empty text for none. */
const folderOf = (path: string) => folders.find((folder) => path.startsWith(folder + sep)) ?? "";
/** The list of methods, and that of the ones that a page in a browser can run. */
const REGISTRIES = [join("edit", "registry.ts"), join("page", "methods.ts")];
const isByName = (file: string) => BY_NAME.some((folder) => file.startsWith(folder + sep));

/** Identifiers and texts of a file, comments left out. */
function wordsOf({ file, text }: (typeof files)[number]): { identifiers: Set<string>; texts: Set<string> } {
  const identifiers = new Set<string>();
  const texts = new Set<string>();
  const visit = (node: ts.Node): void => {
    if (ts.isIdentifier(node) || ts.isPrivateIdentifier(node)) identifiers.add(node.text);
    if (ts.isStringLiteralLike(node) || ts.isTemplateHead(node) || ts.isTemplateMiddleOrTemplateTail(node)) {
      texts.add(node.text);
    }
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile(file, text, ts.ScriptTarget.Latest));
  return { identifiers, texts };
}

/** A key of several words in any spelling: merge_freq, mergeFreq, merge-freq, MERGE_FREQ. */
const inAnySpelling = (key: string) => new RegExp(key.replaceAll("_", "[-_]?"), "i");

/** Keys of options that a file holds, each with where: as a word of its own or, where it has several, in any spelling. */
function keysIn(file: (typeof files)[number]): string[] {
  const { identifiers, texts } = wordsOf(file);
  const held = [...identifiers, ...texts, file.file].filter((text) => !ALIASES[file.file]?.includes(text));
  return keys.flatMap((key) => {
    const exact = held.filter((text) => text.match(/\w+/g)?.includes(key));
    if (exact.length > 0) return key in GENERIC ? [] : [`${file.file}: ${key}`];
    if (!key.includes("_") || key in GENERIC_IN_OTHER_SPELLING) return [];
    return held.filter((text) => inAnySpelling(key).test(text)).map((text) => `${file.file}: ${key} as ${text}`);
  });
}

const outside = files.filter(({ file }) => folderOf(file) === "" && !isByName(file));

describe("outside the folder of a method", () => {
  it("there are files enough, and methods", () => {
    expect(outside.length).toBeGreaterThan(100);
    expect(folders).toContain(join("edit", "wise"));
    expect(keys).toEqual(expect.arrayContaining(["act_ratio", "n_iter", "v_lr", "eps_expand", "num_steps", "min_act"]));
  });

  it("no file holds the key of an option", () => {
    expect(outside.flatMap(keysIn)).toEqual([]);
  });

  it("no file holds the name of a variant", () => {
    const named = outside.flatMap((file) =>
      [...wordsOf(file).texts].filter((text) => VARIANTS.test(text)).map((text) => `${file.file}: ${text}`),
    );
    expect(named).toEqual([]);
  });

  it("nothing imports it but the registry, and what compares methods by name", () => {
    const importing = files.flatMap(({ file, text }) =>
      ts
        .preProcessFile(text, true, true)
        .importedFiles.map(({ fileName }) => fileName)
        .filter((target) => target.startsWith("."))
        .map((target) => relative(source, resolve(source, dirname(file), target)))
        .filter((target) => folderOf(target) !== "" && folderOf(target) !== folderOf(file))
        .filter((target) => folderOf(file) === "" || !isShared(folderOf(target)))
        .map((target) => ({ file, target })),
    );
    for (const list of REGISTRIES) expect(importing.some(({ file }) => file === list)).toBe(true);
    const others = importing.filter(({ file }) => !REGISTRIES.includes(file) && !isByName(file));
    expect(others).toEqual([]);
  });
});

describe("the search", () => {
  const found = (text: string, file = join("report", "sample.ts")) => keysIn({ file, text });

  it.each([
    ["a property", "const x = options.act_ratio;"],
    ["a key in quotes", 'const x = options["save_freq"];'],
    ["a text", 'const x = "--set edit_lr=0.5";'],
    ["a template", "const x = `v_lr $" + "{1}`;"],
    ["a name in camelCase", "const maskRatio = 1;"],
    ["a part of a name", "export function exploreActRatio() {}"],
    ["a command", 'const x = "explore act-ratio";'],
  ])("finds %s", (_, text) => {
    expect(found(text)).toHaveLength(1);
  });

  it.each([
    ["a comment", "/** act_ratio */ // merge_freq"],
    ["a word that is not the method's own", "const x = model.layers + weights.length;"],
    ["a part of another word", 'const steps = "replayed";'],
  ])("leaves %s", (_, text) => {
    expect(found(text)).toEqual([]);
  });

  it("knows the alias of a command in its place alone", () => {
    expect(found('const x = "act-ratio";', join("cli", "declare", "result.ts"))).toEqual([]);
    expect(found('const x = "act-ratio";', join("cli", "router.ts"))).toHaveLength(1);
    expect(found("", join("cli", "actRatio.ts"))).toHaveLength(1);
  });
});
