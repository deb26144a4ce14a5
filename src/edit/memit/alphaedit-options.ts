import { z } from "zod";
import { type StatsOptions, searchOptions, statsOptions } from "../locate/options.js";
import type { SearchOptions } from "../locate/search.js";
import type { OptionTable, Preset } from "../option-table.js";
import { above0, count } from "../option-types.js";
import type { NullSpaceOptions } from "./null-space.js";
import { spreadOptions, spreadWithoutEffect } from "./options.js";
import type { SpreadOptions } from "./spread.js";

/** Everything AlphaEdit is told. `alphaeditOptions` gives the meaning and source of each. */
export type AlphaeditOptions = SearchOptions &
  StatsOptions &
  SpreadOptions &
  NullSpaceOptions & { L2: number; batch_size: number };

const HPARAMS = "released hparams/AlphaEdit/*.yaml";

/** Sources name files of the released code (zjunlp/EasyEdit); the paper is Fang et al. 2025. */
export const alphaeditOptions: OptionTable<AlphaeditOptions> = {
  ...spreadOptions,
  ...searchOptions,
  nullspace_threshold: {
    ...above0,
    meaning: "eigenvectors of the covariance of keys with an eigenvalue below it span the null space",
    source: HPARAMS,
  },
  L2: { ...above0, meaning: "weight of the update's size", source: `paper (1); ${HPARAMS} (1 or 10)` },
  batch_size: {
    ...count,
    default: 1,
    meaning: "requests of a block that change the matrices together, in one closed form each",
    source: `${HPARAMS} (1); the authors' experiments (100)`,
  },
  P_loc: {
    schema: z.string().min(1).nullable(),
    expected: "a text or null",
    default: null,
    meaning:
      "file of ready projections, one for each of layers; made of the statistics where it is not there; its sha256 is recorded in its place",
    source: HPARAMS,
    recorded: false,
  },
  ...statsOptions,
};

/** mended: released, with targets as scoring reads them, templates written greedily, and keys that go with their block. */
export const alphaeditVariants = {
  mended: { kl_at: "lookup", key_mean: "grouped" },
  paper: { kl_at: "end", key_mean: "flat" },
} as const satisfies Record<string, Partial<AlphaeditOptions>>;

export const alphaeditWithoutEffect: Readonly<Record<string, string>> = {
  ...spreadWithoutEffect,
  mom2_update_weight: "the null space stands in the place of weighed statistics",
};

export const alphaeditPresets: Readonly<Record<string, Preset>> = {
  "llama-2-7b": { meaning: "LLaMA-2-7B: the values for LLaMA-3-8B, as nobody has released others", ours: true },
  "llama-3-8b": { meaning: "LLaMA-3-8B as released" },
  "mistral-7b": { meaning: "Mistral-7B: the values for LLaMA-3-8B, as nobody has released others", ours: true },
  lab: { meaning: "the small LLaMA of the made-up world that comes with the project", ours: true },
  tiny: { meaning: "the four-layer golden checkpoint of the tests", ours: true },
};
