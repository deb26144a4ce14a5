import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { EditMethod } from "../../src/edit/contract.js";
import { loadOptions } from "../../src/edit/hparams.js";
import type { OptionSource } from "../../src/edit/option-table.js";
import { textsOnDisk } from "../../src/edit/presets.js";
import { methods } from "../../src/edit/registry.js";
import { refusal } from "../model/support.js";
import { repository } from "../support/shared.js";
import { modelOf } from "./model-of.js";

const {
  alphaedit,
  defer,
  "ft-l": ftL,
  "ft-m": ftM,
  grace,
  lora,
  memit,
  "memit-mass": memitMass,
  rome,
  ultraedit,
} = methods;
const every = Object.values<EditMethod>(methods);

const load = (method: EditMethod, source: OptionSource, layers = 32) =>
  loadOptions(method, source, { model: modelOf(layers), others: every, texts: textsOnDisk });

/** A released file, with the keys and values it has upstream. */
const released = (name: string) => join(repository, `tests/fixtures/hparams/${name}.yaml`);

const MODULES = ["rewrite_module_tmp", "layer_module_tmp", "mlp_module_tmp", "attn_module_tmp"];
const ENDS = ["ln_f_module", "lm_head_module"];
const keys = (ignored: readonly string[]) => ignored.map((line) => line.split(":")[0]);

