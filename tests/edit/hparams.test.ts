import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { RefusedInput } from "../../src/core/errors.js";
import type { EditMethod } from "../../src/edit/contract.js";
import { loadOptions } from "../../src/edit/hparams.js";
import { describeOptions } from "../../src/edit/keys.js";
import type { OptionSource } from "../../src/edit/option-table.js";
import { textsOnDisk } from "../../src/edit/presets.js";
import { methods } from "../../src/edit/registry.js";
import { refusal } from "../model/support.js";
import { golden, repository } from "../support/shared.js";
import { modelOf } from "./model-of.js";

const { wise } = methods;
const { presets } = wise;

/** The options of WISE for a model of so many layers. */
const load = ({ numLayers = 32, ...source }: OptionSource & { numLayers?: number }) =>
  loadOptions(wise, source, {
    model: modelOf(numLayers),
    others: Object.values<EditMethod>(methods),
    texts: textsOnDisk,
  });

const folder = mkdtempSync(join(tmpdir(), "wise-lab-hparams-"));
afterAll(() => rmSync(folder, { recursive: true }));

function yaml(text: string): string {
  const path = join(folder, "hparams.yaml");
  writeFileSync(path, text);
  return path;
}

/** A file as users have it: the released keys, quotes, comments and truth values as PyYAML takes them. */
const released = `alg_name: 'WISE'
model_name: "/models/llama-3-8b-instruct"
device: 0

mask_ratio: 0.2
edit_lr: 9e-1
n_iter: 30
norm_constraint: 1.0
act_margin: [2.0, 20.0, 10.0] # alpha, beta, gamma
act_ratio: 0.5
save_freq: 500
merge_freq: 1000
merge_alg: 'ties'
objective_optimization: 'only_label'
inner_params:
- model.layers[29].mlp.down_proj.weight

# for merge (if merge)
densities: 0.53
weights: 1.0

retrieve: True
replay: no
model_parallel: False
use_chat_template: True
# load_path: "./wise_checkpoint/wise.pt"
`;

const with_ = (key: string, value: string) =>
  yaml(released.replace(new RegExp(`^${key}:.*$`, "m"), `${key}: ${value}`));
const without = (key: string) => yaml(released.replace(new RegExp(`^${key}:.*\n`, "m"), ""));

describe("a released file", () => {
  it("loads as it is, with the released variant", async () => {
    const { options, ignored } = await load({ file: yaml(released), numLayers: 32 });
    expect(options).toEqual({
      layer: 29,
      edit_lr: 0.9,
      n_iter: 30,
      mask_ratio: 0.2,
      act_margin: [2, 20, 10],
      act_ratio: 0.5,
      norm_constraint: 1,
      save_freq: 500,
      merge_freq: 1000,
      merge_alg: "ties",
      densities: 0.53,
      weights: 1,
      retrieve: true,
      replay: false,
      use_chat_template: true,
      double_bos: true,
      distance_act: true,
      label_mean_extra: true,
      released_label_cut: false,
      weight_decay: 1e-5,
      long_sequence_max: true,
      seed: 0,
    });
    expect(ignored.map((line) => line.split(":")[0])).toEqual(["model_name", "device", "model_parallel"]);
  });

  it("equals the preset of its name", async () => {
    const { options } = await load({ file: yaml(released) });
    expect((await load({ preset: "llama-3-8b" })).options).toEqual(options);
  });

  it("may write numbers as PyYAML leaves them: 1e-5, or in quotes", async () => {
    expect((await load({ file: with_("edit_lr", "1e-5") })).options.edit_lr).toBe(1e-5);
    expect((await load({ file: with_("edit_lr", '"1e-5"') })).options.edit_lr).toBe(1e-5);
    expect((await load({ file: with_("n_iter", '"70"') })).options.n_iter).toBe(70);
  });

  it.each([
    "model.layers[27].mlp.down_proj.weight",
    "model.layers.27.mlp.down_proj.weight",
    "model.layers[27].mlp.down_proj",
  ])("may name its layer %s", async (name) => {
    const file = yaml(released.replace("model.layers[29].mlp.down_proj.weight", name));
    expect((await load({ file })).options.layer).toBe(27);
  });

  it("may switch the norm constraint off", async () => {
    expect((await load({ file: with_("norm_constraint", "False") })).options.norm_constraint).toBeNull();
    expect((await load({ file: with_("norm_constraint", "null") })).options.norm_constraint).toBeNull();
  });

  it("says that replay without Retrieve has no effect", async () => {
    const set = ["replay=true", "retrieve=false"];
    const { options, ignored } = await load({ preset: "llama-3-8b", set });
    expect(options.replay).toBe(false);
    expect(ignored).toEqual(["replay: only WISE-Retrieve replays past edits"]);
    expect((await load({ preset: "llama-3-8b", set: ["replay=true"] })).options.replay).toBe(true);
  });
});

