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

/** Everything WISE is told, resolved. `describeWiseOptions` gives the meaning and source of each. */
export interface WiseOptions {
  /** 0-based layer whose value matrix is edited. */
  layer: number;
  lr: number;
  /** Most steps of one edit; it stops earlier when the loss settles. */
  steps: number;
  maskRatio: number;
  alpha: number;
  beta: number;
  gamma: number;
  actRatio: number;
  /** null: the side memory may move freely. */
  normConstraint: number | null;
  saveFreq: number;
  mergeFreq: number;
  mergeAlg: (typeof MERGE_ALGORITHMS)[number];
  density: number;
  mergeWeight: number;
  /** true: WISE-Retrieve, memories pile up. false: WISE-Merge, one merged memory. */
  retrieve: boolean;
  replay: boolean;
  chatTemplate: boolean;
  /** Second begin-of-text token in front of a rendered chat prompt. */
  doubleBos: boolean;
  /** Routing distance between activated outputs (SiLU); false: between the outputs themselves. */
  activationOnDistance: boolean;
  /** The mean over n target tokens divides by n + 1. */
  lossDividesByTargetsPlusOne: boolean;
  weightDecay: number;
  /** At inference a sequence over 100 tokens is routed by its largest token distance. */
  longSequenceMax: boolean;
  seed: number;
}

/** The options in which the paper and its released code differ, under one name each. Single keys win over the variant. */
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
} as const;

interface KeyDescription {
  /** Name in `WiseOptions`; "" for a key that only selects others. */
  option: string;
  /** What may stand there, in words. */
  expected: string;
  /** "required" where a file or preset must give it. */
  fallback: string;
  meaning: string;
  /** Equation of the paper (arXiv 2405.14768) or file of the released code (zjunlp/EasyEdit). */
  source: string;
}

const HPARAMS = "released hparams/WISE/*.yaml";
const trueOrFalse = "true or false";

