import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { Interrupted, LabFailure, RefusedInput, takeTurn } from "../core/errors.js";
import { exists, readJsonFile, requireWritableFolder, sha256File, writeFileAtomic } from "../core/files.js";
import { canonicalJson, sha256Chunks } from "../core/hash.js";
import { MAX_CHARACTERS } from "../core/text.js";
import type { Cut, Sequences } from "../model/cut.js";
import { type FrozenProgress, frozenBatches, frozenPass } from "../model/frozen.js";
import type { LlamaModel } from "../model/model.js";
import { tf } from "../tensor/tf.js";
import { covarianceArrays } from "./covariance.js";
import { npzBytes } from "./npz.js";
import { type PartialSum, readPartial, removePartial, writePartial } from "./partial.js";
import { covarianceFile, DTYPE } from "./places.js";
import { readProvenance, type TextsUsed, writeProvenance } from "./provenance.js";
import type { TextList } from "./texts.js";

export interface CollectOptions {
  texts: TextList;
  /** 0-based. */
  layers: readonly number[];
  /** Folder of statistics: covariances go to MODEL/DATASET_stats within. */
  folder: string;
  /** Tokens after which a text is cut; what the model takes at most by default. */
  cutAfter?: number | undefined;
  /** Seconds of work between two safe points; 60 by default. */
  keepEvery?: number | undefined;
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: CollectProgress) => void) | undefined;
  onNotice?: ((line: string) => void) | undefined;
}

export interface CollectProgress {
  /** Share of the work that is done, 0 to 1. */
  share: number;
  /** null while there is nothing to tell it from. */
  secondsLeft: number | null;
}

/** A covariance on disk. */
export interface Collected {
  layer: number;
  path: string;
  /** False where it was there already. */
  made: boolean;
}

/** Bytes of the streams of one pass over the model: more of them mean fewer readings of a streamed checkpoint. */
const PASS_BYTES = 512 * 1024 ** 2;

const KEEP_EVERY_SECONDS = 60;

/** Safe points take gigabytes at full size: at least so many times as long as writing one took lies between two. */
const KEEP_PACE = 10;

/** Texts that are tokenised between two turns for other work. */
const TEXTS_A_TURN = 100;

/** A sum that grows. */
interface LayerSum extends PartialSum {
  layer: number;
  path: string;
  key: string;
  /** `next` as it was kept last. */
  kept: number;
}

/**
 * Collects C = E[k k^T] for value matrices, over every token of texts (BOS too), and writes one file each in EasyEdit's
 * layout, with its provenance beside it. Stopped or killed, the same call goes on from the last safe point to the same
 * bytes. Sums are float64, 8 m^2 bytes a layer; products of the keys of a batch are float32.
 * @returns one per layer, rising
 * @throws {RefusedInput} for a layer or text that the model does not have, or a covariance of other texts in its place
 * @throws {Interrupted} when the signal is aborted; what was finished is kept
 */
export async function collectCovariances(model: LlamaModel, options: CollectOptions): Promise<Collected[]> {
  const { texts, folder, cutAfter = model.config.maxPositions, onNotice = () => {} } = options;
  const layers = requireLayers(model, options.layers);
  const used: TextsUsed = { name: texts.name, sha256: texts.sha256, samples: texts.texts.length, cutAfter };
  const collected: Collected[] = [];
  const sums: LayerSum[] = [];
  for (const layer of layers) {
    const name = { model: model.name, dataset: texts.name, layer, dtype: DTYPE, samples: used.samples };
    const path = join(folder, covarianceFile(name));
    await requireWritableFolder(dirname(path));
    const made = !(await isCollected(path, { model, layer, used }));
    collected.push({ layer, path, made });
    if (made) sums.push(await startSum({ model, layer, used, path }, onNotice));
  }
  if (sums.length === 0) return collected;
  const batches = await tokenBatches(model, texts.texts, { cutAfter, signal: options.signal });
  await addBatches(model, { batches, sums }, options);
  for (const sum of sums) await writeSum(model, sum, used);
  return collected;
}

