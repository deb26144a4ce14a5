import { z } from "zod";
import { RefusedInput } from "../../core/errors.js";
import type { LlamaConfig } from "../../model/config.js";
import { type EditState, stateTensor } from "../state.js";
import type { GraceOptions } from "./options.js";

/** One entry of the codebook. */
export interface Entry {
  /** Input of the value matrix at the key token, [M]. */
  key: Float32Array;
  /** Stand-in for the output of the value matrix, [D]. */
  value: Float32Array;
  /** Largest distance from the key at which the value answers. */
  radius: number;
  label: Label;
}

/** The edit that an entry was made for. */
export interface Label {
  /** Those of the target. */
  tokens: readonly number[];
  promptTokens: number;
}

/** The entry nearest to a query, with the distance that counts as none there. */
export interface Nearest {
  index: number;
  distance: number;
  slack: number;
}

/** released: what a split takes off the older radius besides (GRACE.py, split_epsilons_in_half). */
const SPLIT_GAP = 1e-5;

/** released: label of a prompt token. */
const NO_LABEL = -100;

/**
 * The entry whose key is nearest to q, by Euclidean distance in float64. Distances under `resolution` |key| are 0, and
 * of equally near keys the newest counts; with a resolution of 0 the oldest, as released.
 * @param q [M]
 * @returns null for an empty codebook
 */
export function nearestTo(
  q: Float32Array,
  entries: readonly Pick<Entry, "key">[],
  { resolution }: Pick<GraceOptions, "resolution">,
): Nearest | null {
  let best: Nearest | null = null;
  for (const [index, { key }] of entries.entries()) {
    let apart = 0;
    let size = 0;
    for (let j = 0; j < q.length; j++) {
      const k = key[j] as number;
      apart += (k - (q[j] as number)) ** 2;
      size += k * k;
    }
    const slack = resolution * Math.sqrt(size);
    const exact = Math.sqrt(apart);
    const distance = exact < slack ? 0 : exact;
    if (best !== null && (resolution > 0 ? distance > best.distance : distance >= best.distance)) continue;
    best = { index, distance, slack };
  }
  return best;
}

/** Distance at which an entry still answers, its radius multiplied; a radius under 0, that of a split, stays. */
export function reachOf({ radius, slack }: { radius: number; slack: number }, times = 1): number {
  return (radius > 0 ? radius * times : radius) + slack;
}

/** A codebook with an edit taken in. */
export interface Taken {
  entries: Entry[];
  event: "new" | "split" | "expand" | "none";
  /** The entry that was nearest before; null when there was none. */
  before: Nearest | null;
  /** The one that is nearest now: its value is trained. */
  now: Nearest;
}

/**
 * Takes an edit into a codebook, which itself stays (methods-tune.md "GRACE").
 * @param fresh the entry that it adds where it adds one, with the radius of a new key
 */
export function takeIn(entries: readonly Entry[], fresh: Entry, options: GraceOptions): Taken {
  const before = nearestTo(fresh.key, entries, options);
  const { event, ...made } = changed(entries, { fresh, nearest: before, options });
  const now = nearestTo(fresh.key, made.entries, options) as Nearest;
  return { ...made, event, before, now };
}

function changed(
  entries: readonly Entry[],
  { fresh, nearest, options }: { fresh: Entry; nearest: Nearest | null; options: GraceOptions },
): Pick<Taken, "entries" | "event"> {
  if (nearest === null) return { entries: [fresh], event: "new" };
  const { index, distance } = nearest;
  const old = entries[index] as Entry;
  const reach = reachOf({ ...old, ...nearest });
  if (distance > fresh.radius + reach) return { entries: [...entries, fresh], event: "new" };
  const withOld = (change: Partial<Entry>) => entries.with(index, { ...old, ...change });
  if (!sameLabel(labelOf(entries, index, options), fresh.label, options)) {
    const half = distance / 2;
    return { entries: [...withOld({ radius: half - SPLIT_GAP }), { ...fresh, radius: half }], event: "split" };
  }
  if (distance <= reach) return { entries: [...entries], event: "none" };
  const moved = options.eps_expand === "moving_average" ? { key: middle(old.key, fresh.key) } : {};
  return { entries: withOld({ radius: distance, ...moved }), event: "expand" };
}

