import type { EditMethod } from "../contract.js";
import { type StatsOptions, searchOptions, statsOptions } from "../locate/options.js";
import type { SearchOptions } from "../locate/search.js";
import type { OptionTable, Preset } from "../option-table.js";
import { above0, layersOf, layersOption, oneOf } from "../option-types.js";
import type { SpreadOptions } from "./spread.js";

/** Everything MEMIT is told. `memitOptions` gives the meaning and source of each. */
export type MemitOptions = SearchOptions & StatsOptions & SpreadOptions & { mom2_update_weight: number };

const HPARAMS = "released hparams/MEMIT/*.yaml";
const CODE = "released models/memit/memit_main.py, compute_ks.py";

/** Options of a value that is spread over several layers. */
export const spreadOptions: OptionTable<SpreadOptions> = {
  layers: {
    ...layersOption,
    meaning: "layers whose value matrices are edited; the value is searched behind the last of them",
    source: HPARAMS,
  },
  key_mean: {
    ...oneOf(["grouped", "flat"]),
    meaning:
      "a key: grouped: half that of the bare prompt, half the mean under the other templates; flat: the mean of all",
    source: `${CODE} (grouped); paper (flat)`,
  },
};

/** Sources name files of the released code (zjunlp/EasyEdit); the paper is Meng et al. 2023. */
export const memitOptions: OptionTable<MemitOptions> = {
  ...spreadOptions,
  ...searchOptions,
  mom2_update_weight: {
    ...above0,
    meaning: "weight of the covariance of keys, that is of what the matrix answered before",
    source: HPARAMS,
  },
  ...statsOptions,
};

/** mended: released, with targets as scoring reads them and templates written greedily. */
export const memitVariants = {
  mended: { kl_at: "lookup", key_mean: "grouped" },
  paper: { kl_at: "end", key_mean: "flat" },
} as const satisfies Record<string, Partial<MemitOptions>>;

/** Keys of released files that change nothing here. */
export const spreadWithoutEffect: Readonly<Record<string, string>> = {
  layer_selection: "the layers are those that are named",
  mom2_adjustment: "the released code does not read it here: the statistics are always used",
};

const presets = (title: string): Readonly<Record<string, Preset>> => ({
  "llama-2-7b": { meaning: `LLaMA-2-7B as released for ${title}` },
  "llama-3-8b": { meaning: `LLaMA-3-8B as the authors of AlphaEdit have it for ${title}` },
  "mistral-7b": { meaning: `Mistral-7B as released for ${title}` },
  lab: { meaning: "the small LLaMA of the made-up world that comes with the project", ours: true },
  tiny: { meaning: "the four-layer golden checkpoint of the tests", ours: true },
});

export const memitPresets = presets("MEMIT");
export const memitMassPresets = presets("MEMIT, all requests of a block at once");

export const spreadCheck: NonNullable<EditMethod<SpreadOptions>["check"]> = ({ layers }, model, refuse) => {
  if (layers.some((layer) => layer >= model.layers)) refuse("layers", layersOf(model));
};
