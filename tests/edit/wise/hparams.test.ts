import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { RefusedInput } from "../../../src/core/errors.js";
import { describeWiseOptions, loadWiseOptions, presets } from "../../../src/edit/wise/hparams.js";
import { golden, repository } from "../../support/shared.js";

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
    const { options, ignored } = await loadWiseOptions({ file: yaml(released), numLayers: 32 });
    expect(options).toEqual({
      layer: 29,
      lr: 0.9,
      steps: 30,
      maskRatio: 0.2,
      alpha: 2,
      beta: 20,
      gamma: 10,
      actRatio: 0.5,
      normConstraint: 1,
      saveFreq: 500,
      mergeFreq: 1000,
      mergeAlg: "ties",
      density: 0.53,
      mergeWeight: 1,
      retrieve: true,
      replay: false,
      chatTemplate: true,
      doubleBos: true,
      activationOnDistance: true,
      lossDividesByTargetsPlusOne: true,
      weightDecay: 1e-5,
      longSequenceMax: true,
      seed: 0,
    });
    expect(ignored.map((line) => line.split(":")[0])).toEqual(["model_name", "device", "model_parallel"]);
  });

  it("equals the preset of its name", async () => {
    const { options } = await loadWiseOptions({ file: yaml(released) });
    expect((await loadWiseOptions({ preset: "llama-3-8b" })).options).toEqual(options);
  });

  it("may write numbers as PyYAML leaves them: 1e-5, or in quotes", async () => {
    expect((await loadWiseOptions({ file: with_("edit_lr", "1e-5") })).options.lr).toBe(1e-5);
    expect((await loadWiseOptions({ file: with_("edit_lr", '"1e-5"') })).options.lr).toBe(1e-5);
    expect((await loadWiseOptions({ file: with_("n_iter", '"70"') })).options.steps).toBe(70);
  });

  it.each([
    "model.layers[27].mlp.down_proj.weight",
    "model.layers.27.mlp.down_proj.weight",
    "model.layers[27].mlp.down_proj",
  ])("may name its layer %s", async (name) => {
    const file = yaml(released.replace("model.layers[29].mlp.down_proj.weight", name));
    expect((await loadWiseOptions({ file })).options.layer).toBe(27);
  });

  it("may switch the norm constraint off", async () => {
    expect((await loadWiseOptions({ file: with_("norm_constraint", "False") })).options.normConstraint).toBeNull();
    expect((await loadWiseOptions({ file: with_("norm_constraint", "null") })).options.normConstraint).toBeNull();
  });

  it("says that replay without Retrieve has no effect", async () => {
    const set = ["replay=true", "retrieve=false"];
    const { options, ignored } = await loadWiseOptions({ preset: "llama-3-8b", set });
    expect(options.replay).toBe(false);
    expect(ignored).toEqual(["replay: only WISE-Retrieve replays past edits"]);
    expect((await loadWiseOptions({ preset: "llama-3-8b", set: ["replay=true"] })).options.replay).toBe(true);
  });
});

describe("variants and single settings", () => {
  it("`paper` sets everything in which the paper differs from its released code", async () => {
    const { options } = await loadWiseOptions({ file: yaml(released), set: ["variant=paper"] });
    expect(options).toMatchObject({
      doubleBos: false,
      activationOnDistance: false,
      lossDividesByTargetsPlusOne: false,
      weightDecay: 0,
      longSequenceMax: false,
    });
  });

  it("a key named on its own wins over the variant", async () => {
    const { options } = await loadWiseOptions({
      preset: "paper-llama-2-7b",
      set: ["distance_act=true", "weight_decay=1e-5"],
    });
    expect(options).toMatchObject({
      activationOnDistance: true,
      lossDividesByTargetsPlusOne: false,
      weightDecay: 1e-5,
    });
  });

  it("a setting wins over the file, the file over the preset", async () => {
    const file = yaml("act_ratio: 0.3\nn_iter: 5\n");
    const { options } = await loadWiseOptions({ preset: "llama-2-7b", file, set: ["n_iter=7", "layer=3", "seed=9"] });
    expect(options).toMatchObject({ actRatio: 0.3, steps: 7, layer: 3, seed: 9, lr: 1, alpha: 5 });
  });

  it("a list can be set", async () => {
    const { options } = await loadWiseOptions({ preset: "tiny", set: ["act_margin=[1, 4, 2]"] });
    expect(options).toMatchObject({ alpha: 1, beta: 4, gamma: 2 });
  });
});

