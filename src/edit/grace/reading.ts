import { RefusedInput } from "../../core/errors.js";
import { type CutBatch, valueInput } from "../../model/cut.js";
import { type Change, outputChange, type Site } from "../../model/patch.js";
import { tf } from "../../tensor/tf.js";
import type { Router } from "../contract.js";
import type { Options } from "../option-table.js";
import { type Decision, LARGEST_MARGIN, MAIN, type Overlay, type Reading, untouched } from "../overlay.js";
import { type Codebook, type Entry, type Nearest, nearestTo, reachOf } from "./codebook.js";
import type { GraceOptions } from "./options.js";

/** The one variant: every sequence is answered with the value of its nearest entry. */
const CODEBOOK = "codebook";

/** Numbers that a reading follows from: they hold all that other values of eps_ratio need. */
type Numbers = { distance: number; radius: number; slack: number; key: number };

/** At least 1 exactly where the distance is within reach: a quotient of floats rounds to 1 or more only if it is. */
function marginAt(numbers: Numbers, eps_ratio: number): number {
  const reach = reachOf(numbers, eps_ratio);
  if (reach < 0) return 0;
  return numbers.distance === 0 ? LARGEST_MARGIN : Math.min(reach / numbers.distance, LARGEST_MARGIN);
}

/** The eps_ratio from which on an entry answers. Radii that do not grow answer always or never. */
function turnOf(numbers: Numbers): number {
  const { distance, radius, slack } = numbers;
  if (distance <= reachOf(numbers, 0)) return Number.NEGATIVE_INFINITY;
  return radius > 0 ? (distance - slack) / radius : Number.POSITIVE_INFINITY;
}

function decideAt<R extends Reading>(given: readonly R[], eps_ratio: number): { variant: string; readings: R[] } {
  const readings = given.map((each) => ({ ...each, margin: marginAt(each.numbers as Numbers, eps_ratio) }));
  const [codebook] = readings;
  return { variant: codebook !== undefined && codebook.margin >= 1 ? codebook.variant : MAIN, readings };
}

/** The router of GRACE. Which key is nearest does not depend on the radii, so eps_ratio is read at inference only. */
export const graceRouter: Router = {
  called: (variant) => (variant === CODEBOOK ? "the codebook" : variant),
  numbers: {
    distance: { symbol: "d", meaning: "distance from the key token to the nearest key" },
    radius: { symbol: "ε", meaning: "radius of that key" },
    slack: { symbol: "slack", meaning: "distance that counts as none, added to the radius" },
    key: { symbol: "key", meaning: "place of that key in the codebook, from 0" },
  },
  inference: {
    key: "eps_ratio",
    answers: "above",
    decide: (readings, options) => decideAt(readings, ratioOf(options)),
    turn: ([reading]) => (reading === undefined ? Number.POSITIVE_INFINITY : turnOf(reading.numbers as Numbers)),
  },
};

function ratioOf({ eps_ratio }: Options): number {
  if (typeof eps_ratio === "number" && eps_ratio >= 0) return eps_ratio;
  throw new RefusedInput("a run does not say how its router decided", {
    where: "options of the protocol",
    found: { eps_ratio },
    expected: "eps_ratio, a number from 0",
  });
}

/** Positions of a batch at which values stand. */
export interface Places {
  /** 1 where the value of sequence b stands, else 0, [N, B]. */
  stands: tf.Tensor2D;
  /** 0 there, else 1, [N, 1]. */
  keep: tf.Tensor2D;
}

/** Positions that `replacement` names. @param keyTokens of each sequence; null for one that nothing is replaced in */
export function placesOf(
  { lengths, at: { length: T } }: CutBatch,
  keyTokens: readonly (number | null)[],
  { replacement }: Pick<GraceOptions, "replacement">,
): Places {
  const B = lengths.length;
  const stands = new Float32Array(B * T * B);
  const keep = new Float32Array(B * T).fill(1);
  for (const [row, token] of keyTokens.entries()) {
    if (token === null) continue;
    const range = { replace_last: [token, token + 1], replace_prompt: [0, token], replace_all: [0, lengths[row]] };
    const [from, to] = range[replacement] as [number, number];
    keep.fill(0, row * T + from, row * T + to);
    for (let t = from; t < to; t++) stands[(row * T + t) * B + row] = 1;
  }
  return { stands: tf.tensor2d(stands, [B * T, B]), keep: tf.tensor2d(keep, [B * T, 1]) };
}

/** Values in place of a product, one for each sequence, [B, D]; differentiable in them. */
export function valueChange({ stands, keep }: Places, values: tf.Tensor2D): Change {
  return (_x, own, pick) => tf.add(tf.mul(own(), pick(keep)), tf.matMul(pick(stands), values));
}

/**
 * The overlay of a codebook. A reading takes one pass, however many entries there are: each sequence has the value of
 * its nearest one, and only the inputs at the key tokens are read back to find it.
 */
export function graceOverlay(codebook: Codebook, options: GraceOptions): Overlay {
  const { layer, eps_ratio, replacement } = options;
  const { entries } = codebook;
  if (entries.length === 0) return untouched({ layer, at: "mlpIn" });
  const site: Site = { layer, matrix: "down" };
  return {
    cut: { layer, at: "mlpIn" },
    async route(batch) {
      const keyTokens = batch.lengths.map((_, row) => keyTokenOf(batch, row, { ...options, ...codebook }));
      const found = (await queriesAt(batch, keyTokens)).map((q) => nearestTo(q, entries, options) as Nearest);
      const decisions = found.map(({ index, distance, slack }): Decision => {
        const numbers = { distance, radius: (entries[index] as Entry).radius, slack, key: index };
        return decideAt([{ variant: CODEBOOK, margin: 0, numbers }], eps_ratio);
      });
      const places = placesOf(batch, keyTokens, options);
      const values = tf.tidy(() => tf.stack(found.map(({ index }) => (entries[index] as Entry).value)) as tf.Tensor2D);
      return {
        decisions,
        patch: () => [{ site, change: valueChange(places, values) }],
        later: () => (replacement === "replace_all" ? [{ site, change: outputChange(values) }] : []),
        reachable: (_variant, row) => {
          const [reading] = (decisions[row] as Decision).readings as [Reading];
          return turnOf(reading.numbers as Numbers) < Number.POSITIVE_INFINITY;
        },
        dispose: () => tf.dispose([places.stands, places.keep, values]),
      };
    },
    dispose: () => {},
  };
}

/** released: where an answer is read along with its prompt, the key token lies where the last edit's prompt ended. */
function keyTokenOf(
  { lengths, promptTokens, answers }: CutBatch,
  row: number,
  { key_at, lastPrompt }: Pick<GraceOptions, "key_at"> & Pick<Codebook, "lastPrompt">,
): number {
  const [own, length] = [promptTokens[row], lengths[row]] as [number, number];
  const readAlong = answers === "forced" && own < length;
  return (key_at === "last_edit" && readAlong ? Math.min(lastPrompt, length) : own) - 1;
}

/** Inputs of the value matrix at one token of each sequence, [M] each. */
async function queriesAt(batch: CutBatch, tokens: readonly number[]): Promise<Float32Array[]> {
  const rows = tokens.map((token, row) => row * batch.at.length + token);
  const taken = tf.tidy(() => tf.gather(valueInput(batch), tf.tensor1d(rows, "int32"))); // [B, M]
  try {
    const values = await taken.data<"float32">();
    const M = values.length / tokens.length;
    return tokens.map((_, row) => values.subarray(row * M, (row + 1) * M));
  } finally {
    taken.dispose();
  }
}
