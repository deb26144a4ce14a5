import { z } from "zod";
import type { EditMethod } from "../contract.js";
import type { FixedKey, OptionTable, Preset } from "../option-table.js";
import {
  above0,
  above0OrNone,
  atLeast0,
  count,
  flag,
  layerOption,
  layersOf,
  oneOf,
  share,
  type Values,
} from "../option-types.js";

/** The merges of the released code (models/wise/WISE.py, merge_dict). */
export const MERGE_ALGORITHMS = [
  "ties",
  "linear",
  "slerp",
  "magnitude",
  "magnitude_norm",
  "sign",
  "dare_ties",
  "dare_linear",
] as const;

/** Merges that keep every entry of a shard's delta, so that `densities` says nothing to them. */
export const DENSE_MERGES: readonly string[] = ["linear", "slerp", "sign"];

/** Everything WISE is told. `wiseOptions` gives the meaning and source of each. */
export type WiseOptions = {
  /** 0-based layer whose value matrix is edited. */
  layer: number;
  edit_lr: number;
  /** Most steps of one edit; it stops earlier when the loss settles. */
  n_iter: number;
  mask_ratio: number;
  /** alpha, beta, gamma */
  act_margin: readonly [number, number, number];
  act_ratio: number;
  /** null: the side memory may move freely. */
  norm_constraint: number | null;
  save_freq: number;
  merge_freq: number;
  merge_alg: (typeof MERGE_ALGORITHMS)[number];
  /** Resolved, null has become 1. */
  densities: number | null;
  weights: number;
  /** true: WISE-Retrieve, memories pile up. false: WISE-Merge, one merged memory. */
  retrieve: boolean;
  /** Resolved, true with `retrieve` only. */
  replay: boolean;
  use_chat_template: boolean;
  /** Second begin-of-text token in front of a rendered chat prompt. */
  double_bos: boolean;
  /** Routing distance between activated outputs (SiLU); false: between the outputs themselves. */
  distance_act: boolean;
  /** The mean over n target tokens divides by n + 1. */
  label_mean_extra: boolean;
  /** The loss also covers the end of the questions if the irrelevant prompt is longer than every row. */
  released_label_cut: boolean;
  weight_decay: number;
  /** At inference a sequence over 100 tokens is routed by its largest token distance. */
  long_sequence_max: boolean;
};

const HPARAMS = "released hparams/WISE/*.yaml";

const margins: Values<readonly [number, number, number]> = {
  schema: z.tuple([atLeast0.schema, atLeast0.schema, atLeast0.schema]),
  expected: "three numbers of at least 0: [alpha, beta, gamma]",
};

