import { throwIfAborted } from "../../core/errors.js";
import type { LlamaConfig } from "../../model/config.js";
import { batchCuts, type Cut, logitsAt, mainOutput } from "../../model/cut.js";
import { outputChange, type Patch, type Site } from "../../model/patch.js";
import { PLAIN } from "../../model/prompt.js";
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
  gateOf,
  loadedModule,
  type Module,
  mixedChange,
  moduleOf,
  moduleOfState,
  shapesOf,
  storedModule,
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

/** Of the module, at a step: itself as it moves, its gradient, two moments; and those that a move makes on its way. */
const OF_A_STEP = 4;
const OF_A_MOVE = 4;

/** Memory of edits, however many: one module is kept. */
export function deferBytes(config: LlamaConfig): EditBytes {
  const kept = 4 * Object.values(shapesOf(config)).reduce((sum, [rows, columns]) => sum + rows * columns, 0);
  return { kept, stepping: OF_A_STEP * kept, reading: 0, working: (OF_A_STEP + OF_A_MOVE) * kept, variants: 1 };
}

/** A state to go on from, and a module that matches another run. */
export interface DeferGiven {
  saved?: EditState;
  /** Module before the first edit; drawn, when left out. */
  start?: Module<Float32Array>;
}

/** Edits with DEFER, from the untouched model or from a state. */
export function startDefer(options: DeferOptions, setting: EditSetting, given: DeferGiven = {}): EditSession {
  const { model } = setting;
  const { saved, start = drawModule(model.config, setting.rng) } = given;
  let edits = saved?.edits ?? 0;
  let parts = loadedModule(saved === undefined ? start : moduleOfState(saved, model.config), model.config);

  async function edit(request: EditRequest, control: EditControl): Promise<EditTrace> {
    throwIfAborted(control.signal, "an edit");
    const started = performance.now();
    const row = forcedRow(request, model.tokenizer);
    const [cut] = (await setting.cuts.get([row.ids], control.signal)) as [Cut];
    const problem = createProblem(setting, options, { row, cut });
    const frozen = (performance.now() - started) / 1000;
    try {
      const { moved, taken } = await descend(
        parts,
        {
          lr: options.edit_lr,
          limit: options.n_iter,
          pass: problem.pass,
          standing: async (at) => overlayOf(at),
          hint: "a smaller edit_lr keeps it finite",
        },
        control,
      );
      tf.dispose(parts);
      parts = moved;
      edits += 1;
      const { steps, stoppedEarly, seconds } = taken;
      return { record: request.record, steps, stoppedEarly, numbers: {}, seconds: { frozen, steps: seconds } };
    } finally {
      problem.dispose();
    }
  }

  function overlayOf(from: readonly tf.Tensor2D[]): Overlay {
    return deferOverlay(moduleOf(from.map((part) => part.clone())), options);
  }

  return {
    edit: oneByOne(edit),
    overlay: async () => (edits === 0 ? untouched({ layer: options.layer, at: "mlpIn" }) : overlayOf(parts)),
    state: async () => ({ edits, tensors: await storedModule(parts), json: null }),
    dispose: () => tf.dispose(parts),
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
    q: tf.tidy(() => lastInputs(batch)), // [1, M]
  };

  /** Mean of -log P over the target tokens, in nats, with its gradients, and the gate at the last token. */
  async function pass(at: readonly tf.Tensor2D[]): Promise<{ report: StepReport; gradients: tf.Tensor2D[] }> {
    const { value, grads } = tf.tidy(() =>
      tf.valueAndGrads((...parts) => {
        const change = mixedChange(moduleOf(parts as tf.Tensor2D[]), made.q);
        const patch: Patch = [
          { site, change: outputChange(made.main) },
          { site, change },
        ];
        return crossEntropy(logitsAt(model, batch, { patch, spots }), made.targets, made.weights);
      })([...at]),
    );
    const opened = gateOf(made.q, moduleOf(at));
    const [loss, gates] = await Promise.all([value.data<"float32">(), opened.data<"float32">()]);
    tf.dispose([value, opened]);
    const [ce, gate] = [loss[0] as number, gates[0] as number];
    return { report: { loss: ce, terms: { ce }, numbers: { gate } }, gradients: grads as tf.Tensor2D[] };
  }

  return {
    pass,
    dispose: () => {
      batch.dispose();
      tf.dispose(Object.values(made));
    },
  };
}
