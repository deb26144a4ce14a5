import { z } from "zod";
import { MATRICES, type MatrixName } from "../../model/patch.js";
import type { EditMethod } from "../contract.js";
import type { FixedKey, OptionTable, Preset } from "../option-table.js";
import { above0, atLeast0, count, flag, index, layersOf, numeric, oneOf } from "../option-types.js";

/** A matrix by the last part of its name in a checkpoint. */
export type ModuleName = `${MatrixName}_proj`;

const MODULES = MATRICES.map((matrix): ModuleName => `${matrix}_proj`);

/** Everything LoRA is told. `loraOptions` gives the meaning and source of each. */
export type LoraOptions = {
  lora_type: "lora" | "adalora";
  /** 0-based layers whose matrices have factors; none stands for all. */
  layers: readonly number[];
  target_modules: readonly ModuleName[];
  /** Rows of A. Resolved, null with adalora. */
  rank: number | null;
  /** Rows of A. Resolved, null with lora. */
  init_r: number | null;
  lora_alpha: number;
  lora_dropout: number;
  /** Steps of one edit; none stops earlier. */
  num_steps: number;
  lr: number;
  weight_decay: number;
  /** Resolved, 0 with lora. */
  orth_reg_weight: number;
  /** Resolved, false with lora. */
  orth_first_only: boolean;
};

const HPARAMS = "released hparams/LoRA/*.yaml";
const CODE = "released models/lora/lora_main.py";
const PEFT = "PEFT, on which the released code rests";

const list = <T>(schema: z.ZodType<T>) => z.array(schema).refine((values) => new Set(values).size === values.length);

const countOrNone = { schema: count.schema.nullable(), expected: `${count.expected}, or null` };

/** Sources name files of the released code (zjunlp/EasyEdit). */
export const loraOptions: OptionTable<LoraOptions> = {
  lora_type: {
    ...oneOf(["lora", "adalora"]),
    default: "adalora",
    meaning: "lora: W + scale B A; adalora: W + scale B diag(E) A, with A and B drawn to be orthogonal",
    source: `${CODE}; Hu et al. 2021 (lora), Zhang et al. 2023 (adalora)`,
  },
  layers: {
    schema: list(index.schema),
    expected: "a list of layers counted from 0, each once; [] for all",
    meaning: "layers whose matrices have factors",
    source: HPARAMS,
  },
  target_modules: {
    schema: list(z.enum(MODULES)).min(1),
    expected: `a list of some of ${MODULES.join(", ")}, each once`,
    meaning: "matrices of these layers that have factors",
    source: HPARAMS,
  },
  rank: {
    ...countOrNone,
    default: null,
    meaning: "rank of the factors of lora; adalora does not read it",
    source: HPARAMS,
  },
  init_r: {
    ...countOrNone,
    default: 12,
    meaning: "rank of the factors of adalora, of which none is taken away; lora does not read it",
    source: PEFT,
  },
  lora_alpha: {
    ...above0,
    meaning: "the factors' product is scaled by lora_alpha / rank; adalora: lora_alpha / (init_r + 0.00001)",
    source: HPARAMS,
  },
  lora_dropout: {
    schema: numeric(z.number().min(0).lt(1)),
    expected: "a number of at least 0, below 1",
    meaning: "share of the factors' inputs that are left out at a step; none are when the edits are read",
    source: `${HPARAMS}; the released code also drops when it scores`,
  },
  num_steps: { ...count, meaning: "steps of one edit; none stops earlier", source: HPARAMS },
  lr: { ...above0, meaning: "step size of Adam", source: HPARAMS },
  weight_decay: { ...atLeast0, meaning: "weight decay of the factors, added to the gradient", source: HPARAMS },
  orth_reg_weight: {
    ...atLeast0,
    default: 0.5,
    meaning: "adalora: weight of the mean distance of A A' and B' B from the identity",
    source: PEFT,
  },
  orth_first_only: { ...flag, meaning: "adalora: that term is part of the first edit's loss alone", source: CODE },
};

/** mended: every edit has the whole loss. */
export const loraVariants = {
  mended: { orth_first_only: false },
  released: { orth_first_only: true },
} as const satisfies Record<string, Partial<LoraOptions>>;

export const loraFixed: Readonly<Record<string, FixedKey>> = {
  kl_factor: {
    schema: () => numeric(z.literal(0)),
    expected: "only 0: the loss has no divergence term",
    meaning: "weight of a divergence from the model before the edit",
    source: HPARAMS,
  },
  norm_constraint: {
    schema: () => z.literal([false, null]),
    expected: "only false: the factors may move freely",
    meaning: "bound on the change",
    source: HPARAMS,
  },
};

export const loraPresets: Readonly<Record<string, Preset>> = {
  "llama-2-7b": { meaning: "LLaMA-2-7B as released" },
  "llama-3-8b": { meaning: "LLaMA-3-8B as released" },
  "mistral-7b": { meaning: "Mistral-7B: released values of LLaMA-3-8B", ours: true },
  lab: { meaning: "the small LLaMA of the made-up world that comes with the project", ours: true },
  tiny: { meaning: "the four-layer golden checkpoint of the tests", ours: true },
};

export const loraCheck: NonNullable<EditMethod<LoraOptions>["check"]> = (options, model, refuse) => {
  const { lora_type, layers, rank, init_r } = options;
  if (layers.some((layer) => layer >= model.layers)) refuse("layers", layersOf(model));
  if (lora_type === "lora" && rank === null) refuse("rank", `${count.expected} with lora_type lora`);
  if (lora_type === "adalora" && init_r === null) refuse("init_r", `${count.expected} with lora_type adalora`);
};

/** Options of the other type say nothing. */
export function loraSettle(options: LoraOptions): { options: LoraOptions; ignored: string[] } {
  if (options.lora_type === "lora") {
    return { options: { ...options, init_r: null, orth_reg_weight: 0, orth_first_only: false }, ignored: [] };
  }
  const ignored = options.rank === null ? [] : ["rank: the factors of adalora have init_r rows"];
  return { options: { ...options, rank: null }, ignored };
}
