import { throwIfAborted } from "../../core/errors.js";
import type { LlamaConfig } from "../../model/config.js";
import type { Cut } from "../../model/cut.js";
import { cutBefore } from "../../model/patch.js";
import { PLAIN } from "../../model/prompt.js";
import { tf } from "../../tensor/tf.js";
import { createAdam } from "../adam.js";
import {
  defineMethod,
  type EditBytes,
  type EditControl,
  type EditRequest,
  type EditSession,
  type EditSetting,
} from "../contract.js";
import { type Overlay, unrouted, untouched } from "../overlay.js";
import { forcedRow } from "../rows.js";
import { type EditState, type StateTensor, stateTensor } from "../state.js";
import { oneByOne, type Pass, runSteps, type StepsTaken } from "../steps.js";
import type { EditStep, EditTrace } from "../trace.js";
import { drawFactors, type Factor, joined, layoutOf, type Pair, pairsOf, patchOf, sitesOf } from "./factors.js";
import { createProblem, dropout, type LoraProblem, orthogonalTerm, type Term, targetTerm } from "./objective.js";
import {
  type LoraOptions,
  loraCheck,
  loraFixed,
  loraOptions,
  loraPresets,
  loraSettle,
  loraVariants,
} from "./options.js";

/** LoRA (arXiv 2106.09685): two small factors beside each matrix, trained in its place. */
export const lora = defineMethod<LoraOptions>({
  name: "lora",
  title: "LoRA",
  algName: "LoRA",
  about: "trains small factors beside matrices of many layers; every edit goes on with those of the last one",
  source: "Hu et al. 2021, arXiv 2106.09685; as an editor Zhang et al. 2024, arXiv 2401.01286",
  options: loraOptions,
  variants: loraVariants,
  fixed: loraFixed,
  presets: loraPresets,
  stepLimit: "num_steps",
  targetTerm: "ce",
  terms: { ce: "fine-tuning", orth: "orthogonality" },
  check: loraCheck,
  settle: loraSettle,
  plan: (options, config) => ({
    cut: cutBefore(sitesOf(options, config)),
    sites: [],
    needs: { templates: null, irrelevant: false, subject: false, assets: [] },
    style: PLAIN,
    together: 1,
    rows: (request, { tokenizer }) => [forcedRow(request, tokenizer)],
    bytes: () => loraBytes(options, config),
  }),
  start: startLora,
});

/** Of all factors, at a step: those that move, two moments; cut up, and as changes; and the gradients on their way back. */
const OF_A_STEP = 9;
/** While Adam moves them: those, two moments, the gradient, and what it makes on its way; the decay is one more. */
const OF_A_MOVE = 8;

/** Vectors of all factors that edits take, however many edits: one is kept. All in float32. */
export function loraBytes(options: LoraOptions, config: LlamaConfig): EditBytes {
  const { factors, size } = layoutOf(options, config);
  const vector = 4 * size;
  return {
    kept: vector,
    stepping: vector * OF_A_STEP,
    perToken: 4 * factors.reduce((sum, factor) => sum + besideProducts(factor, options), 0),
    reading: vector,
    working: vector * (OF_A_MOVE + (options.weight_decay === 0 ? 0 : 1)),
    variants: 1,
  };
}

/** Numbers beside a matrix' own product, for one token: the input dropped and its mask; two products and their gradients. */
function besideProducts({ kind, shape: [rows, columns] }: Factor, { lora_dropout }: LoraOptions): number {
  if (kind === "A") return (lora_dropout === 0 ? 0 : 2 * columns) + 2 * rows;
  return kind === "B" ? 2 * rows : 0;
}

