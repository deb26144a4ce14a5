import type { Site } from "../../model/patch.js";
import type { EditMethod } from "../contract.js";
import type { OptionTable, Preset } from "../option-table.js";
import { above0, count, layersOf, matrices, sitesOfMatrices } from "../option-types.js";

/** Everything UltraEdit is told. `ultraeditOptions` gives the meaning and source of each. */
export type UltraeditOptions = {
  /** Names of the edited matrices, e.g. "model.layers.11.mlp.gate_proj". */
  inner_params: readonly string[];
  lr: number;
  batch_size: number;
  batch_size_once: number;
};

const HPARAMS = "released hparams/ULTRAEDIT/*.yaml";

/** Sources name files of the released code (zjunlp/EasyEdit), which have the values of the authors' own. */
export const ultraeditOptions: OptionTable<UltraeditOptions> = {
  inner_params: { ...matrices, meaning: "matrices that are edited", source: HPARAMS },
  lr: { ...above0, meaning: "size of a change, times the squared length of its normalised input", source: HPARAMS },
  batch_size: {
    ...count,
    default: 100,
    meaning: "requests of a block that change the matrices together: none of them sees the change by another",
    source: HPARAMS,
  },
  batch_size_once: {
    ...count,
    default: 10,
    meaning: "requests of them that run together, longest first: their loss is one mean",
    source: HPARAMS,
  },
};

const OWN_FOLDER = "tokenizer and weights are those of the model's folder";

export const ultraeditWithoutEffect: Readonly<Record<string, string>> = {
  token:
    "the tokens of the target are edited, as in the authors' code; the released port's other ones are not made here",
  model_class: OWN_FOLDER,
  tokenizer_class: OWN_FOLDER,
  tokenizer_name: OWN_FOLDER,
  dropout: "edits are made without dropout",
  no_grad_layers: "gradients go down to the lowest edited layer",
  editor_batch_size: "no network is trained",
  silent: "the caller decides what is shown",
  half: "the precision is chosen with --precision",
  results_dir: "results are written where the caller says",
};

export const ultraeditPresets: Readonly<Record<string, Preset>> = {
  "llama-2-7b": { meaning: "LLaMA-2-7B: the released values of LLaMA-3-8B, which has as many layers", ours: true },
  "llama-3-8b": { meaning: "LLaMA-3-8B-Instruct as released" },
  "mistral-7b": { meaning: "Mistral-7B as released" },
  lab: { meaning: "the small LLaMA of the made-up world that comes with the project", ours: true },
  tiny: { meaning: "the four-layer golden checkpoint of the tests", ours: true },
};

/** The edited matrices, in their order. */
export function sitesOf({ inner_params }: Pick<UltraeditOptions, "inner_params">): Site[] {
  return sitesOfMatrices(inner_params);
}

export const ultraeditCheck: NonNullable<EditMethod<UltraeditOptions>["check"]> = (options, model, refuse) => {
  if (sitesOf(options).some(({ layer }) => layer >= model.layers)) refuse("inner_params", layersOf(model));
};
