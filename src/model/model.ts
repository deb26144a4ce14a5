import { RefusedInput } from "../core/errors.js";
import { isBf16Matrix } from "../tensor/bf16.js";
import type { tf } from "../tensor/tf.js";
import { type Checkpoint, openCheckpoint } from "./checkpoint.js";
import type { LlamaConfig } from "./config.js";
import type { LlamaLayer, OutputWeights } from "./llama.js";
import { loadTokenizer, type Tokenizer } from "./tokenizer.js";
import { disposeAll, type Held, readEmbeddings, type WeightPrecision, weightReader } from "./weights.js";

/**
 * Where the weights are. "whole": all but the embedding in memory. "streamed": in memory are the value matrix that is
 * edited and what comes after it; a layer before it is read from the checkpoint when it is used, and dropped.
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
  /** The value matrix W of a layer, [D, M]. @throws {RefusedInput} when the model was not loaded to be edited there */
  valueMatrix(layer: number): tf.Tensor2D;
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
  /** The layer whose value matrix will be edited. A whole float32 model can be edited at any. */
  editLayer?: number | undefined;
}

/**
 * Opens a Hugging Face LLaMA folder: config.json, safetensors (one file or shards), tokenizer.json. What stays in memory
 * becomes tensors on the current backend; every name and shape is proved before the first is read.
 * @throws {RefusedInput} naming file, tensor, found and expected
 */
export async function loadModel(folder: string, options: LoadOptions = {}): Promise<LlamaModel> {
  const checkpoint = await openCheckpoint(folder);
  const held: Held = [];
  try {
    const tokenizer = await loadTokenizer(folder, checkpoint.config);
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
  const { residence = "whole", precision = "float32", editLayer } = options;
  const reader = weightReader(checkpoint, { precision, packed: true, held });
  const value = editLayer === undefined ? undefined : await reader.valueMatrix(requireLayer(checkpoint, editLayer));
  const given = (index: number): Partial<LlamaLayer> =>
    value !== undefined && index === editLayer ? { down: value } : {};
  const layers = new Map<number, LlamaLayer>();
  for (let index = firstHeld(checkpoint, options); index < checkpoint.config.layers; index++) {
    layers.set(index, await reader.layer(index, given(index)));
  }
  const output = await reader.output();

  const layer = (index: number) =>
    layers.get(requireLayer(checkpoint, index)) ?? refuseLayer(checkpoint, index, options);
  return {
    precision,
    residence,
    layer,
    valueMatrix(index) {
      const own = index === editLayer ? value : layer(index).down;
      return own === undefined || isBf16Matrix(own) ? refuseLayer(checkpoint, index, options) : own;
    },
    output,
    async withLayer(index, use) {
      const own = layers.get(index);
      if (own !== undefined) return use(own);
      const passing: Held = [];
      try {
        return await use(
          await weightReader(checkpoint, { precision, packed: false, held: passing }).layer(index, given(index)),
        );
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

function firstHeld({ name }: Checkpoint, { residence, editLayer }: LoadOptions): number {
  if (residence !== "streamed") return 0;
  if (editLayer !== undefined) return editLayer + 1;
  throw new RefusedInput("a streamed model has no layer to be cut at", {
    where: name,
    found: "no layer to edit",
    expected: "the layer whose value matrix will be edited",
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

function refuseLayer({ name }: Checkpoint, layer: number, { residence, precision, editLayer }: LoadOptions): never {
  throw new RefusedInput("a layer of the model is not in memory in full", {
    where: name,
    found: `layer ${layer}`,
    expected: `what the model was loaded for: ${residence ?? "whole"}, ${precision ?? "float32"}, edits at layer ${editLayer}`,
  });
}