describe("released files load as they are", () => {
  it("GRACE", async () => {
    const { options, ignored } = await load(grace, { file: released("GRACE/llama-7b") });
    expect(options).toEqual({
      layer: 27,
      edit_lr: 1,
      n_iter: 50,
      eps: 1,
      val_init: "cold",
      replacement: "replace_last",
      eps_expand: "coverage",
      label_match: "target",
      label_order: "own",
      key_at: "prompt_end",
      resolution: 1e-5,
      eps_ratio: 1,
      seed: 0,
    });
    expect(keys(ignored)).toEqual(["model_name", "device", "reg", "num_pert", "dropout"]);
  });

  it.each(["DEFER/llama-7b", "DEFER/mistral-7b"])("%s", async (name) => {
    const { options, ignored } = await load(defer, { file: released(name) });
    expect(options).toEqual({ layer: 27, edit_lr: 7e-5, n_iter: 100, threshold: 0.5, seed: 0 });
    expect(keys(ignored)).toEqual(["model_name", "device"]);
  });

  it.each(["FT/llama-7b", "FT/llama3-8b"])("%s", async (name) => {
    const { options, ignored } = await load(ftL, { file: released(name) });
    expect(options).toEqual({
      layers: [21],
      num_steps: 25,
      lr: 5e-4,
      weight_decay: 0,
      norm_constraint: null,
      bos_in_targets: false,
      seed: 0,
    });
    const last = name === "FT/llama3-8b" ? ["model_parallel"] : [];
    expect(keys(ignored)).toEqual(["model_name", "device", "max_length", ...MODULES, ...ENDS, ...last]);
  });

  it.each(["LoRA/llama-7b", "LoRA/llama3-8b"])("%s", async (name) => {
    const { options, ignored } = await load(lora, { file: released(name) });
    expect(options).toEqual({
      lora_type: "adalora",
      layers: [],
      target_modules: ["q_proj", "v_proj"],
      rank: null,
      init_r: 12,
      lora_alpha: 32,
      lora_dropout: 0.1,
      num_steps: 70,
      lr: 5e-3,
      weight_decay: 0,
      orth_reg_weight: 0.5,
      orth_first_only: false,
      seed: 0,
    });
    const last = name === "LoRA/llama3-8b" ? ["model_parallel"] : [];
    expect(keys(ignored)).toEqual(["model_name", "device", "max_length", ...last, "rank"]);
  });

  it.each(["ROME/llama-7b", "ROME/llama3-8b"])("%s", async (name) => {
    const { options, ignored } = await load(rome, { file: released(name) });
    expect(options).toEqual({
      layers: [5],
      v_num_grad_steps: 25,
      v_lr: 0.5,
      v_weight_decay: 1e-3,
      clamp_norm_factor: 4,
      kl_factor: 0.0625,
      kl_at: "lookup",
      stop: 0.05,
      mom2_adjustment: false,
      mom2_dataset: "wikipedia",
      mom2_n_samples: 100_000,
      stats_dir: "./data/stats",
      context_template_length_params: [
        [5, 10],
        [10, 10],
      ],
      seed: 0,
    });
    const last = name === "ROME/llama3-8b" ? ["model_parallel", "fp16"] : [];
    expect(keys(ignored)).toEqual(["model_name", "device", ...MODULES, ...ENDS, ...last]);
  });

  it.each(
    [memit, memitMass].flatMap((method) => ["MEMIT/llama-7b", "MEMIT/mistral-7b"].map((name) => ({ method, name }))),
  )("$name, of $method.name", async ({ method, name }) => {
    const { options, ignored } = await load(method, { file: released(name) });
    expect(options).toEqual({
      layers: [4, 5, 6, 7, 8],
      key_mean: "grouped",
      v_num_grad_steps: 25,
      v_lr: 0.5,
      v_weight_decay: 1e-3,
      clamp_norm_factor: 4,
      kl_factor: 0.0625,
      kl_at: "lookup",
      stop: 0.05,
      mom2_update_weight: 15_000,
      mom2_dataset: "wikipedia",
      mom2_n_samples: 100_000,
      stats_dir: "./data/stats",
      seed: 0,
    });
    const last = name === "MEMIT/mistral-7b" ? ["model_parallel"] : [];
    expect(keys(ignored)).toEqual([
      ...["model_name", "device", "layer_selection", "mom2_adjustment"],
      ...[...MODULES, ...ENDS, ...last],
    ]);
  });

  it("AlphaEdit", async () => {
    const { options, ignored } = await load(alphaedit, { file: released("AlphaEdit/llama3-8b") });
    expect(options).toEqual({
      layers: [4, 5, 6, 7, 8],
      key_mean: "grouped",
      v_num_grad_steps: 25,
      v_lr: 0.1,
      v_weight_decay: 0.5,
      clamp_norm_factor: 0.75,
      kl_factor: 0.0625,
      kl_at: "lookup",
      stop: 0.05,
      nullspace_threshold: 0.02,
      L2: 10,
      batch_size: 1,
      P_loc: "./null_space_project.pt",
      mom2_dataset: "wikipedia",
      mom2_n_samples: 100_000,
      stats_dir: "./data/stats",
      seed: 0,
    });
    expect(keys(ignored)).toEqual([
      ...["model_name", "device", "layer_selection", "mom2_adjustment", "mom2_update_weight"],
      ...[...MODULES, ...ENDS],
    ]);
  });

  it.each([
    ["ULTRAEDIT/llama3-8b-instruct", [11, 12, 13, 14, 15], [18, 19, 20, 21, 22, 23, 24], []],
    ["ULTRAEDIT/mistral-7b", [], [], [29, 30]],
  ])("%s", async (name, gate, up, down) => {
    const { options, ignored } = await load(ultraedit, { file: released(name) });
    const matrices = Object.entries({ gate, up, down }).flatMap(([matrix, layers]) =>
      layers.map((layer) => `model.layers.${layer}.mlp.${matrix}_proj`),
    );
    expect(options).toEqual({ inner_params: matrices, lr: 1e-6, batch_size: 100, batch_size_once: 10, seed: 0 });
    const model = ["device", "model_name", "model_class", "tokenizer_class", "tokenizer_name"];
    const method = ["dropout", "no_grad_layers", "token", "editor_batch_size", "silent", "half"];
    expect(keys(ignored)).toEqual([...model, ...method, "model_parallel", "results_dir"]);
  });

  it.each([
    ["GRACE/llama-7b", grace, "llama-2-7b"],
    ["FT/llama-7b", ftL, "llama-2-7b"],
    ["FT/llama3-8b", ftL, "llama-3-8b"],
    ["LoRA/llama-7b", lora, "llama-2-7b"],
    ["LoRA/llama3-8b", lora, "llama-3-8b"],
    ["ROME/llama-7b", rome, "llama-2-7b"],
    ["ROME/llama3-8b", rome, "llama-3-8b"],
    ["ULTRAEDIT/llama3-8b-instruct", ultraedit, "llama-3-8b"],
    ["ULTRAEDIT/mistral-7b", ultraedit, "mistral-7b"],
  ])("%s equals the preset of its model", async (name, method, preset) => {
    const { options } = await load(method, { file: released(name) });
    expect((await load(method, { preset })).options).toEqual(options);
  });
});

