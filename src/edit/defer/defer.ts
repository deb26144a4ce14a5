import { throwIfAborted } from "../../core/errors.js";
import type { LlamaConfig } from "../../model/config.js";
import { batchCuts, type Cut, logitsAt, mainOutput } from "../../model/cut.js";
import { outputChange, type Patch, type Site } from "../../model/patch.js";
import { PLAIN } from "../../model/prompt.js";
import { linear } from "../../model/weight.js";
import { tf } from "../../tensor/tf.js";
import {
  defineMethod,
  type EditBytes,
  type EditControl,
  type EditRequest,
  type EditSession,
  type EditSetting,
} from "../contract.js";
import { descend } from "../descent.js";
import { crossEntropy, oneHotTargets, targetsOf } from "../loss.js";
import { type Overlay, untouched } from "../overlay.js";
import { forcedRow, type TokenRow } from "../rows.js";
import type { EditState } from "../state.js";
import { oneByOne, type StepReport } from "../steps.js";
import type { EditTrace } from "../trace.js";
import {
  drawModule,
  type Module,
  mixedChange,
  moduleMatrix,
  moduleOfState,
  moduleOutput,
  storedModule,
  withOne,
} from "./module.js";
import { type DeferOptions, deferCheck, deferOptions, deferPresets } from "./options.js";
import { deferOverlay, deferRouter, lastInputs } from "./reading.js";

/** DEFER (arXiv 2211.11031, after SERAC, arXiv 2206.06520): a gate beside one value matrix, and a value where it opens. */
export const defer = defineMethod<DeferOptions>({
  name: "defer",
  title: "DEFER",
  algName: "DEFER",
  about:
    "trains a gate and a value beside one value matrix; where the gate opens, the value stands in for the matrix' output",
  source: "a baseline of Hartvigsen et al. 2023, arXiv 2211.11031, after Mitchell et al. 2022, arXiv 2206.06520",
  options: deferOptions,
  presets: deferPresets,
  stepLimit: "n_iter",
  targetTerm: "ce",
  terms: { ce: "fine-tuning" },
  measured: {
    title: "gate",
    names: { gate: "at the target's last token" },
    guides: ({ threshold }) => [{ name: "threshold", value: threshold, kind: "threshold" }],
  },
  router: deferRouter,
  check: deferCheck,
  plan: ({ layer }, config) => ({
    cut: { layer, at: "mlpIn" },
    sites: [],
    needs: { templates: null, irrelevant: false, subject: false, assets: [] },
    style: PLAIN,
    together: 1,
    rows: (request, { tokenizer }) => [forcedRow(request, tokenizer)],
    bytes: () => deferBytes(config),
  }),
  start: (options, setting, saved) => startDefer(options, setting, saved && { saved }),
});

/** Copies of the module beside the one kept: that which moves; and, while it does, that after it and both sides of the step. */
const STEPPING = 1;
const MOVING = 3;

/** Memory of edits, however many: one module is kept. Its gradients are outer products, and never take its size. */
export function deferBytes({ hiddenSize: D, intermediateSize: M }: LlamaConfig): EditBytes {
  const kept = 4 * (D + 1) * (M + 1);
  return { kept, stepping: STEPPING * kept, reading: 0, working: (STEPPING + MOVING) * kept, variants: 1 };
}

/** A state to go on from, and a module that matches another run. */
export interface DeferGiven {
  saved?: EditState;
  /** Module before the first edit; drawn, when left out. */
  start?: Module;
}

/** Edits with DEFER, from the untouched model or from a state. */
export function startDefer(options: DeferOptions, setting: EditSetting, given: DeferGiven = {}): EditSession {
  const { model } = setting;
  const { saved, start = drawModule(model.config, setting.rng) } = given;
  let edits = saved?.edits ?? 0;
  let module = moduleMatrix(saved === undefined ? start : moduleOfState(saved, model.config), model.config);

  async function edit(request: EditRequest, control: EditControl): Promise<EditTrace> {
    throwIfAborted(control.signal, "an edit");
    const started = performance.now();
    const row = forcedRow(request, model.tokenizer);
    const [cut] = (await setting.cuts.get([row.ids], control.signal)) as [Cut];
    const problem = createProblem(setting, options, { row, cut });
    const frozen = (performance.now() - started) / 1000;
    try {
      const { moved, taken } = await descend(
        [module],
        {
          lr: options.edit_lr,
          limit: options.n_iter,
          along: problem.input,
          pass: problem.pass,
          standing: async ([at]) => overlayOf(at as tf.Tensor2D),
          hint: "a smaller edit_lr keeps it finite",
        },
        control,
      );
      module.dispose();
      [module] = moved as [tf.Tensor2D];
      edits += 1;
      const { steps, stoppedEarly, seconds } = taken;
      return { record: request.record, steps, stoppedEarly, numbers: {}, seconds: { frozen, steps: seconds } };
    } finally {
      problem.dispose();
    }
  }

  function overlayOf(from: tf.Tensor2D): Overlay {
    return deferOverlay(from.clone(), options);
  }

  return {
    edit: oneByOne(edit),
    overlay: async () => (edits === 0 ? untouched({ layer: options.layer, at: "mlpIn" }) : overlayOf(module)),
    state: async () => ({ edits, tensors: await storedModule(module), json: null }),
    dispose: () => module.dispose(),
  };
}

/** Everything of one edit that is the same at each of its steps. */
function createProblem(
  { model }: Pick<EditSetting, "model">,
  { layer }: Pick<DeferOptions, "layer">,
  { row, cut }: { row: TokenRow; cut: Cut },
) {
  const site: Site = { layer, matrix: "down" };
  const { spots, ids, weights } = targetsOf([row]);
  const batch = batchCuts(model, [cut], [row.promptTokens]);
  const made = {
    main: tf.tidy(() => mainOutput(model, batch)), // [T, D]
    targets: oneHotTargets(ids, model.config.vocabSize),
    weights: tf.tensor1d(weights),
    input: tf.tidy(() => withOne(lastInputs(batch))), // [1, M + 1]
  };

  /**
   * Mean of -log P over the target tokens, in nats, and the gate at the last token. The gradient is that of the module's
   * output, [1, D + 1]: the module's own is its outer product with the input.
   */
  async function pass([module]: readonly tf.Tensor2D[]): Promise<{ report: StepReport; gradients: tf.Tensor[] }> {
    const { value, grad, gates } = tf.tidy(() => {
      const product = linear(made.input, module as tf.Tensor2D);
      const loss = (at: tf.Tensor): tf.Scalar => {
        const patch: Patch = [
          { site, change: outputChange(made.main) },
          { site, change: mixedChange(moduleOutput(at as tf.Tensor2D)) },
        ];
        return crossEntropy(logitsAt(model, batch, { patch, spots }), made.targets, made.weights);
      };
      return { ...tf.valueAndGrad(loss)(product), gates: moduleOutput(product).gates };
    });
    const [losses, opened] = await Promise.all([value.data<"float32">(), gates.data<"float32">()]);
    tf.dispose([value, gates]);
    const [ce, gate] = [losses[0] as number, opened[0] as number];
    return { report: { loss: ce, terms: { ce }, numbers: { gate } }, gradients: [grad] };
  }

  return {
    input: made.input,
    pass,
    dispose: () => {
      batch.dispose();
      tf.dispose(Object.values(made));
    },
  };
}
