import { takeTurn, throwIfAborted } from "../../core/errors.js";
import type { LlamaConfig } from "../../model/config.js";
import { cutBefore } from "../../model/patch.js";
import { PLAIN } from "../../model/prompt.js";
import {
  defineMethod,
  type EditBytes,
  type EditControl,
  type EditRequest,
  type EditSession,
  type EditSetting,
} from "../contract.js";
import { unrouted, untouched } from "../overlay.js";
import { forcedRow } from "../rows.js";
import type { EditState } from "../state.js";
import type { EditTrace } from "../trace.js";
import { batchesOf, type Item, itemsOf, pairsOf, seeBatch, spreadsWith } from "./batch.js";
import { type Delta, deltaSize, type Shape, withFactors } from "./deltas.js";
import {
  disposeDeltas,
  type Edits,
  loadedEdits,
  NO_EDITS,
  patchOf,
  shapeName,
  shapesOf,
  slotsOf,
  storedEdits,
} from "./edits.js";
import {
  sitesOf,
  type UltraeditOptions,
  ultraeditCheck,
  ultraeditOptions,
  ultraeditPresets,
  ultraeditWithoutEffect,
} from "./options.js";
import type { Spread } from "./spread.js";
import { factorsOf } from "./update.js";

/** UltraEdit (arXiv 2505.14679): one backward pass for many requests, and one closed form for each matrix. */
export const ultraedit = defineMethod<UltraeditOptions>({
  name: "ultraedit",
  title: "UltraEdit",
  algName: "ULTRAEDIT",
  about: "changes matrices by one closed form over the normalised gradients of many edits, without training",
  source: "Gu et al. 2025, arXiv 2505.14679",
  options: ultraeditOptions,
  withoutEffect: ultraeditWithoutEffect,
  presets: ultraeditPresets,
  targetTerm: "ce",
  terms: { ce: "target" },
  check: ultraeditCheck,
  plan: (options, config) => ({
    cut: cutBefore(sitesOf(options)),
    sites: [],
    needs: { templates: null, irrelevant: false, subject: false, assets: [] },
    style: PLAIN,
    together: "block",
    inStep: Math.min(options.batch_size_once, options.batch_size),
    rows: (request, { tokenizer }) => [forcedRow(request, tokenizer)],
    bytes: (edits, targets) => ultraeditBytes(options, config, { edits, targets }),
  }),
  start: startUltraedit,
});

/** Memory of a block. A batch is taken to have its share of the block's target tokens. */
export function ultraeditBytes(
  options: UltraeditOptions,
  config: LlamaConfig,
  { edits, targets }: { edits: number; targets: number },
): EditBytes {
  const slots = slotsOf(sitesOf(options), config);
  const shapes = slots.map(({ shape }) => shape);
  const sumOf = (of: Iterable<Shape>, size: (shape: Shape) => number) =>
    [...of].reduce((sum, shape) => sum + size(shape), 0);
  const ends = ([out, inner]: Shape) => out + inner;
  const n = Math.ceil(targets * Math.min(1, options.batch_size / edits));
  const spreads = 2 * 4 * sumOf(shapesOf(slots).values(), ends);
  const deltas = 4 * sumOf(shapes, (shape) => deltaSize(targets, shape));
  const pairs = 4 * n * sumOf(shapes, ends);
  const solving = Math.max(...shapes.map((shape) => solvingBytes(n, shape)));
  return {
    kept: deltas + spreads,
    stepping: pairs,
    reading: 0,
    working: 2 * deltas + spreads + pairs + solving, // beside the kept ones, those before a batch and after it
    variants: 1,
  };
}

/** Arrays that the change of one matrix by n tokens is made in: in float64 but for the factors and their product. */
function solvingBytes(n: number, [out, inner]: Shape): number {
  const system = 8 * Math.min(n, inner) ** 2;
  const inputs = 8 * 4 * n * inner; // and solutions, each also turned
  return 8 * n * out + inputs + system + 4 * (n * (out + inner) + out * inner);
}

/** Edits with UltraEdit, from the untouched model or from a state. */
export function startUltraedit(options: UltraeditOptions, setting: EditSetting, saved?: EditState): EditSession {
  const { model, cuts } = setting;
  const slots = slotsOf(sitesOf(options), model.config);
  let edits = saved === undefined ? NO_EDITS : loadedEdits(slots, saved);

  async function edit(requests: readonly EditRequest[], control: EditControl = {}): Promise<EditTrace[]> {
    throwIfAborted(control.signal, "an edit");
    const traces: EditTrace[] = [];
    let after = edits;
    const replace = (by: Edits) => {
      if (after !== edits) disposeDeltas(after.deltas);
      after = by;
    };
    try {
      for (const batch of batchesOf(itemsOf(requests, model.tokenizer), options.batch_size)) {
        replace(await withBatch(after, batch, { control, traces }));
      }
    } catch (error) {
      replace(edits);
      throw error;
    }
    if (after !== edits) disposeDeltas(edits.deltas);
    edits = after;
    return traces;
  }

  /** The edits with a batch more, in tensors of their own. @param traces takes those of its requests, each in its place */
  async function withBatch(
    before: Edits,
    items: readonly Item[],
    { control, traces }: { control: EditControl; traces: EditTrace[] },
  ): Promise<Edits> {
    const started = performance.now();
    const place = { setting, slots, before, size: options.batch_size_once };
    const { seen, frozen } = await seeBatch(items, place, control);
    const spreads = spreadsWith(before.spreads, seen, slots);
    const deltas: Delta[] = [];
    try {
      for (const [i, { shape }] of slots.entries()) {
        await takeTurn(control.signal, "an edit");
        const factors = factorsOf(pairsOf(seen, i), spreads.get(shapeName(shape)) as Spread, options.lr);
        deltas.push(withFactors(before.deltas[i] ?? null, factors));
      }
    } catch (error) {
      disposeDeltas(deltas);
      throw error;
    }
    const seconds = (performance.now() - started) / 1000;
    const share = { frozen: frozen / items.length, steps: (seconds - frozen) / items.length };
    for (const micro of seen) {
      for (const { place, record } of micro.items) {
        traces[place] = { record, steps: [micro.step], stoppedEarly: false, numbers: {}, seconds: share };
      }
    }
    const tokens = before.tokens + pairsOf(seen, 0).n;
    return { count: before.count + items.length, tokens, deltas, spreads };
  }

  return {
    edit,
    async overlay() {
      if (edits.count === 0) return untouched(cuts.point);
      const held = edits.deltas.map((delta) => delta.map((part) => part.clone()) as unknown as Delta);
      return unrouted(cuts.point, patchOf(slots, held), () => disposeDeltas(held));
    },
    state: () => storedEdits(slots, edits),
    dispose: () => disposeDeltas(edits.deltas),
  };
}
