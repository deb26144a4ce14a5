import { z } from "zod";
import type { EditMethod, FixedKey, OptionTable, Preset } from "../contract.js";
import { above0, atLeast0, count, flag, index, layersOf, numeric, oneOf, text } from "../option-types.js";

/** Everything ROME is told. `romeOptions` gives the meaning and source of each. */
export type RomeOptions = {
  /** The one 0-based layer whose value matrix is edited. */
  layers: readonly [number];
  /** Most passes of the search for v*; the last one makes no step. */
  v_num_grad_steps: number;
  v_lr: number;
  v_weight_decay: number;
  clamp_norm_factor: number;
  kl_factor: number;
  kl_at: "lookup" | "end";
  stop: number;
  mom2_adjustment: boolean;
  mom2_dataset: string;
  mom2_n_samples: number;
  stats_dir: string;
  /** [tokens of a text, number of texts] */
  context_template_length_params: readonly (readonly [number, number])[];
};

const HPARAMS = "released hparams/ROME/*.yaml";
const SEARCH = "released models/rome/compute_v.py";

/** Openings of the context templates; each gives as many texts of a length as the others. */
const OPENINGS = 5;

/** Sources name files of the released code (zjunlp/EasyEdit); the paper is Meng et al. 2022. */
export const romeOptions: OptionTable<RomeOptions> = {
  layers: {
    schema: z.tuple([index.schema]),
    expected: "a list of one layer counted from 0",
    meaning: "layer whose value matrix is edited",
    source: HPARAMS,
  },
  v_num_grad_steps: {
    ...count,
    meaning: "most passes of the search for the value; the last one makes no step",
    source: SEARCH,
  },
  v_lr: { ...above0, meaning: "step size of Adam in that search", source: HPARAMS },
  v_weight_decay: {
    ...atLeast0,
    meaning: "weight of the change's length, over the squared length of the value it starts from",
    source: SEARCH,
  },
  clamp_norm_factor: {
    ...above0,
    meaning: "the change is at most this many times as long as the value it starts from",
    source: SEARCH,
  },
  kl_factor: {
    ...atLeast0,
    meaning: 'weight of the divergence from the first pass, at the prompt "SUBJECT is a"',
    source: HPARAMS,
  },
  kl_at: {
    ...oneOf(["lookup", "end"]),
    meaning: "position of that prompt where the divergence is read: the subject's last token, or the prompt's",
    source: `paper (end); ${SEARCH} (lookup)`,
  },
  stop: { ...atLeast0, default: 0.05, meaning: "the search ends when its loss is below it", source: SEARCH },
  mom2_adjustment: {
    ...flag,
    meaning: "the key is multiplied by the inverse covariance of keys, which the model's statistics hold",
    source: `paper (true); ${HPARAMS} (false for every LLaMA)`,
  },
  mom2_dataset: { ...text, default: "wikipedia", meaning: "texts that the statistics were made of", source: HPARAMS },
  mom2_n_samples: { ...count, default: 100_000, meaning: "number of those texts", source: HPARAMS },
  stats_dir: {
    ...text,
    default: "./data/stats",
    meaning: "folder of the statistics; their sha256 is recorded in its place",
    source: HPARAMS,
    recorded: false,
  },
  context_template_length_params: {
    schema: z
      .array(z.tuple([count.schema, count.schema.refine((texts) => texts % OPENINGS === 0)]))
      .min(1)
      .refine((pairs) => pairs.every(([, texts]) => texts === pairs[0]?.[1])),
    default: [
      [5, 10],
      [10, 10],
    ],
    expected: `a list of [tokens, texts], the texts a multiple of ${OPENINGS} and as many in each`,
    meaning: "prefixes that the model writes for context templates: so many texts of so many tokens",
    source: HPARAMS,
  },
};

/** mended: released, with targets as scoring reads them and templates written greedily. */
export const romeVariants = {
  mended: { kl_at: "lookup", mom2_adjustment: false },
  paper: { kl_at: "end", mom2_adjustment: true },
} as const satisfies Record<string, Partial<RomeOptions>>;

export const romeFixed: Readonly<Record<string, FixedKey>> = {
  fact_token: {
    schema: () => z.literal("subject_last"),
    expected: "subject_last, the only position here",
    meaning: "token of the prompt whose key is edited",
    source: HPARAMS,
  },
  v_loss_layer: {
    schema: (model) => numeric(z.literal(model.layers - 1)),
    expected: "the model's last layer: the loss is read where the model answers",
    meaning: "layer at which the loss of the search is read",
    source: HPARAMS,
  },
  mom2_dtype: {
    schema: () => z.literal("float32"),
    expected: "float32",
    meaning: "precision of the statistics",
    source: HPARAMS,
  },
  target_ids: {
    schema: () => z.literal("scoring"),
    expected: "scoring: the target's tokens are those that scoring expects; the released ones are not made here",
    meaning: "tokens of the target in the search",
    source: "this project; the released code tokenizes the target by itself",
  },
};

export const romePresets: Readonly<Record<string, Preset>> = {
  "llama-2-7b": { meaning: "LLaMA-2-7B as released" },
  "llama-3-8b": { meaning: "LLaMA-3-8B as released" },
  "mistral-7b": { meaning: "Mistral-7B as released" },
  lab: { meaning: "the small LLaMA of the made-up world that comes with the project", ours: true },
  tiny: { meaning: "the four-layer golden checkpoint of the tests", ours: true },
};

export const romeCheck: NonNullable<EditMethod<RomeOptions>["check"]> = ({ layers }, model, refuse) => {
  if (layers.some((layer) => layer >= model.layers)) refuse("layers", layersOf(model));
};