/** One row per key, for error messages and for the documentation. */
export const wiseKeys = {
  alg_name: {
    option: "",
    expected: "WISE",
    fallback: "WISE",
    meaning: "names the method the file is for",
    source: HPARAMS,
  },
  layer: {
    option: "layer",
    expected: "a layer counted from 0; or inner_params: [model.layers[N].mlp.down_proj.weight]",
    fallback: "required",
    meaning: "layer whose value matrix is edited; in files as inner_params",
    source: `${HPARAMS}, inner_params`,
  },
  edit_lr: {
    option: "lr",
    expected: "a number above 0",
    fallback: "required",
    meaning: "step size of plain SGD",
    source: HPARAMS,
  },
  n_iter: {
    option: "steps",
    expected: "a whole number above 0",
    fallback: "required",
    meaning: "most steps of one edit",
    source: HPARAMS,
  },
  mask_ratio: {
    option: "maskRatio",
    expected: "a number above 0, at most 1",
    fallback: "required",
    meaning: "share of the value matrix that a shard may write",
    source: "paper section 2.3.2 (rho)",
  },
  act_margin: {
    option: "alpha, beta, gamma",
    expected: "three numbers of at least 0: [alpha, beta, gamma]",
    fallback: "required",
    meaning: "margins of the routing loss: unrelated below alpha, edits above beta, apart by gamma",
    source: "paper eq. 5",
  },
  act_ratio: {
    option: "actRatio",
    expected: "a number of at least 0",
    fallback: "required",
    meaning: "a memory answers from act_ratio times its smallest in-scope activation on; read at inference only",
    source: `${HPARAMS}; the paper's router has no such factor`,
  },
  norm_constraint: {
    option: "normConstraint",
    expected: "a number above 0, or null or false for none",
    fallback: "required",
    meaning:
      "every entry of the side memory stays this near to the model's; the released code silently drops it when it is written without a decimal point",
    source: "released WISE.py, __norm_constraint",
  },
  save_freq: {
    option: "saveFreq",
    expected: "a whole number above 0",
    fallback: "required",
    meaning: "edits per shard",
    source: "paper section 2.3.2 (n / k)",
  },
  merge_freq: {
    option: "mergeFreq",
    expected: "a whole number above 0 that save_freq divides",
    fallback: "required",
    meaning: "edits after which the saved shards are merged",
    source: HPARAMS,
  },
  merge_alg: {
    option: "mergeAlg",
    expected: `one of ${MERGE_ALGORITHMS.join(", ")}`,
    fallback: "required",
    meaning: "how shards are merged",
    source: "paper section 2.3.2 (ties); released WISE.py, merge_dict",
  },
  densities: {
    option: "density",
    expected: `a number above 0, at most 1; null only with ${DENSE_MERGES.join(", ")}`,
    fallback: "required",
    meaning: "share of each shard's delta that a merge keeps",
    source: HPARAMS,
  },
  weights: {
    option: "mergeWeight",
    expected: "a number above 0",
    fallback: "required",
    meaning: "weight of the shards of a merge, all together",
    source: HPARAMS,
  },
  retrieve: {
    option: "retrieve",
    expected: trueOrFalse,
    fallback: "required",
    meaning: "true: WISE-Retrieve, memories pile up; false: WISE-Merge, one merged memory (the paper's main tables)",
    source: "paper section 2.3.2",
  },
  replay: {
    option: "replay",
    expected: trueOrFalse,
    fallback: "required",
    meaning: "past edits join the routing loss once a merge exists; WISE-Retrieve only",
    source: "paper appendix B.3",
  },
  objective_optimization: {
    option: "",
    expected: "only_label, the only objective here",
    fallback: "only_label",
    meaning: "the loss is taken over the target tokens",
    source: "released models/wise/utils.py, tokenize",
  },
  use_chat_template: {
    option: "chatTemplate",
    expected: trueOrFalse,
    fallback: "false",
    meaning: "prompts to edit, rewrite and rephrase are rendered with the model's chat template",
    source: HPARAMS,
  },
  batch_size: {
    option: "",
    expected: "1: records are edited one after another",
    fallback: "1",
    meaning: "edits made at once",
    source: "released wise_hparams.py",
  },
  variant: {
    option: "",
    expected: "released or paper",
    fallback: "released",
    meaning: "sets the five keys below where they are not given: the paper and its released code differ in them",
    source: "this project",
  },
  double_bos: {
    option: "doubleBos",
    expected: trueOrFalse,
    fallback: "released true, paper false",
    meaning: "a rendered chat prompt gets a second begin-of-text token",
    source: "released models/wise/utils.py: rendered text is tokenized with special tokens",
  },
  distance_act: {
    option: "activationOnDistance",
    expected: trueOrFalse,
    fallback: "released true, paper false",
    meaning: "routing distance between outputs passed through the model's activation function",
    source: "paper section 2.3.1 (no); released WISE.py, euc (yes)",
  },
  label_mean_extra: {
    option: "lossDividesByTargetsPlusOne",
    expected: trueOrFalse,
    fallback: "released true, paper false",
    meaning: "the loss of n target tokens is their sum divided by n + 1",
    source: "released WISE.py, __cal_ft_loss",
  },
  weight_decay: {
    option: "weightDecay",
    expected: "a number of at least 0",
    fallback: "released 1e-5, paper 0",
    meaning: "SGD weight decay on all entries of the side memory, masked or not",
    source: "released WISE.py, edit",
  },
  long_sequence_max: {
    option: "longSequenceMax",
    expected: trueOrFalse,
    fallback: "released true, paper false",
    meaning: "at inference a sequence over 100 tokens is routed by its largest token distance",
    source: "released WISE.py, euc",
  },
  seed: {
    option: "seed",
    expected: "a whole number of at least 0",
    fallback: "0",
    meaning: "masks and random merges are drawn from it",
    source: "this project; the released code draws from the global stream",
  },
} satisfies Record<string, KeyDescription>;

export type WiseKey = keyof typeof wiseKeys;

/** Keys of released files that change nothing here, each with the reason. */
export const keysWithoutEffect: Record<string, string> = {
  model_name: "the model is the folder that the run names",
  device: "the backend is chosen with --backend",
  model_parallel: "the model is held by one backend",
  max_length: "sequences are not cut",
  save_path: "an edit state is saved where the caller says",
  load_path: "an edit state is loaded where the caller says",
  padding_side: "padding never changes a number here",
  enable_thinking: "LLaMA chat templates have no thinking mode",
  attn_implementation: "there is one implementation of attention",
  language_model_only: "only language models are loaded",
};

/** The keys as a table for the documentation: one row per key, in reading order. */
export function describeWiseOptions(): ({ key: string } & KeyDescription)[] {
  return Object.entries(wiseKeys).map(([key, description]) => ({ key, ...description }));
}
