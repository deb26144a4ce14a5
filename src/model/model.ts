import { RefusedInput } from "../core/errors.js";
import { isBf16Matrix } from "../tensor/bf16.js";
import type { tf } from "../tensor/tf.js";
import { type Checkpoint, readCheckpoint } from "./checkpoint.js";
import type { LlamaConfig } from "./config.js";
import type { ModelFiles } from "./files.js";
import type { LlamaLayer, OutputWeights } from "./llama.js";
import { type CutPoint, cutName, MATRICES, type Site, siteName } from "./patch.js";
import { readTokenizer, type Tokenizer } from "./tokenizer.js";
import { isSharded, type Weight } from "./weight.js";
import {
  disposeAll,
  type Held,
  readEmbeddings,
  requireTensors,
  type WeightPrecision,
  weightReader,
} from "./weights.js";

/**
 * Place of the weights. "whole": all but the embedding in memory. "streamed": in memory is what comes after the point
 * where the model is cut; a layer before it is read from the checkpoint when it is used, and dropped.
 */
export type Residence = "whole" | "streamed";

/** A LLaMA. Nothing ever changes its weights: an edit is an overlay beside them. */
export interface LlamaModel {
  /** The folder's base name. */
  readonly name: string;
  readonly folder: string;
  /** sha256 of the checkpoint's files. */
  readonly sha256: string;
  readonly config: LlamaConfig;
  readonly tokenizer: Tokenizer;
  readonly precision: WeightPrecision;
  readonly residence: Residence;
  /** Refuses to be cut at a point after which not everything is in memory. @throws {RefusedInput} */
  requireCut(point: CutPoint): void;
  /** A matrix that stays in memory. @throws {RefusedInput} when it does not */
  weight(site: Site): Weight;
  /** The values of a matrix, [out, in]. @throws {RefusedInput} when they are not in memory as float32 */
  matrix(site: Site): tf.Tensor2D;
  /** A layer that stays in memory. @throws {RefusedInput} when it does not */
  layer(index: number): LlamaLayer;
  /** Final norm and output head. */
  readonly output: OutputWeights;
  /** Lends any layer for the time of `use`. */
  withLayer<T>(index: number, use: (layer: LlamaLayer) => Promise<T>): Promise<T>;
  /** Embeddings of token ids, read from the checkpoint. -> [N, D], the caller disposes it */
  embed(ids: ArrayLike<number>): Promise<tf.Tensor2D>;
  /** Frees the weights and closes the checkpoint. The model cannot be used afterwards. */
  dispose(): void;
}

export interface LoadOptions {
  /** "whole" by default. */
  residence?: Residence | undefined;
  /** "float32" by default. */
  precision?: WeightPrecision | undefined;
  /** Point at which the model will be cut. A whole model can be cut anywhere. */
  cut?: CutPoint | undefined;
  /** Matrices that stay in memory as float32, whatever the precision. A whole float32 model has all of them. */
  sites?: readonly Site[] | undefined;
  /** The folder's tokenizer, where it is loaded already: that of LLaMA-3 takes seconds. */
  tokenizer?: Tokenizer | undefined;
}

/**
 * Reads the files of a Hugging Face LLaMA folder: config.json, safetensors (one file or shards), tokenizer.json. What stays in memory
 * becomes tensors on the current backend; every name and shape is proved before the first is read.
 * @throws {RefusedInput} naming file, tensor, found and expected; for a matrix too large for the backend
 */
export async function readModel(files: ModelFiles, options: LoadOptions = {}): Promise<LlamaModel> {
  const checkpoint = await readCheckpoint(files);
  const held: Held = [];
  try {
    requireTensors(checkpoint, options.sites ?? []);
    const tokenizer = options.tokenizer ?? (await readTokenizer(files, checkpoint.config));
    const sha256 = await checkpoint.sha256();
    const { name, config } = checkpoint;
    return {
      name,
      folder: checkpoint.folder,
      sha256,
      config,
      tokenizer,
      ...(await holdWeights(checkpoint, options, held)),
    };
  } catch (error) {
    disposeAll(held);
    await checkpoint.close();
    throw error;
  }
}

type ModelWeights = Omit<LlamaModel, "name" | "folder" | "sha256" | "config" | "tokenizer">;