describe("presets", () => {
  const all = every.flatMap((method) => Object.keys(method.presets).map((preset) => [method, preset] as const));
  it.each(all.map(([method, preset]) => [method.name, preset, method] as const))(
    "%s %s loads, with nothing in it that has no effect",
    async (_, preset, method) => {
      const small = preset === "lab" || preset === "tiny";
      expect((await load(method, { preset }, small ? 4 : 32)).ignored).toEqual([]);
    },
  );

  it.each(every.map((method) => [method.name, method] as const))(
    "of %s are the files of its folder",
    (name, method) => {
      const files = readdirSync(join(repository, "data/hparams", name)).map((file) => file.replace(/\.yaml$/, ""));
      expect(files.sort()).toEqual(Object.keys(method.presets).sort());
    },
  );

  it("say where no file was released", async () => {
    expect(grace.presets["llama-3-8b"]?.ours).toBe(true);
    expect((await load(grace, { preset: "llama-3-8b" })).options.layer).toBe(29);
    expect(rome.presets["llama-3-8b"]?.ours).toBeUndefined();
  });
});

describe("variants", () => {
  it("of GRACE: released has its defects", async () => {
    const { options } = await load(grace, { preset: "tiny", set: ["variant=released", "key_at=prompt_end"] }, 4);
    const defects = { label_match: "mean", label_order: "reversed", resolution: 0 };
    expect(options).toMatchObject({ ...defects, key_at: "prompt_end" });
  });

  it("of FT-L: released targets begin with begin-of-text; FT-M has no such option", async () => {
    const set = ["variant=released"];
    expect((await load(ftL, { preset: "tiny", set }, 4)).options).toMatchObject({ bos_in_targets: true });
    const refused = await refusal(() => load(ftM, { preset: "tiny", set: ["bos_in_targets=true"] }, 4));
    expect(refused.found).toBe("bos_in_targets");
    expect(refused.hint).toContain("FT-L has it: --method ft-l");
    expect((await load(ftM, { preset: "tiny" }, 4)).options).not.toHaveProperty("bos_in_targets");
  });

  it("of LoRA: released, the penalty of adalora is for the first edit; lora has none", async () => {
    const set = ["variant=released"];
    expect((await load(lora, { preset: "lab", set }, 4)).options).toMatchObject({ orth_first_only: true });
    const plain = [...set, "lora_type=lora", "rank=8"];
    const { options, ignored } = await load(lora, { preset: "lab", set: plain }, 4);
    expect(options).toMatchObject({ rank: 8, init_r: null, orth_reg_weight: 0, orth_first_only: false });
    expect(ignored).toEqual([]);
  });

  it("of ROME: paper adjusts by the covariance, unless a file says otherwise", async () => {
    const set = ["variant=paper"];
    const paper = { mom2_adjustment: true, kl_at: "end" };
    expect((await load(rome, { preset: "llama-3-8b", set })).options).toMatchObject(paper);
    const file = released("ROME/llama3-8b");
    expect((await load(rome, { file, set })).options).toMatchObject({ mom2_adjustment: false, kl_at: "end" });
  });

  it("another name is refused with those there are", async () => {
    const refused = await refusal(() => load(grace, { preset: "tiny", set: ["variant=paper"] }, 4));
    expect(refused).toMatchObject({ where: "--set, key variant", found: "paper", expected: "mended or released" });
  });
});

