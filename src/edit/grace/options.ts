import { z } from "zod";
import type { EditMethod } from "../contract.js";
import type { FixedKey, OptionTable, Preset } from "../option-table.js";
import { above0, atLeast0, count, layerOption, layersOf, oneOf } from "../option-types.js";

/** Everything GRACE is told. `graceOptions` gives the meaning and source of each. */
export type GraceOptions = {
  /** 0-based layer whose value matrix' output is replaced. */
  layer: number;
  edit_lr: number;
  /** Steps of one edit; none stops earlier. */
  n_iter: number;
  /** Radius of a new key. */
  eps: number;
  val_init: "cold" | "warm";
  replacement: "replace_last" | "replace_all" | "replace_prompt";
  eps_expand: "coverage" | "moving_average";
  label_match: "target" | "mean";
  label_order: "own" | "reversed";
  key_at: "prompt_end" | "last_edit";
  /** Of distances, as a share of the key's length. */
  resolution: number;
  eps_ratio: number;
};

const HPARAMS = "released hparams/GRACE/*.yaml";
const CODE = "released models/grace/GRACE.py";
const OURS = "this project";

/** Sources name files of the released code (zjunlp/EasyEdit) or the authors' own (Hartvigsen et al. 2023). */
export const graceOptions: OptionTable<GraceOptions> = {
  layer: { ...layerOption, meaning: "layer whose value matrix' output is replaced; in files as inner_params" },
  edit_lr: { ...above0, meaning: "step size of Adam on the value", source: HPARAMS },
  n_iter: { ...count, meaning: "steps of one edit; none stops earlier", source: HPARAMS },
  eps: { ...above0, meaning: "radius of a new key", source: HPARAMS },
  val_init: {
    ...oneOf(["cold", "warm"]),
    meaning: "start of a new value: cold: uniform in [0, 1); warm: the model's own output",
    source: HPARAMS,
  },
  replacement: {
    ...oneOf(["replace_last", "replace_all", "replace_prompt"]),
    meaning: "positions where the value stands: the key token, all of them, or those before the key token",
    source: CODE,
  },
  eps_expand: {
    ...oneOf(["coverage", "moving_average"]),
    meaning:
      "an edit with the target of a key that it lies outside of: the radius grows to reach it; moving_average: the key also moves halfway",
    source: CODE,
  },
  label_match: {
    ...oneOf(["target", "mean"]),
    meaning:
      "targets are the same where their tokens are; mean: where the means of their label rows are, each prompt token a -100",
    source: `paper (target); ${CODE} (mean)`,
  },
  label_order: {
    ...oneOf(["own", "reversed"]),
    meaning: "a key has its own label; reversed: new labels are put in front and new keys behind",
    source: `the authors' GRACE (own); ${CODE} (reversed)`,
  },
  key_at: {
    ...oneOf(["prompt_end", "last_edit"]),
    meaning: "key token of a prompt that is read: its own last one; last_edit: where the last edit's prompt ended",
    source: `paper (prompt_end); ${CODE} (last_edit)`,
  },
  resolution: {
    ...atLeast0,
    meaning: "share of a key's length under which a distance is 0; radii get as much slack, ties go to the newest key",
    source: OURS,
  },
  eps_ratio: {
    ...atLeast0,
    default: 1,
    meaning: "a key answers up to eps_ratio times its radius; read at inference only",
    source: OURS,
    read: "inference",
  },
};

/** mended: without the defects of the released code. */
export const graceVariants = {
  mended: { label_match: "target", label_order: "own", key_at: "prompt_end", resolution: 1e-5 },
  released: { label_match: "mean", label_order: "reversed", key_at: "last_edit", resolution: 0 },
} as const satisfies Record<string, Partial<GraceOptions>>;

export const graceFixed: Readonly<Record<string, FixedKey>> = {
  dist_fn: {
    schema: () => z.literal("euc"),
    expected: "euc, the only distance here",
    meaning: "distance between keys",
    source: HPARAMS,
  },
  val_train: {
    schema: () => z.literal("sgd"),
    expected: "sgd: values are trained by gradient steps, without perturbations",
    meaning: "training of a value",
    source: HPARAMS,
  },
  val_reg: {
    schema: () => z.literal(["None", null]), // PyYAML reads None as a text
    expected: "None: values are not regularised",
    meaning: "regularisation of a value",
    source: HPARAMS,
  },
};

export const graceWithoutEffect: Readonly<Record<string, string>> = {
  reg: "the released code does not read it",
  num_pert: "only training with perturbations reads it",
  dropout: "edits are made without dropout",
};

export const gracePresets: Readonly<Record<string, Preset>> = {
  "llama-2-7b": { meaning: "LLaMA-2-7B as released" },
  "llama-3-8b": { meaning: "LLaMA-3-8B: released values of LLaMA-2-7B at layer 29, where WISE edits", ours: true },
  "mistral-7b": { meaning: "Mistral-7B: released values of LLaMA-2-7B", ours: true },
  lab: {
    meaning: "the small LLaMA of the made-up world that comes with the project; chosen on its practice records",
    ours: true,
  },
  tiny: { meaning: "the four-layer golden checkpoint of the tests", ours: true },
};

export const graceCheck: NonNullable<EditMethod<GraceOptions>["check"]> = ({ layer }, model, refuse) => {
  if (layer >= model.layers) refuse("layer", layersOf(model));
};
