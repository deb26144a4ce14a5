import type { EditMethod } from "../contract.js";
import type { OptionTable, Preset } from "../option-table.js";
import { above0, count, layerOption, layersOf, share } from "../option-types.js";

/** Everything DEFER is told. `deferOptions` gives the meaning and source of each. */
export type DeferOptions = {
  /** 0-based layer whose value matrix' output is replaced. */
  layer: number;
  edit_lr: number;
  /** Steps of one edit; none stops earlier. */
  n_iter: number;
  threshold: number;
};

const HPARAMS = "released hparams/DEFER/*.yaml";

/** Sources name files of the released code (zjunlp/EasyEdit). */
export const deferOptions: OptionTable<DeferOptions> = {
  layer: { ...layerOption, meaning: "layer whose value matrix' output is replaced; in files as inner_params" },
  edit_lr: { ...above0, meaning: "step size of Adam on gate and value", source: HPARAMS },
  n_iter: { ...count, meaning: "steps of one edit; none stops earlier", source: HPARAMS },
  threshold: {
    ...share,
    default: 0.5,
    meaning: "the module answers where its gate is at least this; read at inference only",
    source: HPARAMS,
    read: "inference",
  },
};

export const deferPresets: Readonly<Record<string, Preset>> = {
  "llama-2-7b": { meaning: "LLaMA-2-7B as released" },
  "llama-3-8b": { meaning: "LLaMA-3-8B: released values of LLaMA-2-7B at layer 29, where WISE edits", ours: true },
  "mistral-7b": { meaning: "Mistral-7B as released" },
  lab: { meaning: "the small LLaMA of the made-up world that comes with the project", ours: true },
  tiny: { meaning: "the four-layer golden checkpoint of the tests", ours: true },
};

export const deferCheck: NonNullable<EditMethod<DeferOptions>["check"]> = ({ layer }, model, refuse) => {
  if (layer >= model.layers) refuse("layer", layersOf(model));
};