describe("values of one method", () => {
  it.each([
    ["grace", grace, "dist_fn", "cos", "euc"],
    ["grace", grace, "val_train", "pert", "sgd"],
    ["grace", grace, "val_reg", "early", "None"],
    ["grace", grace, "eps_expand", "moving_avg", "one of coverage, moving_average"],
    ["grace", grace, "resolution", "-1", "a number of at least 0"],
    ["grace", grace, "layer", "4", "0 to 3"],
    ["ft-l", ftL, "kl_factor", "0.1", "no divergence term"],
    ["ft-l", ftL, "layers", "[]", "a list of layers"],
    ["ft-l", ftL, "layers", "[2, 2]", "each once"],
    ["ft-l", ftL, "layers", "[1, 4]", "0 to 3"],
    ["ft-l", ftL, "norm_constraint", "0", "a number above 0, or null"],
    ["lora", lora, "lora_type", "dora", "one of lora, adalora"],
    ["lora", lora, "layers", "[1, 4]", "0 to 3"],
    ["lora", lora, "layers", "[1, 1]", "each once"],
    ["lora", lora, "target_modules", "[]", "a list of some of q_proj, k_proj"],
    ["lora", lora, "target_modules", "[q_proj, q_proj]", "each once"],
    ["lora", lora, "target_modules", "[lm_head]", "a list of some of q_proj, k_proj"],
    ["lora", lora, "rank", "0", "a whole number above 0"],
    ["lora", lora, "rank", "null", "a whole number above 0 with lora_type lora"],
    ["lora", lora, "lora_alpha", "0", "a number above 0"],
    ["lora", lora, "lora_dropout", "1", "at least 0, below 1"],
    ["lora", lora, "kl_factor", "0.1", "no divergence term"],
    ["lora", lora, "norm_constraint", "0.1", "move freely"],
    ["rome", rome, "layers", "[1, 2]", "a list of one layer"],
    ["rome", rome, "layers", "[4]", "0 to 3"],
    ["rome", rome, "fact_token", "last", "subject_last"],
    ["rome", rome, "v_loss_layer", "2", "the model's last layer"],
    ["rome", rome, "target_ids", "released", "scoring"],
    ["rome", rome, "mom2_dtype", "float16", "float32"],
    ["rome", rome, "context_template_length_params", "[[5, 7]]", "a multiple of 5"],
    ["rome", rome, "context_template_length_params", "[[5, 5], [10, 10]]", "as many in each"],
    ["rome", rome, "context_template_length_params", "[]", "a list of [tokens, texts]"],
    ["ultraedit", ultraedit, "inner_params", "[]", "a list of matrices"],
    ["ultraedit", ultraedit, "inner_params", "[model.layers.1.mlp.q_proj]", "a list of matrices"],
    ["ultraedit", ultraedit, "inner_params", "[lm_head]", "a list of matrices"],
    ["ultraedit", ultraedit, "inner_params", "model.layers.1.mlp.up_proj", "a list of matrices"],
    [
      "ultraedit",
      ultraedit,
      "inner_params",
      '["model.layers.1.mlp.up_proj", "model.layers[1].mlp.up_proj.weight"]',
      "each once",
    ],
    ["ultraedit", ultraedit, "inner_params", "[model.layers.4.mlp.up_proj]", "0 to 3"],
    ["ultraedit", ultraedit, "lr", "0", "a number above 0"],
    ["ultraedit", ultraedit, "batch_size", "0", "a whole number above 0"],
    ["ultraedit", ultraedit, "batch_size_once", "2.5", "a whole number above 0"],
  ])("%s: %s", async (_, method, key, value, expected) => {
    const refused = await refusal(() => load(method, { preset: "tiny", set: [`${key}=${value}`] }, 4));
    expect(refused.where).toBe(`--set, key ${key}`);
    expect(refused.expected).toContain(expected);
  });

  it("a file with the objective of the other FT is refused with its name", async () => {
    const refused = await refusal(() => load(ftM, { file: released("FT/llama3-8b") }));
    expect(refused).toMatchObject({ found: "prompt_last", hint: "FT-L has it: --method ft-l" });
    const other = await refusal(() => load(ftL, { preset: "tiny", set: ["objective_optimization=target_new"] }, 4));
    expect(other.hint).toBe("FT-M has it: --method ft-m");
  });

  it("adalora without a rank of its own", async () => {
    const refused = await refusal(() => load(lora, { preset: "llama-3-8b", set: ["init_r=null"] }));
    const expected = "a whole number above 0 with lora_type adalora";
    expect(refused).toMatchObject({ where: "--set, key init_r", expected });
  });

  it("a bound written as PyYAML leaves it", async () => {
    const { options } = await load(ftL, { preset: "llama-3-8b", set: ["norm_constraint=5e-5", "kl_factor=0.0"] });
    expect(options.norm_constraint).toBe(5e-5);
  });
});