describe("variants and single settings", () => {
  it("`paper` sets everything in which the paper differs from its released code", async () => {
    const { options } = await load({ file: yaml(released), set: ["variant=paper"] });
    expect(options).toMatchObject({
      double_bos: false,
      distance_act: false,
      label_mean_extra: false,
      released_label_cut: false,
      weight_decay: 0,
      long_sequence_max: false,
    });
  });

  it("a key named on its own wins over the variant", async () => {
    const { options } = await load({
      preset: "paper-llama-2-7b",
      set: ["distance_act=true", "weight_decay=1e-5"],
    });
    expect(options).toMatchObject({
      distance_act: true,
      label_mean_extra: false,
      released_label_cut: false,
      weight_decay: 1e-5,
    });
  });

  it("a setting wins over the file, the file over the preset", async () => {
    const file = yaml("act_ratio: 0.3\nn_iter: 5\n");
    const { options } = await load({ preset: "llama-2-7b", file, set: ["n_iter=7", "layer=3", "seed=9"] });
    expect(options).toMatchObject({
      act_ratio: 0.3,
      n_iter: 7,
      layer: 3,
      seed: 9,
      edit_lr: 1,
      act_margin: [5, 20, 10],
    });
  });

  it("a list can be set", async () => {
    const { options } = await load({ preset: "tiny", set: ["act_margin=[1, 4, 2]"] });
    expect(options).toMatchObject({ act_margin: [1, 4, 2] });
  });
});

describe("presets", () => {
  it.each(Object.keys(presets))("%s loads, with nothing in it that has no effect", async (preset) => {
    expect((await load({ preset })).ignored).toEqual([]);
  });

  it("are the files of data/hparams/wise", () => {
    const files = readdirSync(join(repository, "data/hparams/wise")).map((name) => name.replace(/\.yaml$/, ""));
    expect(files.sort()).toEqual(Object.keys(presets).sort());
  });

  it("differ by what they are named for", async () => {
    const values = async (preset: string) => (await load({ preset })).options;
    const llama3 = await values("llama-3-8b");
    expect(await values("llama-3-8b-2024-11")).toEqual({ ...llama3, act_ratio: 0.88 });
    const llama2 = await values("llama-2-7b");
    expect(await values("mistral-7b")).toEqual(llama2);
    expect(llama2).toMatchObject({
      layer: 27,
      edit_lr: 1,
      n_iter: 70,
      act_margin: [5, 20, 10],
      act_ratio: 0.88,
      retrieve: true,
      use_chat_template: false,
    });
    expect(await values("paper-llama-2-7b")).toMatchObject({ layer: 27, n_iter: 70, retrieve: false, weight_decay: 0 });
  });

  it("tiny holds the options of the golden edit", async () => {
    const scenario = JSON.parse(readFileSync(join(golden, "wise-one-edit-released.json"), "utf8"));
    const { options } = await load({ preset: "tiny", numLayers: 4 });
    expect(options).toMatchObject({
      layer: scenario.layer,
      edit_lr: scenario.options.lr,
      n_iter: scenario.options.steps,
      act_margin: [scenario.options.alpha, scenario.options.beta, scenario.options.gamma],
      act_ratio: scenario.options.act_ratio,
      densities: scenario.options.density,
      retrieve: scenario.options.retrieve,
      weight_decay: scenario.options.weight_decay,
    });
  });
});

