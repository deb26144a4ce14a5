import type { EditMethod } from "../contract.js";
import type { OptionTable, Preset } from "../option-table.js";
import { above0, atLeast0, count, layerOption, layersOf, oneOf } from "../option-types.js";

/** Everything FT-EWC is told. `ewcOptions` gives the meaning and source of each. */
export type EwcOptions = {
  /** 0-based layer whose value matrix is edited. */
  layer: number;
  num_steps: number;
  lr: number;
  ewc_lambda: number;
  /** Past edits that hold the matrix back. */
  fisher_mem: number;
  fisher_sum: "mean" | "running";
};

const CODE = "the authors' GRACE code, its ewc baseline";

/** No released file of EasyEdit has this method; values are of Hartvigsen et al. 2023 and WISE, A.3. */
export const ewcOptions: OptionTable<EwcOptions> = {
  layer: layerOption,
  num_steps: {
    ...count,
    meaning: "most steps of one edit; it stops when the target is the likeliest continuation",
    source: CODE,
  },
  lr: { ...above0, meaning: "step size of Adam", source: CODE },
  ewc_lambda: { ...atLeast0, meaning: "weight of the penalty on leaving the anchor", source: CODE },
  fisher_mem: {
    ...count,
    meaning: "past edits whose gradients make the Fisher information, the newest ones",
    source: CODE,
  },
  fisher_sum: {
    ...oneOf(["mean", "running"]),
    meaning:
      "mean: of the past edits' squared gradients, the anchor where this edit begins; running: squares of running sums with the edit's own first, F and anchor over fisher_mem however few they are",
    source: `paper (mean); ${CODE} (running)`,
  },
};

/** mended: without the sums that the released code does not clear, and with an anchor that is not scaled. */
export const ewcVariants = {
  mended: { fisher_sum: "mean" },
  released: { fisher_sum: "running" },
} as const satisfies Record<string, Partial<EwcOptions>>;

export const ewcPresets: Readonly<Record<string, Preset>> = {
  "llama-2-7b": { meaning: "LLaMA-2-7B: values of WISE, A.3, at the layer of the released GRACE file", ours: true },
  "llama-3-8b": { meaning: "LLaMA-3-8B: values of WISE, A.3, at layer 29, where WISE edits", ours: true },
  "mistral-7b": { meaning: "Mistral-7B: values of WISE, A.3, at the layer of the released GRACE file", ours: true },
  lab: { meaning: "the small LLaMA of the made-up world that comes with the project", ours: true },
  tiny: { meaning: "the four-layer golden checkpoint of the tests", ours: true },
};

export const ewcCheck: NonNullable<EditMethod<EwcOptions>["check"]> = ({ layer }, model, refuse) => {
  if (layer >= model.layers) refuse("layer", layersOf(model));
};
