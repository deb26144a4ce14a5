import type { LlamaModel } from "../../model/model.js";
import { cutBefore, type Site } from "../../model/patch.js";
import { PLAIN } from "../../model/prompt.js";
import { inPlaceOf } from "../../tensor/in-place.js";
import { tf } from "../../tensor/tf.js";
import { defineMethod, type EditMethod, type EditSession, type EditSetting } from "../contract.js";
import type { EditState } from "../state.js";
import { exampleOf, lossAndGradients, sitesOf } from "./objective.js";
import {
  type FtLOptions,
  type FtObjective,
  type FtOptions,
  ftCheck,
  ftFixed,
  ftLOptions,
  ftLPresets,
  ftLVariants,
  ftMOptions,
  ftMPresets,
} from "./options.js";
import { startTuning, type Tuning, type TuningEdit, type TuningStart, tuningBytes } from "./tuning.js";

/** An edit ends with a pass whose loss is under this (released: models/ft/ft_main.py). */
const SETTLED_LOSS = 1e-2;

/** FT-L: fine-tuning on the prompt alone. */
export const ftL = fineTuning<FtLOptions>("prompt_last", {
  name: "ft-l",
  title: "FT-L",
  about: "trains value matrices until the last position of the prompt predicts every token of the target",
  source: "Meng et al. 2022, arXiv 2202.05262",
  options: ftLOptions,
  variants: ftLVariants,
  presets: ftLPresets,
});

/** FT-M: fine-tuning on prompt and target, the loss masked to the target. */
export const ftM = fineTuning<FtOptions>("target_new", {
  name: "ft-m",
  title: "FT-M",
  about: "trains value matrices until each token of the target is predicted after the prompt and the tokens before it",
  source: "Zhang et al. 2024, arXiv 2401.01286",
  options: ftMOptions,
  presets: ftMPresets,
});

/** Fine-tuning with Adam under one objective (methods-tune.md "FT-L, FT-M"). */
function fineTuning<O extends FtOptions>(
  objective: FtObjective,
  own: Pick<EditMethod<O>, "name" | "title" | "about" | "source" | "options" | "variants" | "presets">,
): EditMethod {
  return defineMethod<O>({
    ...own,
    algName: "FT",
    fixed: ftFixed(objective),
    stepLimit: "num_steps",
    targetTerm: "ce",
    terms: { ce: "fine-tuning" },
    check: ftCheck as NonNullable<EditMethod<O>["check"]>,
    plan: (options, config) => ({
      cut: cutBefore(sitesOf(options)),
      sites: options.weight_decay === 0 ? [] : sitesOf(options),
      needs: { templates: null, irrelevant: false, subject: false, assets: [] },
      style: PLAIN,
      together: 1,
      rows: (request, { tokenizer }) => [exampleOf(objective, request, { tokenizer, options }).row],
      bytes: () => tuningBytes(options, config),
    }),
    start: (options, setting, saved) => startFt({ objective, options }, setting, saved),
  });
}

/** Edits with FT-L or FT-M, from the untouched model or from a state. */
export function startFt(given: FtGiven, setting: EditSetting, saved?: EditState): EditSession {
  return startTuning(ftTuning(given, setting.model), setting, saved);
}

interface FtGiven {
  objective: FtObjective;
  options: FtOptions & Partial<FtLOptions>;
}

function ftTuning({ objective, options }: FtGiven, model: LlamaModel): Tuning {
  return {
    options,
    remembers: 0,
    example: (request) => exampleOf(objective, request, { tokenizer: model.tokenizer, options }),
    begin: async (edit) => beginFt(edit, options),
  };
}

/** Cross entropy with weight decay in its gradient, every entry within norm_constraint of what it was. */
function beginFt({ problem, deltas: starts }: TuningStart, { weight_decay, norm_constraint }: FtOptions): TuningEdit {
  const { model, sites } = problem;

  /** gradient + weight_decay (W + delta) of the i-th site, which takes the gradient over. [D, M] */
  function decayed(gradient: tf.Tensor2D, i: number, delta: tf.Tensor2D): tf.Tensor2D {
    if (weight_decay === 0) return gradient;
    const main = model.matrix(sites[i] as Site);
    const decay = () => inPlaceOf(tf.add(main, delta), (edited) => tf.mul(edited, weight_decay));
    return tf.tidy(() => inPlaceOf(gradient, (own) => tf.add(own, decay())));
  }

  return {
    async pass(deltas) {
      const { loss, gradients } = lossAndGradients(problem, deltas);
      const [ce] = (await loss.data<"float32">()) as unknown as [number];
      loss.dispose();
      return {
        report: { loss: ce, terms: { ce }, numbers: {} },
        gradients: gradients.map((gradient, i) => decayed(gradient, i, deltas[i] as tf.Tensor2D)),
      };
    },
    settled: ({ loss }) => loss < SETTLED_LOSS,
    bounded(moved, i) {
      if (norm_constraint === null) return moved;
      const start = starts[i] as tf.Tensor2D;
      return inPlaceOf(moved, (x) => {
        return tf.tidy(() => tf.add(start, tf.clipByValue(tf.sub(x, start), -norm_constraint, norm_constraint)));
      });
    },
    hint: "a smaller lr or a norm_constraint keeps it finite",
    dispose: () => {},
  };
}
