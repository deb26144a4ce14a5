import { fileURLToPath } from "node:url";
import { RefusedInput } from "../core/errors.js";
import { MAX_CHARACTERS } from "../core/text.js";
import { loadIrrelevant } from "../data/load.js";
import { loadModel } from "../model/folder.js";
import { runFrozen } from "../model/frozen.js";
import type { LlamaModel } from "../model/model.js";
import type { Covariance } from "./covariance.js";
import { readProvenance, requireProvenance } from "./provenance.js";

/*
 * A covariance of another model of the same shape can be opened like the right one, and every edit made with it is wrong.
 * Files of this project name their model. Released ones do not: their trace is compared with the norms of the model's own
 * keys, which tells models of other training apart, and not a model from one that was fine-tuned from it.
 */

/**
 * Traces and mean |k|^2 that differ by more are of different models. Texts of another kind alone make a factor of up to 1.03
 * in a model of random weights and up to 1.7 in the project's own, whose training texts are of one kind (measured).
 */
const LARGEST_MISMATCH = 2;

/**
 * A model for passes up to the keys of any layer: they read its layers from the checkpoint, and as nothing behind the keys
 * is computed, it can be cut where nothing is in memory.
 */
export async function openForKeys({ folder, config }: Pick<LlamaModel, "folder" | "config">): Promise<LlamaModel> {
  const model = await loadModel(folder, { residence: "streamed", cut: { layer: config.layers - 1, at: "mlpIn" } });
  return { ...model, requireCut: () => {} };
}

/** The factor by which a trace of C and a mean of |k|^2 differ, at least 1. */
export function traceMismatch({ trace }: Pick<Covariance, "trace">, meanSquaredNorm: number): number {
  return Math.max(trace / meanSquaredNorm, meanSquaredNorm / trace);
}

/**
 * The mean |k|^2 of a layer's keys in texts of a given length. The first token of a text is counted by itself: in many
 * models its key is tens of times as large as the others, so that the mean depends on how often texts begin.
 * @param options `tokensPerText`: the mean length of the texts that it is for
 */
export async function meanSquaredNorm(
  model: LlamaModel,
  texts: readonly string[],
  { layer, tokensPerText }: { layer: number; tokensPerText: number },
): Promise<number> {
  const sequences = texts.map((text) =>
    model.tokenizer.encode(text.slice(0, MAX_CHARACTERS)).slice(0, model.config.maxPositions),
  );
  const cuts = await runFrozen(model, sequences, { point: { layer, at: "mlpIn" } });
  const m = model.config.intermediateSize;
  const squares = (values: Float32Array) => values.reduce((sum, value) => sum + value * value, 0);
  const first = cuts.reduce((sum, { mlpIn }) => sum + squares((mlpIn as Float32Array).subarray(0, m)), 0);
  const others = cuts.reduce((sum, { mlpIn }) => sum + squares((mlpIn as Float32Array).subarray(m)), 0);
  const otherTokens = cuts.reduce((sum, { tokens }) => sum + tokens.length - 1, 0);
  return (first / cuts.length + (tokensPerText - 1) * (others / otherTokens)) / tokensPerText;
}

/**
 * Proves that a covariance belongs to a model: by its provenance, or by its trace where it has none.
 * @throws {RefusedInput} when it is of another model or layer
 */
export async function requireOwner(
  covariance: Covariance,
  owner: Pick<LlamaModel, "name" | "folder" | "config" | "sha256">,
  layer: number,
): Promise<void> {
  const provenance = await readProvenance(covariance.path);
  if (provenance !== null) {
    requireProvenance(covariance, provenance, { model: owner, layer });
    return;
  }
  const { prompts } = await loadIrrelevant(fileURLToPath(new URL("../../data/irrelevant.json", import.meta.url)));
  const model = await openForKeys(owner);
  try {
    const tokensPerText = covariance.count / covariance.sampleSize;
    const norm = await meanSquaredNorm(model, prompts, { layer, tokensPerText });
    if (traceMismatch(covariance, norm) <= LARGEST_MISMATCH) return;
    throw new RefusedInput("a covariance is of another model", {
      where: covariance.path,
      found: `keys of a mean |k|^2 of ${covariance.trace.toPrecision(3)} (its trace)`,
      expected: `about ${norm.toPrecision(3)}, as ${owner.name} has at layer ${layer}`,
    });
  } finally {
    model.dispose();
  }
}