describe("bad values are refused by key, with what is allowed", () => {
  it.each([
    ["act_ratio", "-0.1", "a number of at least 0"],
    ["act_ratio", ".nan", "a number of at least 0"],
    ["act_ratio", "high", "a number of at least 0"],
    ["mask_ratio", "0", "at most 1"],
    ["mask_ratio", "1.5", "at most 1"],
    ["n_iter", "0", "a whole number above 0"],
    ["n_iter", "1.5", "a whole number above 0"],
    ["n_iter", "True", "a whole number above 0"],
    ["edit_lr", "0", "a number above 0"],
    ["edit_lr", ".inf", "a number above 0"],
    ["norm_constraint", "-1.0", "a number above 0, or null"],
    ["act_margin", "[2.0, 20.0]", "[alpha, beta, gamma]"],
    ["act_margin", "2.0", "[alpha, beta, gamma]"],
    ["merge_alg", "tie", "one of ties, linear"],
    ["merge_freq", "750", "a multiple of save_freq, which is 500"],
    ["densities", "null", "merge_alg ties keeps only a share"],
    ["retrieve", "maybe", "true or false"],
    ["objective_optimization", "prompt_last", "only_label"],
    ["alg_name", "ROME", "WISE"],
  ])("%s: %s", async (key, value, expected) => {
    const file = with_(key, value);
    await expect(load({ file })).rejects.toThrow(RefusedInput);
    await expect(load({ file })).rejects.toThrow(`where: ${file}, key ${key}`);
    await expect(load({ file })).rejects.toThrow(expected);
  });

  it.each(["linear", "slerp", "sign"])("but densities may be null for %s", async (algorithm) => {
    const { options } = await load({ file: with_("densities", "null"), set: [`merge_alg=${algorithm}`] });
    expect(options.densities).toBe(1);
  });

  it("a batch of more than one edit", async () => {
    await expect(load({ preset: "tiny", set: ["batch_size=4"] })).rejects.toThrow("one after another");
    expect((await load({ preset: "tiny", set: ["batch_size=1"] })).ignored).toEqual([]);
  });

  it("a layer that the model does not have, and one that is no layer's value matrix", async () => {
    await expect(load({ file: yaml(released), numLayers: 16 })).rejects.toThrow("0 to 15");
    for (const name of ["transformer.h[8].mlp.c_fc.weight", "model.layers[3].mlp.up_proj.weight"]) {
      const file = yaml(released.replace("model.layers[29].mlp.down_proj.weight", name));
      await expect(load({ file })).rejects.toThrow("model.layers[N].mlp.down_proj.weight");
    }
    const two = yaml(released.replace(/^(- model.*)$/m, "$1\n$1"));
    await expect(load({ file: two })).rejects.toThrow("a list of one name");
    await expect(load({ file: yaml(`${released}layer: 3\n`) })).rejects.toThrow("the layer is given twice");
  });
});

describe("what is meant for another method", () => {
  it("an option of one is refused with the method that has it", async () => {
    const refused = await refusal(() => load({ preset: "tiny", set: ["eps=0.5"] }));
    expect(refused.message).toContain("an option of another method");
    expect(refused).toMatchObject({ where: "--set", found: "eps", hint: "GRACE has it: --method grace" });
    expect(refused.expected).toMatch(/^one of alg_name, variant, layer, edit_lr, .*, seed, inner_params, /);
  });

  it("an option of several names each, and keys without effect there count too", async () => {
    const layers = await refusal(() => load({ preset: "tiny", set: ["layers=[5]"] }));
    const having = Object.values<EditMethod>(methods).filter(({ options }) => "layers" in options);
    expect(having.length).toBeGreaterThan(3);
    expect(layers.hint).toBe(having.map(({ title, name }) => `${title} has it: --method ${name}`).join("; "));
    expect((await refusal(() => load({ preset: "tiny", set: ["num_pert=8"] }))).hint).toContain("--method grace");
  });

  it("a whole file is refused by its alg_name, before its keys", async () => {
    const file = join(repository, "tests/fixtures/hparams/ROME/llama3-8b.yaml");
    const refused = await refusal(() => load({ file }));
    expect(refused).toMatchObject({ where: `${file}, key alg_name`, found: "ROME", expected: "WISE" });
    expect(refused.hint).toBe("ROME has it: --method rome");
    expect((await refusal(() => load({ preset: "tiny", set: ["alg_name=SERAC"] }))).hint).toBeUndefined();
  });
});