/** Edits with LoRA: from the untouched model with factors that are drawn, or from a state. */
export function startLora(options: LoraOptions, setting: EditSetting, saved?: EditState): EditSession {
  const { model, rng } = setting;
  const layout = layoutOf(options, model.config);
  const cut = cutBefore(layout.sites);
  let edits = saved?.edits ?? 0;
  /** All factors, [P]. */
  let vector = joined(layout, saved === undefined ? drawFactors(layout, rng) : loaded(saved));

  async function edit(request: EditRequest, control: EditControl): Promise<EditTrace> {
    throwIfAborted(control.signal, "an edit");
    const started = performance.now();
    const row = forcedRow(request, model.tokenizer);
    const [from] = (await setting.cuts.get([row.ids], control.signal)) as [Cut];
    const problem = createProblem(model, layout, { row, cut: from });
    const frozen = (performance.now() - started) / 1000;
    try {
      const { moved, taken } = await optimise(problem, control);
      vector.dispose();
      vector = moved;
      edits += 1;
      const { steps, stoppedEarly, seconds } = taken;
      return { record: request.record, steps, stoppedEarly, numbers: {}, seconds: { frozen, steps: seconds } };
    } finally {
      problem.dispose();
    }
  }

  /** Runs the steps of one edit from the factors as they stand, which stay. */
  async function optimise(
    problem: LoraProblem,
    control: EditControl,
  ): Promise<{ moved: tf.Tensor1D; taken: StepsTaken }> {
    const adam = createAdam(options.lr);
    let moved = vector.clone();
    const move = (gradient: tf.Tensor1D) => {
      const before = moved;
      moved = tf.tidy(() => adam.step(before, decayed(gradient, before)) as tf.Tensor1D);
      before.dispose();
    };
    try {
      const taken = await runSteps(
        {
          limit: options.num_steps,
          async pass(step): Promise<Pass> {
            const { terms, gradient } = await passAt(problem, moved, step);
            const loss = Object.values(terms).reduce((sum, term) => sum + term, 0);
            return {
              report: { loss, terms, numbers: {} },
              move: () => move(gradient),
              dispose: () => gradient.dispose(),
            };
          },
          settled: () => false,
          standing: async () => overlayOf(moved),
          hint: "a smaller lr keeps it finite",
        },
        control,
      );
      return { moved, taken };
    } catch (error) {
      moved.dispose();
      throw error;
    } finally {
      adam.dispose();
    }
  }

  /** The loss and its gradient where the factors stand. released: the penalty ends with the first edit. */
  async function passAt(
    problem: LoraProblem,
    at: tf.Tensor1D,
    step: number,
  ): Promise<{ terms: EditStep["terms"]; gradient: tf.Tensor1D }> {
    const { lora_dropout, orth_reg_weight, orth_first_only } = options;
    const drop = dropout(lora_dropout, rng.fork("dropout", edits, step));
    const found: Record<string, Term> = { ce: targetTerm(problem, at, drop) };
    const penalised = orth_reg_weight > 0 && (edits === 0 || !orth_first_only);
    if (penalised) found.orth = orthogonalTerm(layout, at, orth_reg_weight);
    const terms: EditStep["terms"] = {};
    for (const [name, { value }] of Object.entries(found)) terms[name] = (await value.data<"float32">())[0] as number;
    const gradient = tf.addN(Object.values(found).map((term) => term.gradient));
    tf.dispose(found as never);
    return { terms, gradient };
  }

  /** gradient + weight_decay times the factors. [P] */
  function decayed(gradient: tf.Tensor1D, at: tf.Tensor1D): tf.Tensor1D {
    if (options.weight_decay === 0) return gradient;
    return tf.tidy(() => tf.add(gradient, tf.mul(at, options.weight_decay)));
  }

  function overlayOf(from: tf.Tensor1D): Overlay {
    const pairs = tf.tidy(() => pairsOf(layout, from) as never) as Pair[];
    return unrouted(cut, patchOf(layout, pairs), () => tf.dispose(pairs as never));
  }

  function loaded(from: EditState): Float32Array[] {
    return layout.factors.map(({ name, shape }) => stateTensor(from, name, shape));
  }

  return {
    edit: oneByOne(edit),
    overlay: async () => (edits === 0 ? untouched(cut) : overlayOf(vector)),
    async state() {
      const all = await vector.data<"float32">();
      const tensors: Record<string, StateTensor> = {};
      let at = 0;
      for (const { name, shape } of layout.factors) {
        const size = shape[0] * shape[1];
        tensors[name] = { shape, data: all.slice(at, at + size) };
        at += size;
      }
      return { edits, tensors, json: null };
    },
    dispose: () => vector.dispose(),
  };
}
