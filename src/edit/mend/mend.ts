import { throwIfAborted } from "../../core/errors.js";
import type { LlamaConfig } from "../../model/config.js";
import { batchCuts } from "../../model/cut.js";
import { cutBefore } from "../../model/patch.js";
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
import type { GradientFactors } from "../factors.js";
import { type Overlay, unrouted, untouched } from "../overlay.js";
import { sequencesOfRows } from "../rows.js";
import type { EditState } from "../state.js";
import { oneByOne, runSteps } from "../steps.js";
import type { EditTrace } from "../trace.js";
import { NETWORK, networkNeed } from "./archive.js";
import { copied, disposeHeld, type Held, loadedFrom, nothingHeld, patchOf, stateOf, withUpdate } from "./changes.js";
import { exampleOf } from "./example.js";
import { editGradient } from "./gradient.js";
import { type NetworkValues, networkShapes, type Slot, slotsOf, tensorsFor, updateOf } from "./network.js";
import {
  type MendOptions,
  mendCheck,
  mendFixed,
  mendOptions,
  mendPresets,
  mendVariants,
  mendWithoutEffect,
  sitesOf,
} from "./options.js";
import { trainMend } from "./train.js";

/** MEND (arXiv 2110.11309): a trained network turns the gradient of one edit into an update. */
export const mend = defineMethod<MendOptions>({
  name: "mend",
  title: "MEND",
  algName: "MEND",
  about: "takes the gradient of the target once, and adds the update that a trained network makes of it",
  source: "Mitchell et al. 2022, arXiv 2110.11309",
  options: mendOptions,
  variants: mendVariants,
  fixed: mendFixed,
  withoutEffect: mendWithoutEffect,
  presets: mendPresets,
  targetTerm: "ce",
  terms: { ce: "target" },
  check: mendCheck,
  plan: (options, config) => ({
    cut: cutBefore(sitesOf(options)),
    sites: [],
    needs: { templates: null, irrelevant: false, subject: false, assets: [networkNeed(options, config)] },
    style: PLAIN,
    together: 1,
    rows: (request, { tokenizer }) => [exampleOf(request, { tokenizer, options }).row],
    bytes: () => mendBytes(options, config),
  }),
  start: startMend,
  train: trainMend,
});

/**
 * Memory of edits, however many: factors are held only while they are smaller than the matrix that they add up to. The
 * network is there twice while it makes an update, as the file's values and on the device.
 */
export function mendBytes(options: MendOptions, config: LlamaConfig): EditBytes {
  const slots = slotsOf(options, config);
  const size = (shape: readonly number[]) => 4 * shape.reduce((product, extent) => product * extent, 1);
  const network = [...networkShapes(slots, options.rank).values()].reduce((sum, shape) => sum + size(shape), 0);
  const matrices = slots.map(({ inner, out }) => size([inner, out]));
  const held = matrices.reduce((sum, bytes) => sum + bytes, 0);
  return {
    kept: held + network,
    stepping: 0,
    reading: 0,
    working: held + Math.max(...matrices) + network,
    variants: 1,
  };
}

/** Edits with MEND, from the untouched model or from a state. */
export function startMend(options: MendOptions, setting: EditSetting, saved?: EditState): EditSession {
  const { model } = setting;
  const slots = slotsOf(options, model.config);
  const cut = setting.cuts.point;
  let edits = saved?.edits ?? 0;
  /** Updates of each matrix. */
  let held = saved === undefined ? slots.map(nothingHeld) : loadedFrom(saved, slots);

  async function edit(request: EditRequest, control: EditControl): Promise<EditTrace> {
    throwIfAborted(control.signal, "an edit");
    const started = performance.now();
    const example = exampleOf(request, { tokenizer: model.tokenizer, options });
    const cuts = await setting.cuts.get(sequencesOfRows([example.row]), control.signal);
    const batch = batchCuts(model, cuts, [example.row.promptTokens]);
    const frozen = (performance.now() - started) / 1000;
    let moved: Held[] = [];
    try {
      const standing = patchOf(slots, held);
      const { steps, stoppedEarly, seconds } = await runSteps(
        {
          limit: 1,
          async pass() {
            const { loss, factors } = await editGradient(model, { example, batch, slots, standing });
            const ce = (await loss.data<"float32">())[0] as number;
            return {
              report: { loss: ce, terms: { ce }, numbers: {} },
              move: () => {
                moved = slots.map((slot) => movedBy(slot, factors[slot.index] as GradientFactors));
              },
              dispose: () => tf.dispose([loss, factors.map(({ x, delta }) => [x, delta])]),
            };
          },
          settled: () => false,
          standing: async () => overlayOf(held),
          hint: "the network was trained for edits of another kind, or for fewer of them",
        },
        control,
      );
      disposeHeld(held);
      held = moved;
      edits += 1;
      return { record: request.record, steps, stoppedEarly, numbers: {}, seconds: { frozen, steps: seconds } };
    } finally {
      batch.dispose();
    }
  }

  /** The updates of a matrix with the one that the network makes of a gradient. */
  function movedBy(slot: Slot, factors: GradientFactors): Held {
    const own = held[slot.index] as Held;
    if (factors.x.shape[0] === 0) return copied(own);
    const network = tensorsFor(slot, setting.assets.get(NETWORK)?.value as NetworkValues);
    const update = updateOf(network, slot, factors);
    tf.dispose(network);
    const moved = withUpdate(own, update, slot);
    tf.dispose([update.left, update.right]);
    return moved;
  }

  function overlayOf(from: readonly Held[]): Overlay {
    const own = from.map(copied);
    return unrouted(cut, patchOf(slots, own), () => disposeHeld(own));
  }

  return {
    edit: oneByOne(edit),
    overlay: async () => (edits === 0 ? untouched(cut) : overlayOf(held)),
    state: async () => ({ edits, ...(await stateOf(slots, held)) }),
    dispose: () => disposeHeld(held),
  };
}
