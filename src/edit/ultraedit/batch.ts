import { takeTurn } from "../../core/errors.js";
import type { Tokenizer } from "../../model/tokenizer.js";
import type { EditControl, EditRequest, EditSetting } from "../contract.js";
import { forcedRow, sequencesOfRows, type TokenRow } from "../rows.js";
import { requireFinite } from "../steps.js";
import type { EditStep } from "../trace.js";
import { type Edits, patchOf, type Slot, shapeName } from "./edits.js";
import { seenBy } from "./pass.js";
import { joined, noSpread, type Pairs, type Spread, withPairs } from "./spread.js";

/** A request with its tokens, and its place among those of the call. */
export interface Item {
  place: number;
  record: number;
  row: TokenRow;
}

/** @throws {RefusedInput} for a blank target */
export function itemsOf(requests: readonly EditRequest[], tokenizer: Tokenizer): Item[] {
  return requests.map((request, place) => ({ place, record: request.record, row: forcedRow(request, tokenizer) }));
}

/** The batches in which requests change the matrices, in order, the longest of each first. */
export function batchesOf(items: readonly Item[], size: number): Item[][] {
  return partsOf(items, size).map((batch) => batch.sort((a, b) => b.row.ids.length - a.row.ids.length));
}

function partsOf<T>(all: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(all.length / size) }, (_, i) => all.slice(i * size, (i + 1) * size));
}

/** A micro-batch after its pass: the step of each of its edits, and what each matrix saw. */
export interface Seen {
  items: Item[];
  step: EditStep;
  pairs: Pairs[];
}

/** Surroundings of a batch. */
export interface BatchPlace {
  setting: EditSetting;
  slots: readonly Slot[];
  /** Edits that stand. */
  before: Edits;
  /** Requests of a micro-batch. */
  size: number;
}

/**
 * Runs a batch, micro-batch after micro-batch.
 * @returns what was seen, and the seconds of the frozen part
 * @throws {Interrupted} when the signal is aborted; {LabFailure} for a loss that is not finite
 */
export async function seeBatch(
  items: readonly Item[],
  { setting, slots, before, size }: BatchPlace,
  { signal, onStep }: EditControl = {},
): Promise<{ seen: Seen[]; frozen: number }> {
  const started = performance.now();
  const cuts = await setting.cuts.get(sequencesOfRows(items.map(({ row }) => row)), signal);
  const frozen = (performance.now() - started) / 1000;
  const standing = patchOf(slots, before.deltas);
  const sites = slots.map(({ site }) => site);
  const seen: Seen[] = [];
  for (const [i, part] of partsOf(items, size).entries()) {
    await takeTurn(signal, "an edit");
    const rows = part.map(({ row }) => row);
    const own = cuts.slice(i * size, (i + 1) * size);
    const { ce, pairs } = await seenBy({ model: setting.model, sites, rows, cuts: own, standing });
    const step: EditStep = { step: 0, loss: ce, terms: { ce }, numbers: {} };
    requireFinite(step, 0, "a smaller lr keeps it finite");
    seen.push({ items: part, step, pairs });
    for (const _ of part) onStep?.(step);
  }
  return { seen, frozen };
}

/** The inputs and gradients of a matrix in all of a batch. @param i its place among the matrices */
export function pairsOf(seen: readonly Seen[], i: number): Pairs {
  return joined(seen.map(({ pairs }) => pairs[i] as Pairs));
}

/** The normalisers with what a batch saw: micro-batch after micro-batch, the matrices in their order. */
export function spreadsWith(
  before: ReadonlyMap<string, Spread>,
  seen: readonly Seen[],
  slots: readonly Slot[],
): Map<string, Spread> {
  const spreads = new Map(before);
  for (const { pairs } of seen) {
    for (const [i, { shape }] of slots.entries()) {
      const name = shapeName(shape);
      const standing = spreads.get(name) ?? noSpread(shape[0] + shape[1]);
      spreads.set(name, withPairs(standing, pairs[i] as Pairs));
    }
  }
  return spreads;
}