/** The label that an entry is taken to have. released: labels go in front, keys behind; key i meets that of K-1-i. */
function labelOf(entries: readonly Entry[], index: number, { label_order }: GraceOptions): Label {
  return (entries[label_order === "own" ? index : entries.length - 1 - index] as Entry).label;
}

/** released: equal means of the label rows, in which every prompt token stands as -100. */
function sameLabel(a: Label, b: Label, { label_match }: GraceOptions): boolean {
  if (label_match === "target") return a.tokens.join() === b.tokens.join();
  const mean = ({ tokens, promptTokens }: Label) =>
    tokens.reduce((sum, token) => sum + token, NO_LABEL * promptTokens) / (promptTokens + tokens.length);
  return mean(a) === mean(b);
}

function middle(a: Float32Array, b: Float32Array): Float32Array {
  return a.map((x, j) => (x + (b[j] as number)) / 2);
}

/** All that GRACE edits leave behind. */
export interface Codebook {
  edits: number;
  /** Oldest first. */
  entries: readonly Entry[];
  /** Tokens of the last edit's prompt. */
  lastPrompt: number;
}

/** The codebook before the first edit. */
export const NO_ENTRIES: Codebook = { edits: 0, entries: [], lastPrompt: 1 };

/** The part of a codebook that is no float32 array. Radii keep 64 bits: an expanded one is a distance, and must reach as far. */
const stateSchema = z.object({
  radii: z.array(z.number()),
  labels: z.array(z.object({ tokens: z.array(z.int()), promptTokens: z.int() })),
  lastPrompt: z.int().positive(),
});

/** A codebook as plain values: keys [K, M], values [K, D], and JSON. */
export function storedCodebook({ edits, entries, lastPrompt }: Codebook): EditState {
  const joined = (name: "key" | "value") => {
    const width = entries[0]?.[name].length ?? 0;
    const data = new Float32Array(entries.length * width);
    for (const [i, entry] of entries.entries()) data.set(entry[name], i * width);
    return { shape: [entries.length, width], data };
  };
  const tensors: EditState["tensors"] = entries.length === 0 ? {} : { keys: joined("key"), values: joined("value") };
  const json = { radii: entries.map(({ radius }) => radius), labels: entries.map(({ label }) => label), lastPrompt };
  return { edits, tensors, json };
}

/** The same codebook, on the arrays of the state. @throws {RefusedInput} when it is none, or does not fit the model */
export function loadedCodebook(saved: EditState, { hiddenSize: D, intermediateSize: M }: LlamaConfig): Codebook {
  const parsed = stateSchema.safeParse(saved.json);
  const { radii, labels, lastPrompt } = parsed.data ?? { radii: [], labels: [], lastPrompt: 1 };
  if (!parsed.success || radii.length !== labels.length) {
    throw new RefusedInput("saved edits of another form", {
      where: "saved edits",
      found: parsed.success ? `${radii.length} radii, ${labels.length} labels` : z.prettifyError(parsed.error),
      expected: "what GRACE keeps of its edits",
    });
  }
  const K = radii.length;
  if (K === 0) return { edits: saved.edits, entries: [], lastPrompt };
  const [keys, values] = [stateTensor(saved, "keys", [K, M]), stateTensor(saved, "values", [K, D])];
  const entries = radii.map((radius, i) => ({
    key: keys.subarray(i * M, (i + 1) * M),
    value: values.subarray(i * D, (i + 1) * D),
    radius,
    label: labels[i] as Label,
  }));
  return { edits: saved.edits, entries, lastPrompt };
}
