import { z } from "zod";
import type { EditMethod } from "../contract.js";
import { type StatsOptions, searchOptions, statsOptions } from "../locate/options.js";
import type { SearchOptions } from "../locate/search.js";
import type { OptionTable, Preset } from "../option-table.js";
import { count, flag, index, layersOf } from "../option-types.js";

/** Everything ROME is told. `romeOptions` gives the meaning and source of each. */
export type RomeOptions = SearchOptions &
  StatsOptions & {
    /** The one 0-based layer whose value matrix is edited. */
    layers: readonly [number];
    mom2_adjustment: boolean;
    /** [tokens of a text, number of texts] */
    context_template_length_params: readonly (readonly [number, number])[];
  };

const HPARAMS = "released hparams/ROME/*.yaml";

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
  ...searchOptions,
  mom2_adjustment: {
    ...flag,
    meaning: "the key is multiplied by the inverse covariance of keys, which the model's statistics hold",
    source: `paper (true); ${HPARAMS} (false for every LLaMA)`,
  },
  ...statsOptions,
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
