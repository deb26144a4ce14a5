import { z } from "zod";
import type { Site } from "../../model/patch.js";
import type { EditMethod } from "../contract.js";
import type { FixedKey, OptionTable, Preset } from "../option-table.js";
import {
  above0,
  atLeast0,
  count,
  flag,
  layersOf,
  matrices,
  numeric,
  oneOf,
  sitesOfMatrices,
  text,
} from "../option-types.js";

/** Everything MEND is told. `mendOptions` gives the meaning and source of each. */
export type MendOptions = {
  /** Names of the edited matrices, e.g. "model.layers.29.mlp.up_proj". */
  inner_params: readonly string[];
  /** File of the trained network. */
  archive: string;
  rank: number;
  bos_in_targets: boolean;
  edit_lr: number;
  lr: number;
  cedit: number;
  cloc: number;
  outer: "prompt" | "rephrase";
  accumulate_bs: number;
  grad_clip: number;
  max_iters: number;
};

const HPARAMS = "released hparams/MEND/*.yaml";
const TRAINING = "released hparams/TRAINING/MEND/*.yaml";
const CODE = "released models/mend/algs/mend.py";

/** Options of the training alone: the sha256 of the network that came of it is recorded in their place. */
const ofTraining = { recorded: false } as const;

/** Sources name files of the released code (zjunlp/EasyEdit); the paper is Mitchell et al. 2022. */
export const mendOptions: OptionTable<MendOptions> = {
  inner_params: {
    ...matrices,
    meaning: "matrices that are edited, in the order that the network was trained in",
    source: HPARAMS,
  },
  archive: {
    ...text,
    meaning:
      "file of the trained network, an archive of the released code or one of wise-lab train-mend; its sha256 is recorded in its place",
    source: HPARAMS,
    recorded: false,
  },
  rank: { ...count, meaning: "inner width of the network's layers", source: HPARAMS },
  bos_in_targets: {
    ...flag,
    meaning: "the target tokens begin with begin-of-text, as the released code tokenizes them by themselves",
    source: CODE,
  },
  edit_lr: {
    schema: numeric(z.number().refine((lr) => lr !== 0)),
    expected: "a number other than 0",
    default: 1e-4,
    meaning: "training: size of an update at the start, which is added; below 0 it goes down the gradient at once",
    source: TRAINING,
    ...ofTraining,
  },
  lr: { ...above0, default: 1e-6, meaning: "training: step size of Adam", source: TRAINING, ...ofTraining },
  cedit: { ...atLeast0, default: 0.1, meaning: "training: weight of the edit's loss", source: TRAINING, ...ofTraining },
  cloc: {
    ...atLeast0,
    default: 1,
    meaning: "training: weight of the divergence at the unrelated question",
    source: TRAINING,
    ...ofTraining,
  },
  outer: {
    ...oneOf(["prompt", "rephrase"]),
    meaning: "training: question that must be answered with the target after the edit",
    source: `paper (rephrase); ${CODE} (prompt)`,
    ...ofTraining,
  },
  accumulate_bs: {
    ...count,
    default: 10,
    meaning: "training: examples whose mean gradient makes a step",
    source: TRAINING,
    ...ofTraining,
  },
  grad_clip: {
    ...above0,
    default: 100,
    meaning: "training: largest norm of a gradient",
    source: TRAINING,
    ...ofTraining,
  },
  max_iters: { ...count, default: 100_000, meaning: "training: examples in all", source: TRAINING, ...ofTraining },
};

/** mended: targets as scoring reads them, and the paper's question after the edit. */
export const mendVariants = {
  mended: { bos_in_targets: false, outer: "rephrase" },
  released: { bos_in_targets: true, outer: "prompt" },
} as const satisfies Record<string, Partial<MendOptions>>;

function only(value: string | number | boolean | null, meaning: string): FixedKey {
  const schema = z.literal(value);
  return {
    schema: () => (typeof value === "number" ? numeric(schema) : schema),
    expected: `only ${value}: the network has this one form`,
    meaning,
    source: HPARAMS,
  };
}

export const mendFixed: Readonly<Record<string, FixedKey>> = {
  alg: only("MEND", "the method"),
  lr_scale: only(1, "factor of every update"),
  train_base: only(false, "the model itself is trained, too"),
  no_grad_layers: only(null, "layers without a gradient"),
  dropout: only(0, "dropout in the training"),
  one_sided: only(false, "one factor alone is transformed"),
  x_only: only(false, "the network sees inputs alone"),
  delta_only: only(false, "the network sees gradients alone"),
  combine: only(true, "both factors go through one network"),
  norm: only(true, "factors are normalised"),
  shared: only(true, "matrices of one shape share a network"),
  mlp_class: only("IDMLP", "form of the network"),
  n_hidden: only(1, "layers of the network before its last"),
  hidden_dim: only(null, "width of the network; null is that of the factors"),
  init: only("id", "the network begins as the identity"),
  act: only("relu", "activation of the network"),
  opt: only("Adam", "optimizer of the training"),
};

const FOLDER = "the model is the folder that the run names";
const REPORTS = "wise-lab train-mend keeps a curve and a checkpoint of its own";
const NO_VALIDATION = "the released stopper is never fed, so that nothing is validated on the way";

export const mendWithoutEffect: Readonly<Record<string, string>> = {
  model_class: FOLDER,
  tokenizer_class: FOLDER,
  tokenizer_name: FOLDER,
  lr_lr: "the released optimizer of the step sizes never acts: its gradients are cleared before its step",
  cbase: "it weighs the loss of training the model itself, which is not done",
  max_epochs: "the length of a training is max_iters",
  eval_only: "wise-lab run edits, and wise-lab train-mend trains",
  half: "the precision is chosen with --precision",
  model_save_pt: REPORTS,
  log_interval: REPORTS,
  eval_log_interval: REPORTS,
  silent: REPORTS,
  verbose: REPORTS,
  debug: REPORTS,
  save: REPORTS,
  results_dir: REPORTS,
  final_eval: NO_VALIDATION,
  val_interval: NO_VALIDATION,
  val_batch_size: NO_VALIDATION,
  val_steps: NO_VALIDATION,
  early_stop_patience: NO_VALIDATION,
  early_stop_key: NO_VALIDATION,
};

export const mendPresets: Readonly<Record<string, Preset>> = {
  "llama-2-7b": { meaning: "LLaMA-2-7B as released" },
  "llama-3-8b": { meaning: "LLaMA-3-8B as released" },
  "mistral-7b": { meaning: "Mistral-7B as released" },
  lab: {
    meaning: "the small LLaMA of the made-up world that comes with the project, and the network for it",
    ours: true,
  },
  tiny: { meaning: "the four-layer golden checkpoint of the tests", ours: true },
};

/** The edited matrices, in their order. */
export function sitesOf({ inner_params }: Pick<MendOptions, "inner_params">): Site[] {
  return sitesOfMatrices(inner_params);
}

export const mendCheck: NonNullable<EditMethod<MendOptions>["check"]> = (options, model, refuse) => {
  if (sitesOf(options).some(({ layer }) => layer >= model.layers)) refuse("inner_params", layersOf(model));
};
