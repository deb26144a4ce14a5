import { throwIfAborted } from "../../core/errors.js";
import type { LlamaConfig } from "../../model/config.js";
import { batchCuts } from "../../model/cut.js";
import { cutBefore, type Site, siteName } from "../../model/patch.js";
import { PLAIN } from "../../model/prompt.js";
import { tf } from "../../tensor/tf.js";
import { createAdam } from "../adam.js";
import {
  defineMethod,
  type EditBytes,
  type EditControl,
  type EditMethod,
  type EditRequest,
  type EditSession,
  type EditSetting,
} from "../contract.js";
import { type Overlay, unrouted, untouched } from "../overlay.js";
import { sequencesOfRows } from "../rows.js";
import { type EditState, type StateTensor, stateTensor } from "../state.js";
import { oneByOne, runSteps, type StepsTaken } from "../steps.js";
import type { EditTrace } from "../trace.js";
import { createProblem, exampleOf, type FtProblem, lossAndGradients, patchOf, sitesOf } from "./objective.js";
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
      bytes: () => ftBytes(options, config),
    }),
    start: (options, setting, saved) => startFt({ objective, options }, setting, saved),
  });
}

/** At a step, of each layer: the delta that moves, its gradient, and the two moments of Adam. */
const OF_A_STEP = 4;
/** Those that a step of Adam makes on its way (adam.ts), one layer after another; the gradient with its decay is one more. */
const OF_A_MOVE = 4;

/** Float32 matrices that fine-tuning edits take, however many edits: one per layer is kept. */
export function ftBytes(
  { layers, weight_decay }: FtOptions,
  { hiddenSize, intermediateSize }: Pick<LlamaConfig, "hiddenSize" | "intermediateSize">,
): EditBytes {
  const matrix = 4 * hiddenSize * intermediateSize;
  const stepping = matrix * layers.length * OF_A_STEP;
  const working = stepping + matrix * (OF_A_MOVE + (weight_decay === 0 ? 0 : 1));
  return { kept: matrix * layers.length, stepping, reading: 0, working, variants: 1 };
}

/** Edits by fine-tuning, from the untouched model or from a state. */
export function startFt(
  { objective, options }: { objective: FtObjective; options: FtOptions & Partial<FtLOptions> },
  setting: EditSetting,
  saved?: EditState,
): EditSession {
  const { model } = setting;
  const { lr, num_steps, weight_decay, norm_constraint } = options;
  const shape: [number, number] = [model.config.hiddenSize, model.config.intermediateSize];
  const sites = sitesOf(options);
  const cut = cutBefore(sites);
  let edits = saved?.edits ?? 0;
  /** W' - W of each site, [D, M]. */
  let deltas = saved === undefined ? sites.map(() => tf.zeros<tf.Rank.R2>(shape)) : loaded(saved);

  async function edit(request: EditRequest, control: EditControl): Promise<EditTrace> {
    throwIfAborted(control.signal, "an edit");
    const started = performance.now();
    const example = exampleOf(objective, request, { tokenizer: model.tokenizer, options });
    const cuts = await setting.cuts.get(sequencesOfRows([example.row]), control.signal);
    const problem = createProblem(model, options, example, batchCuts(model, cuts, [example.row.promptTokens]));
    const frozen = (performance.now() - started) / 1000;
    try {
      const { moved, taken } = await optimise(problem, control);
      tf.dispose(deltas);
      deltas = moved;
      edits += 1;
      const { steps, stoppedEarly, seconds } = taken;
      return { record: request.record, steps, stoppedEarly, numbers: {}, seconds: { frozen, steps: seconds } };
    } finally {
      problem.dispose();
    }
  }

  /** Runs the steps of one edit from the deltas as they stand, which stay, each layer with an Adam of its own. */
  async function optimise(
    problem: FtProblem,
    control: EditControl,
  ): Promise<{ moved: tf.Tensor2D[]; taken: StepsTaken }> {
    const moved = deltas.map((delta) => delta.clone());
    const adams = deltas.map(() => createAdam(lr));
    try {
      const taken = await runSteps(
        {
          limit: num_steps,
          async pass() {
            const { loss, gradients } = lossAndGradients(problem, moved);
            const ce = (await loss.data<"float32">())[0] as number;
            const move = () => {
              for (const [i, adam] of adams.entries()) {
                const before = moved[i] as tf.Tensor2D;
                const gradient = decayed(i, { gradient: gradients[i] as tf.Tensor2D, delta: before });
                const free = adam.step(before, gradient) as tf.Tensor2D;
                moved[i] = clamped(free, deltas[i] as tf.Tensor2D);
                tf.dispose([before, gradient, free]);
              }
            };
            const report = { loss: ce, terms: { ce }, numbers: {} };
            return { report, move, dispose: () => tf.dispose([loss, ...gradients]) };
          },
          settled: ({ loss }) => loss < SETTLED_LOSS,
          standing: async () => overlayOf(moved),
          hint: "a smaller lr or a norm_constraint keeps it finite",
        },
        control,
      );
      return { moved, taken };
    } catch (error) {
      tf.dispose(moved);
      throw error;
    } finally {
      for (const adam of adams) adam.dispose();
    }
  }

  /** gradient + weight_decay (W + delta) of the i-th site, in a tensor of its own. [D, M] */
  function decayed(i: number, { gradient, delta }: { gradient: tf.Tensor2D; delta: tf.Tensor2D }): tf.Tensor2D {
    if (weight_decay === 0) return gradient.clone();
    const main = model.matrix(sites[i] as Site);
    return tf.tidy(() => tf.add(gradient, tf.mul(tf.add(main, delta), weight_decay)));
  }

  /** A delta, every entry within norm_constraint of what it was when the edit began, in a tensor of its own. [D, M] */
  function clamped(delta: tf.Tensor2D, start: tf.Tensor2D): tf.Tensor2D {
    if (norm_constraint === null) return delta.clone();
    return tf.tidy(() => tf.add(start, tf.clipByValue(tf.sub(delta, start), -norm_constraint, norm_constraint)));
  }

  function overlayOf(from: readonly tf.Tensor2D[]): Overlay {
    const held = from.map((delta) => delta.clone());
    return unrouted(cut, patchOf(sites, held), () => tf.dispose(held));
  }

  function loaded(from: EditState): tf.Tensor2D[] {
    const values = sites.map((site) => stateTensor(from, siteName(site), shape)); // all proved before the first is made
    return values.map((delta) => tf.tensor2d(delta, shape));
  }

  return {
    edit: oneByOne(edit),
    overlay: async () => (edits === 0 ? untouched(cut) : overlayOf(deltas)),
    async state() {
      const tensors: Record<string, StateTensor> = {};
      for (const [i, site] of sites.entries()) {
        tensors[siteName(site)] = { shape, data: await (deltas[i] as tf.Tensor2D).data<"float32">() };
      }
      return { edits, tensors, json: null };
    },
    dispose: () => tf.dispose(deltas),
  };
}