describe("presets", () => {
  it.each(Object.keys(presets))("%s loads, with nothing in it that has no effect", async (preset) => {
    expect((await loadWiseOptions({ preset })).ignored).toEqual([]);
  });

  it("are the files of data/hparams", () => {
    const files = readdirSync(join(repository, "data/hparams")).map((name) => name.replace(/\.yaml$/, ""));
    expect(files.sort()).toEqual(Object.keys(presets).sort());
  });

  it("differ by what they are named for", async () => {
    const load = async (preset: string) => (await loadWiseOptions({ preset })).options;
    const llama3 = await load("llama-3-8b");
    expect(await load("llama-3-8b-2024-11")).toEqual({ ...llama3, actRatio: 0.88 });
    const llama2 = await load("llama-2-7b");
    expect(await load("mistral-7b")).toEqual(llama2);
    expect(llama2).toMatchObject({
      layer: 27,
      lr: 1,
      steps: 70,
      alpha: 5,
      actRatio: 0.88,
      retrieve: true,
      chatTemplate: false,
    });
    expect(await load("paper-llama-2-7b")).toMatchObject({ layer: 27, steps: 70, retrieve: false, weightDecay: 0 });
  });

  it("tiny holds the options of the golden edit", async () => {
    const scenario = JSON.parse(readFileSync(join(golden, "wise-one-edit-released.json"), "utf8"));
    const { options } = await loadWiseOptions({ preset: "tiny", numLayers: 4 });
    expect(options).toMatchObject({
      layer: scenario.layer,
      lr: scenario.options.lr,
      steps: scenario.options.steps,
      alpha: scenario.options.alpha,
      beta: scenario.options.beta,
      gamma: scenario.options.gamma,
      actRatio: scenario.options.act_ratio,
      density: scenario.options.density,
      retrieve: scenario.options.retrieve,
      weightDecay: scenario.options.weight_decay,
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
    await expect(loadWiseOptions({ file })).rejects.toThrow(RefusedInput);
    await expect(loadWiseOptions({ file })).rejects.toThrow(`where: ${file}, key ${key}`);
    await expect(loadWiseOptions({ file })).rejects.toThrow(expected);
  });

  it.each(["linear", "slerp", "sign"])("but densities may be null for %s", async (algorithm) => {
    const { options } = await loadWiseOptions({ file: with_("densities", "null"), set: [`merge_alg=${algorithm}`] });
    expect(options.density).toBe(1);
  });

  it("a batch of more than one edit", async () => {
    await expect(loadWiseOptions({ preset: "tiny", set: ["batch_size=4"] })).rejects.toThrow("one after another");
    expect((await loadWiseOptions({ preset: "tiny", set: ["batch_size=1"] })).ignored).toEqual([]);
  });

  it("a layer that the model does not have, and one that is no layer's value matrix", async () => {
    await expect(loadWiseOptions({ file: yaml(released), numLayers: 16 })).rejects.toThrow("0 to 15");
    for (const name of ["transformer.h[8].mlp.c_fc.weight", "model.layers[3].mlp.up_proj.weight"]) {
      const file = yaml(released.replace("model.layers[29].mlp.down_proj.weight", name));
      await expect(loadWiseOptions({ file })).rejects.toThrow("model.layers[N].mlp.down_proj.weight");
    }
    const two = yaml(released.replace(/^(- model.*)$/m, "$1\n$1"));
    await expect(loadWiseOptions({ file: two })).rejects.toThrow("a list of one name");
    await expect(loadWiseOptions({ file: yaml(`${released}layer: 3\n`) })).rejects.toThrow("the layer is given twice");
  });
});

describe("unknown and missing keys", () => {
  it.each([
    ["act_rato", "act_ratio"],
    ["edit_Ir", "edit_lr"],
    ["inner_param", "inner_params"],
    ["use_chat_templat", "use_chat_template"],
  ])("%s is refused with the nearest name", async (key, near) => {
    await expect(loadWiseOptions({ preset: "tiny", set: [`${key}=1`] })).rejects.toThrow(`the nearest is ${near}`);
    await expect(loadWiseOptions({ file: yaml(`${released}${key}: 1\n`) })).rejects.toThrow(`the nearest is ${near}`);
  });

  it("names that every object has are no keys", async () => {
    await expect(loadWiseOptions({ preset: "tiny", set: ["constructor=1"] })).rejects.toThrow(
      "an unknown hyperparameter",
    );
    await expect(loadWiseOptions({ preset: "constructor" })).rejects.toThrow("an unknown preset");
  });

  it("a missing key is refused by name", async () => {
    await expect(loadWiseOptions({ file: without("act_ratio") })).rejects.toThrow(/is missing\n.*key act_ratio/);
  });

  it("so are a key given twice, a file that is no mapping, a broken and a missing file", async () => {
    await expect(loadWiseOptions({ file: yaml(`${released}n_iter: 3\n`) })).rejects.toThrow("every key once");
    await expect(loadWiseOptions({ file: yaml("- a\n") })).rejects.toThrow("holds no keys");
    await expect(loadWiseOptions({ file: yaml("") })).rejects.toThrow("holds no keys");
    await expect(loadWiseOptions({ file: yaml("a: [1\n") })).rejects.toThrow("is not YAML");
    await expect(loadWiseOptions({ file: join(folder, "missing.yaml") })).rejects.toThrow("a file cannot be read");
  });

  it("a setting without a value, an unknown preset, and no source at all", async () => {
    await expect(loadWiseOptions({ preset: "tiny", set: ["n_iter"] })).rejects.toThrow("key=value");
    await expect(loadWiseOptions({ preset: "tiny", set: ["act_margin=[1, 2"] })).rejects.toThrow(RefusedInput);
    await expect(loadWiseOptions({ preset: "llama-3-8B" })).rejects.toThrow("llama-3-8b");
    await expect(loadWiseOptions({})).rejects.toThrow("neither a file nor a preset");
  });
});

describe("describeWiseOptions", () => {
  it("names every option once, and says which keys a file must give", async () => {
    const rows = describeWiseOptions();
    const { options } = await loadWiseOptions({ preset: "tiny" });
    const named = rows.flatMap(({ option }) => (option === "" ? [] : option.split(", ")));
    expect(named.sort()).toEqual(Object.keys(options).sort());
    for (const { key, fallback } of rows) {
      if (key === "layer") continue; // a released file gives it as inner_params
      const loading = loadWiseOptions({ file: without(key) });
      if (fallback === "required") await expect(loading, key).rejects.toThrow(`key ${key}`);
      else expect((await loading).options.steps, key).toBe(30);
    }
  });
});
