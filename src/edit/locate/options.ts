import { z } from "zod";
import type { Site } from "../../model/patch.js";
import type { AssetNeed } from "../contract.js";
import { covarianceNeed } from "../covariance.js";
import type { FixedKey, OptionTable } from "../option-table.js";
import { above0, atLeast0, count, numeric, oneOf, text } from "../option-types.js";
import type { SearchOptions } from "./search.js";

/** Options of statistics. */
export type StatsOptions = {
  mom2_dataset: string;
  mom2_n_samples: number;
  stats_dir: string;
};

const HPARAMS = "released hparams/{ROME,MEMIT,AlphaEdit}/*.yaml";
const SEARCH = "released models/*/compute_v.py, compute_z.py";

/** Options of the search for a value, in the methods that locate first. */
export const searchOptions: OptionTable<SearchOptions> = {
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
};

export const statsOptions: OptionTable<StatsOptions> = {
  mom2_dataset: { ...text, default: "wikipedia", meaning: "texts that the statistics were made of", source: HPARAMS },
  mom2_n_samples: { ...count, default: 100_000, meaning: "number of those texts", source: HPARAMS },
  stats_dir: {
    ...text,
    default: "./data/stats",
    meaning: "folder of the statistics; their sha256 is recorded in its place",
    source: HPARAMS,
    recorded: false,
  },
};

/** Keys of their released files that may have one value only. */
export const locateFixed: Readonly<Record<string, FixedKey>> = {
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

/** The covariance of a matrix' keys, where the options say. */
export function covarianceOf(site: Site, options: StatsOptions): AssetNeed {
  const { stats_dir: statsDir, mom2_dataset: dataset, mom2_n_samples: samples } = options;
  return covarianceNeed(site, { statsDir, dataset, samples });
}