async function holdWeights(checkpoint: Checkpoint, options: LoadOptions, held: Held): Promise<ModelWeights> {
  const { residence = "whole", precision = "float32", cut, sites = [] } = options;
  for (const { layer } of [...sites, ...(cut === undefined ? [] : [cut])]) requireLayer(checkpoint, layer);
  const reader = weightReader(checkpoint, { precision, packed: true, held });
  /** Matrices of their own: those kept as float32, and the value matrix behind which a streamed model is cut. */
  const own = new Map<string, Weight>();
  for (const site of sites) own.set(siteName(site), await reader.matrix(site, { packed: false }));
  const streamedFrom = residence === "streamed" ? requireCutPoint(checkpoint, cut) : null;
  if (streamedFrom?.at === "mlpIn") {
    const down: Site = { layer: streamedFrom.layer, matrix: "down" };
    if (!own.has(siteName(down))) own.set(siteName(down), await reader.matrix(down, { packed: true }));
  }
  const given = (layer: number): Partial<LlamaLayer> =>
    Object.fromEntries(
      MATRICES.flatMap((matrix) => {
        const weight = own.get(siteName({ layer, matrix }));
        return weight === undefined ? [] : [[matrix, weight]];
      }),
    );
  const layers = new Map<number, LlamaLayer>();
  for (let index = firstHeld(streamedFrom); index < checkpoint.config.layers; index++) {
    layers.set(index, await reader.layer(index, given(index)));
  }
  const output = await reader.output();

  const refuse = (what: string): never => refuseWeights(checkpoint, what, options);
  const layer = (index: number) => layers.get(requireLayer(checkpoint, index)) ?? refuse(`layer ${index}`);
  const weight = (site: Site) => own.get(siteName(site)) ?? layer(site.layer)[site.matrix];
  return {
    precision,
    residence,
    layer,
    weight,
    requireCut(point) {
      requireLayer(checkpoint, point.layer);
      if (point.at === "mlpIn") weight({ layer: point.layer, matrix: "down" });
      const next = point.at === "mlpIn" ? point.layer + 1 : point.layer;
      if (next < checkpoint.config.layers) layer(next);
    },
    matrix(site) {
      const found = weight(site);
      if (isSharded(found)) requireTensors(checkpoint, [site]); // refuses it
      return isSharded(found) || isBf16Matrix(found) ? refuse(`${siteName(site)} as float32`) : found;
    },
    output,
    async withLayer(index, use) {
      const whole = layers.get(index);
      if (whole !== undefined) return use(whole);
      const passing: Held = [];
      try {
        const once = weightReader(checkpoint, { precision, packed: false, held: passing });
        return await use(await once.layer(index, given(index)));
      } finally {
        disposeAll(passing);
      }
    },
    embed: (ids) => readEmbeddings(checkpoint, ids, precision),
    dispose() {
      disposeAll(held);
      void checkpoint.close();
    },
  };
}

/** The first layer that a model holds in full. */
function firstHeld(streamedFrom: CutPoint | null): number {
  if (streamedFrom === null) return 0;
  return streamedFrom.at === "input" ? streamedFrom.layer : streamedFrom.layer + 1;
}

function requireCutPoint({ name }: Checkpoint, cut: CutPoint | undefined): CutPoint {
  if (cut !== undefined) return cut;
  throw new RefusedInput("a streamed model has no point to be cut at", {
    where: name,
    found: "no cut point",
    expected: "the point before which nothing will be edited",
  });
}

/** @throws {RefusedInput} when the model has no such layer */
function requireLayer({ name, config }: Pick<Checkpoint, "name" | "config">, layer: number): number {
  if (Number.isInteger(layer) && layer >= 0 && layer < config.layers) return layer;
  throw new RefusedInput(`${name} has no layer ${layer}`, {
    where: "layer",
    found: layer,
    expected: `a whole number from 0 to ${config.layers - 1}`,
  });
}

function refuseWeights({ name }: Checkpoint, what: string, options: LoadOptions): never {
  const { residence = "whole", precision = "float32", cut } = options;
  const at = cut === undefined ? "" : `, cut at ${cutName(cut)}`;
  throw new RefusedInput("weights of the model are not in memory", {
    where: name,
    found: what,
    expected: `what the model was loaded for: ${residence}, ${precision}${at}`,
  });
}