describe("unknown and missing keys", () => {
  it.each([
    ["act_rato", "act_ratio"],
    ["edit_Ir", "edit_lr"],
    ["inner_param", "inner_params"],
    ["use_chat_templat", "use_chat_template"],
  ])("%s is refused with the nearest name", async (key, near) => {
    await expect(load({ preset: "tiny", set: [`${key}=1`] })).rejects.toThrow(`the nearest is ${near}`);
    await expect(load({ file: yaml(`${released}${key}: 1\n`) })).rejects.toThrow(`the nearest is ${near}`);
  });

  it("names that every object has are no keys", async () => {
    await expect(load({ preset: "tiny", set: ["constructor=1"] })).rejects.toThrow("an unknown hyperparameter");
    await expect(load({ preset: "constructor" })).rejects.toThrow("an unknown preset");
  });

  it("a missing key is refused by name", async () => {
    await expect(load({ file: without("act_ratio") })).rejects.toThrow(/is missing\n.*key act_ratio/);
    await expect(load({ file: without("act_ratio") })).rejects.toThrow("name a preset beside the file");
  });

  it("so are a key given twice, a file that is no mapping, a broken and a missing file", async () => {
    await expect(load({ file: yaml(`${released}n_iter: 3\n`) })).rejects.toThrow("every key once");
    await expect(load({ file: yaml("- a\n") })).rejects.toThrow("holds no keys");
    await expect(load({ file: yaml("") })).rejects.toThrow("holds no keys");
    await expect(load({ file: yaml("a: [1\n") })).rejects.toThrow("is not YAML");
    await expect(load({ file: join(folder, "missing.yaml") })).rejects.toThrow("a file cannot be read");
  });

  it("a setting without a value, an unknown preset, and no source at all", async () => {
    await expect(load({ preset: "tiny", set: ["n_iter"] })).rejects.toThrow("key=value");
    await expect(load({ preset: "tiny", set: ["act_margin=[1, 2"] })).rejects.toThrow(RefusedInput);
    await expect(load({ preset: "llama-3-8B" })).rejects.toThrow("llama-3-8b");
    await expect(load({})).rejects.toThrow("neither a file nor a preset");
  });
});

describe("describeOptions", () => {
  it("names every option once, and says which keys a file must give", async () => {
    const rows = describeOptions(wise);
    const { options } = await load({ preset: "tiny" });
    expect(rows.map(({ key }) => key)).toEqual(Object.keys(options));
    for (const { key, default: fallback } of rows) {
      if (key === "layer") continue; // a released file gives it as inner_params
      const loading = load({ file: without(key) });
      if (fallback === "required") await expect(loading, key).rejects.toThrow(`key ${key}`);
      else expect((await loading).options.n_iter, key).toBe(30);
    }
  });

  it("says what a key is without a value, by variant, and which are read at inference only", () => {
    const row = (key: string) => describeOptions(wise).find((candidate) => candidate.key === key);
    expect(row("n_iter")).toMatchObject({ default: "required", read: "editing" });
    expect(row("act_ratio")).toMatchObject({ read: "inference" });
    expect(row("use_chat_template")).toMatchObject({ default: "false" });
    expect(row("weight_decay")).toMatchObject({ default: "released 1e-5, paper 0" });
    expect(row("seed")).toMatchObject({ default: "0" });
  });

  it.each(["alg_name", "objective_optimization", "variant", "use_chat_template", "batch_size", "seed"])(
    "a file need not give %s",
    async (key) => {
      expect((await load({ file: without(key) })).options.n_iter).toBe(30);
    },
  );
});