/** Sources name equations of the paper (arXiv 2405.14768) or files of the released code (zjunlp/EasyEdit). */
export const wiseOptions: OptionTable<WiseOptions> = {
  layer: layerOption,
  edit_lr: { ...above0, meaning: "step size of plain SGD", source: HPARAMS },
  n_iter: { ...count, meaning: "most steps of one edit", source: HPARAMS },
  mask_ratio: {
    ...share,
    meaning: "share of the value matrix that a shard may write",
    source: "paper section 2.3.2 (rho)",
  },
  act_margin: {
    ...margins,
    meaning: "margins of the routing loss: unrelated below alpha, edits above beta, apart by gamma",
    source: "paper eq. 5",
  },
  act_ratio: {
    ...atLeast0,
    meaning: "a memory answers from act_ratio times its smallest in-scope activation on; read at inference only",
    source: `${HPARAMS}; the paper's router has no such factor`,
    read: "inference",
  },
  norm_constraint: {
    ...above0OrNone,
    meaning:
      "every entry of the side memory stays this near to the model's; the released code silently drops it when it is written without a decimal point",
    source: "released WISE.py, __norm_constraint",
  },
  save_freq: { ...count, meaning: "edits per shard", source: "paper section 2.3.2 (n / k)" },
  merge_freq: {
    ...count,
    expected: "a whole number above 0 that save_freq divides",
    meaning: "edits after which the saved shards are merged",
    source: HPARAMS,
  },
  merge_alg: {
    ...oneOf(MERGE_ALGORITHMS),
    meaning: "how shards are merged",
    source: "paper section 2.3.2 (ties); released WISE.py, merge_dict",
  },
  densities: {
    schema: share.schema.nullable(),
    expected: `${share.expected}; null only with ${DENSE_MERGES.join(", ")}`,
    meaning: "share of each shard's delta that a merge keeps",
    source: HPARAMS,
  },
  weights: { ...above0, meaning: "weight of the shards of a merge, all together", source: HPARAMS },
  retrieve: {
    ...flag,
    meaning: "true: WISE-Retrieve, memories pile up; false: WISE-Merge, one merged memory (the paper's main tables)",
    source: "paper section 2.3.2",
    spoken: { head: "memories", say: { true: "Retrieve", false: "Merge" } },
  },
  replay: {
    ...flag,
    meaning: "past edits join the routing loss once a merge exists; WISE-Retrieve only",
    source: "paper appendix B.3",
  },
  use_chat_template: {
    ...flag,
    default: false,
    meaning: "prompts to edit, rewrite and rephrase are rendered with the model's chat template",
    source: HPARAMS,
  },
  double_bos: {
    ...flag,
    meaning: "a rendered chat prompt gets a second begin-of-text token",
    source: "released models/wise/utils.py: rendered text is tokenized with special tokens",
  },
  distance_act: {
    ...flag,
    meaning: "routing distance between outputs passed through the model's activation function",
    source: "paper section 2.3.1 (no); released WISE.py, euc (yes)",
  },
  label_mean_extra: {
    ...flag,
    meaning: "the loss of n target tokens is their sum divided by n + 1",
    source: "released WISE.py, __cal_ft_loss",
  },
  released_label_cut: {
    ...flag,
    default: false,
    unsaid: false,
    meaning:
      "where the irrelevant prompt is longer than every row, the loss also covers so many tokens at the end of the questions: labels are cut at the padded length of the prompts alone",
    source: "released models/wise/utils.py, tokenize; the paper has no such thing",
  },
  weight_decay: {
    ...atLeast0,
    meaning: "SGD weight decay on all entries of the side memory, masked or not",
    source: "released WISE.py, edit",
  },
  long_sequence_max: {
    ...flag,
    meaning: "at inference a sequence over 100 tokens is routed by its largest token distance",
    source: "released WISE.py, euc",
  },
};

/** The options in which the paper and its released code differ. */
export const wiseVariants = {
  released: {
    double_bos: true,
    distance_act: true,
    label_mean_extra: true,
    long_sequence_max: true,
    weight_decay: 1e-5,
  },
  paper: {
    double_bos: false,
    distance_act: false,
    label_mean_extra: false,
    long_sequence_max: false,
    weight_decay: 0,
  },
} as const satisfies Record<string, Partial<WiseOptions>>;

export const wiseFixed: Readonly<Record<string, FixedKey>> = {
  objective_optimization: {
    schema: () => z.literal("only_label"),
    expected: "only_label, the only objective here",
    meaning: "the loss is taken over the target tokens",
    source: "released models/wise/utils.py, tokenize",
  },
};

export const wisePresets: Readonly<Record<string, Preset>> = {
  "paper-llama-2-7b": {
    meaning: "LLaMA-2-7B as in the paper: WISE-Merge, table 10; n_iter and act_ratio from the released file",
  },
  "llama-2-7b": { meaning: "LLaMA-2-7B as released" },
  "mistral-7b": { meaning: "Mistral-7B as released" },
  "llama-3-8b": { meaning: "LLaMA-3-8B as released since 2024-12-14" },
  "llama-3-8b-2024-11": { meaning: "LLaMA-3-8B as released before 2024-12-14: act_ratio 0.88" },
  lab: {
    meaning:
      "the small LLaMA of the made-up world that comes with the project; chosen on records that are not among its 1037",
    ours: true,
  },
  tiny: { meaning: "the four-layer golden checkpoint of the tests", ours: true },
};

export const wiseCheck: NonNullable<EditMethod<WiseOptions>["check"]> = (options, model, refuse) => {
  const { layer, save_freq, merge_freq, merge_alg, densities } = options;
  if (merge_freq % save_freq !== 0) refuse("merge_freq", `a multiple of save_freq, which is ${save_freq}`);
  if (densities === null && !DENSE_MERGES.includes(merge_alg)) {
    refuse("densities", `a number above 0, at most 1: merge_alg ${merge_alg} keeps only a share of each delta`);
  }
  if (layer >= model.layers) refuse("layer", layersOf(model));
};

export function wiseSettle(options: WiseOptions): { options: WiseOptions; ignored: string[] } {
  const { retrieve, replay, densities } = options;
  return {
    options: { ...options, densities: densities ?? 1, replay: retrieve && replay },
    ignored: replay && !retrieve ? ["replay: only WISE-Retrieve replays past edits"] : [],
  };
}
