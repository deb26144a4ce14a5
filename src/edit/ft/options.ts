import { z } from "zod";
import type { EditMethod } from "../contract.js";
import type { FixedKey, OptionTable, Preset } from "../option-table.js";
import { above0, above0OrNone, atLeast0, count, flag, layersOf, layersOption, numeric } from "../option-types.js";

/** Options of every way of fine-tuning. */
export type TuningOptions = {
  /** 0-based layers whose value matrices are edited. */
  layers: readonly number[];
  /** Most steps of one edit. */
  num_steps: number;
  lr: number;
};

/** Everything FT-M is told. `ftMOptions` gives the meaning and source of each. */
export type FtOptions = TuningOptions & {
  weight_decay: number;
  /** null: the matrices may move freely. */
  norm_constraint: number | null;
};

/** Everything FT-L is told. */
export type FtLOptions = FtOptions & {
  /** The target tokens begin with begin-of-text. */
  bos_in_targets: boolean;
};

const HPARAMS = "released hparams/FT/*.yaml";
const CODE = "released models/ft/ft_main.py";

/** Sources name files of the released code (zjunlp/EasyEdit). */
export const ftMOptions: OptionTable<FtOptions> = {
  layers: layersOption,
  num_steps: { ...count, meaning: "most steps of one edit; it stops when the loss is under 0.01", source: HPARAMS },
  lr: { ...above0, meaning: "step size of Adam", source: HPARAMS },
  weight_decay: { ...atLeast0, meaning: "weight decay, added to the gradient", source: HPARAMS },
  norm_constraint: {
    ...above0OrNone,
    meaning: "every entry stays this near to what it was when its edit began; many edits may go farther",
    source: CODE,
  },
};

export const ftLOptions: OptionTable<FtLOptions> = {
  ...ftMOptions,
  bos_in_targets: {
    ...flag,
    meaning: "the target tokens begin with begin-of-text, as the released code tokenizes them by themselves",
    source: CODE,
  },
};

/** mended: without the defects of the released code. */
export const ftLVariants = {
  mended: { bos_in_targets: false },
  released: { bos_in_targets: true },
} as const satisfies Record<string, Partial<FtLOptions>>;

/** FT-L takes the loss of all target tokens where the prompt ends; FT-M takes each where it stands. */
export type FtObjective = "prompt_last" | "target_new";

/** Released files of both methods have one alg_name, and tell them apart by the objective. */
export function ftFixed(objective: FtObjective): Readonly<Record<string, FixedKey>> {
  return {
    objective_optimization: {
      schema: () => z.literal(objective),
      expected: `${objective}, the objective of this method`,
      meaning: "positions at which the target tokens are predicted",
      source: CODE,
    },
    kl_factor: {
      schema: () => numeric(z.literal(0)),
      expected: "only 0: the loss has no divergence term",
      meaning: "weight of a divergence from the model before the edit",
      source: HPARAMS,
    },
  };
}

const lab: Preset = { meaning: "the small LLaMA of the made-up world that comes with the project", ours: true };
const tiny: Preset = { meaning: "the four-layer golden checkpoint of the tests", ours: true };

export const ftLPresets: Readonly<Record<string, Preset>> = {
  "llama-2-7b": { meaning: "LLaMA-2-7B as released" },
  "llama-3-8b": { meaning: "LLaMA-3-8B as released" },
  "mistral-7b": { meaning: "Mistral-7B as released" },
  lab,
  tiny,
};

export const ftMPresets: Readonly<Record<string, Preset>> = {
  "llama-2-7b": { meaning: "LLaMA-2-7B as released, with the objective target_new" },
  "llama-3-8b": { meaning: "LLaMA-3-8B as released, with the objective target_new" },
  "mistral-7b": { meaning: "Mistral-7B as released, with the objective target_new" },
  lab,
  tiny,
};

export const ftCheck: NonNullable<EditMethod<TuningOptions>["check"]> = ({ layers }, model, refuse) => {
  if (layers.some((layer) => layer >= model.layers)) refuse("layers", layersOf(model));
};