function requireLayers({ name, config }: LlamaModel, layers: readonly number[]): number[] {
  const sorted = [...new Set(layers)].sort((a, b) => a - b);
  const bad = sorted.find((layer) => !(Number.isInteger(layer) && layer >= 0 && layer < config.layers));
  if (bad === undefined && sorted.length > 0) return sorted;
  throw new RefusedInput(`${name} has no such layer`, {
    where: "layers",
    found: bad ?? "none",
    expected: `whole numbers from 0 to ${config.layers - 1}`,
  });
}

/** True if this covariance is there. @throws {RefusedInput} when another one stands in its place */
async function isCollected(
  path: string,
  { model, layer, used }: { model: LlamaModel; layer: number; used: TextsUsed },
): Promise<boolean> {
  if (!(await exists(path))) return false;
  const found = await readProvenance(path);
  const isSame =
    found !== null &&
    found.model.sha256 === model.sha256 &&
    found.layer === layer &&
    canonicalJson(found.texts) === canonicalJson(used) &&
    found.sha256 === (await sha256File(path));
  if (isSame) return true;
  const is = found && `one of ${found.model.name} and ${found.texts.samples} texts of ${found.texts.name}`;
  throw new RefusedInput("another covariance stands in its place", {
    where: path,
    found: is ?? "a file without its provenance",
    expected: `nothing, or the covariance of ${model.name} and these texts`,
    hint: "another --out or --dataset, or take the file away",
  });
}

async function startSum(
  { model, layer, used, path }: { model: LlamaModel; layer: number; used: TextsUsed; path: string },
  onNotice: (line: string) => void,
): Promise<LayerSum> {
  const m = model.config.intermediateSize;
  const key = canonicalJson({ model: model.sha256, layer, used, computedWith: computedWith(model) });
  const kept = await readPartial(path, { key, m }, onNotice);
  const start = kept ?? { next: 0, tokens: 0, sum: new Float64Array(m * m) };
  return { layer, path, key, kept: start.next, ...start };
}

function computedWith({ precision }: LlamaModel): string {
  return `${precision}; ${tf.getBackend()}, TensorFlow.js ${tf.version_core}`;
}

/** The tokens of texts in batches, shortest first: so there is little padding. */
async function tokenBatches(
  { tokenizer }: LlamaModel,
  texts: readonly string[],
  { cutAfter, signal }: { cutAfter: number; signal: AbortSignal | undefined },
): Promise<Sequences[]> {
  const sequences: number[][] = [];
  for (const text of texts) {
    if (sequences.length % TEXTS_A_TURN === 0) await takeTurn(signal, "the tokenisation of texts");
    sequences.push(tokenizer.encode(text.slice(0, MAX_CHARACTERS)).slice(0, cutAfter));
  }
  return frozenBatches(sequences.sort((a, b) => a.length - b.length));
}

/** Adds every batch to every sum that it is not part of yet. */
async function addBatches(
  model: LlamaModel,
  { batches, sums }: { batches: readonly Sequences[]; sums: readonly LayerSum[] },
  options: CollectOptions,
): Promise<void> {
  const { signal } = options;
  const keeper = sumKeeper(model, sums, options.keepEvery);
  const report = progressOf({ batches, sums }, options);
  try {
    for (const [from, to] of passes(batches, model)) {
      for (const sum of sums) {
        const due = batches.slice(Math.max(from, sum.next), to);
        const onProgress = ({ batch }: FrozenProgress) => report(paddedTokens(due[batch - 1] as Sequences));
        await frozenPass(model, due, {
          ...{ point: { layer: sum.layer, at: "mlpIn" }, signal, onProgress },
          take: async (_, cuts) => {
            await addKeys(model, sum, cuts);
            await keeper.keepIfDue();
          },
        });
      }
    }
  } catch (error) {
    if (error instanceof Interrupted) await keeper.keep();
    throw error;
  }
}

/** Batches whose streams fit into memory together. */
function* passes(batches: readonly Sequences[], { config }: LlamaModel): Generator<[from: number, to: number]> {
  let from = 0;
  let bytes = 0;
  for (const [i, batch] of batches.entries()) {
    const own = 4 * config.hiddenSize * paddedTokens(batch);
    if (i > from && bytes + own > PASS_BYTES) {
      yield [from, i];
      from = i;
      bytes = 0;
    }
    bytes += own;
  }
  yield [from, batches.length];
}

function paddedTokens(batch: Sequences): number {
  return batch.length * Math.max(...batch.map(({ length }) => length));
}

/** sum <- sum + K^T K for the keys of a batch, [n, m]. @throws {LabFailure} when they are not finite */
async function addKeys({ config }: LlamaModel, sum: LayerSum, cuts: readonly Cut[]): Promise<void> {
  const m = config.intermediateSize;
  const tokens = cuts.reduce((all, cut) => all + cut.tokens.length, 0);
  const keys = new Float32Array(tokens * m);
  let at = 0;
  for (const { mlpIn } of cuts) {
    keys.set(mlpIn as Float32Array, at);
    at += (mlpIn as Float32Array).length;
  }
  const product = tf.tidy(() => {
    const K = tf.tensor2d(keys, [tokens, m]);
    return tf.matMul(K, K, true, false); // [m, m]
  });
  const values = await product.data<"float32">();
  product.dispose();
  for (let i = 0; i < m; i++) {
    if (!Number.isFinite(values[i * m + i])) throw new LabFailure(`keys of layer ${sum.layer} are not finite numbers`);
  }
  for (let i = 0; i < values.length; i++) sum.sum[i] = (sum.sum[i] as number) + (values[i] as number);
  sum.next += 1;
  sum.tokens += tokens;
}

/** Keeps the sums as they grow. */
function sumKeeper({ config }: LlamaModel, sums: readonly LayerSum[], keepEvery = KEEP_EVERY_SECONDS) {
  let last = performance.now();
  let pause = 1000 * keepEvery;
  const keep = async () => {
    const started = performance.now();
    for (const sum of sums) {
      if (sum.next === sum.kept) continue;
      await writePartial(sum.path, { key: sum.key, m: config.intermediateSize }, sum);
      sum.kept = sum.next;
    }
    last = performance.now();
    pause = Math.max(1000 * keepEvery, keepEvery === 0 ? 0 : KEEP_PACE * (last - started));
  };
  return { keep, keepIfDue: async () => (performance.now() - last >= pause ? keep() : undefined) };
}

/** Tells what is done and left, in tokens times layers that they go through. */
function progressOf(
  { batches, sums }: { batches: readonly Sequences[]; sums: readonly LayerSum[] },
  { onProgress }: CollectOptions,
): (tokens: number) => void {
  const all = batches.reduce((tokens, batch) => tokens + paddedTokens(batch), 0);
  const total = sums.reduce((work, { layer }) => work + all * (layer + 1), 0);
  const before = sums.reduce((work, { layer, next }) => {
    const kept = batches.slice(0, next).reduce((tokens, batch) => tokens + paddedTokens(batch), 0);
    return work + kept * (layer + 1);
  }, 0);
  const started = performance.now();
  let done = before;
  return (tokens) => {
    done += tokens;
    const pace = (performance.now() - started) / (done - before);
    onProgress?.({ share: done / total, secondsLeft: (pace * (total - done)) / 1000 });
  };
}

/** Writes a covariance: its provenance first, so that it is never there without. */
async function writeSum(model: LlamaModel, sum: LayerSum, texts: TextsUsed): Promise<void> {
  const { layer, path, tokens } = sum;
  const arrays = covarianceArrays({
    sum: Float32Array.from(sum.sum),
    size: model.config.intermediateSize,
    count: tokens,
    sampleSize: texts.samples,
  });
  const { version } = (await readJsonFile(fileURLToPath(new URL("../../package.json", import.meta.url)))) as {
    version: string;
  };
  await writeProvenance(path, {
    sha256: sha256Chunks(npzBytes(arrays)),
    model: { name: model.name, sha256: model.sha256 },
    ...{ texts, tokens, layer, computedWith: computedWith(model), wiseLab: version },
  });
  await writeFileAtomic(path, npzBytes(arrays));
  await removePartial(path);
}
