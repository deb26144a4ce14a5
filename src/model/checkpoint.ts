import { z } from "zod";
import { nearest, RefusedInput } from "../core/errors.js";
import { sha256Json } from "../core/hash.js";
import { type LlamaConfig, parseLlamaConfig } from "./config.js";
import { MODEL_FOLDER, type ModelFiles, readJson } from "./files.js";
import { NOT_QUANTISED, refuseAdapter, refuseForeignTensors } from "./foreign.js";
import { requireAsTrained } from "./origin.js";
import { FLOAT_DTYPES, type RowRange, readSafetensors, type SafetensorsFile } from "./safetensors.js";
import { checked } from "./schema.js";

/** A Hugging Face LLaMA folder whose tensors have all been found, in the right shapes; weights are read when asked for. */
export interface Checkpoint {
  /** Absolute path. */
  readonly folder: string;
  /** The folder's base name. */
  readonly name: string;
  readonly config: LlamaConfig;
  /** Shape of every tensor, by its name in the files. */
  readonly shapes: ReadonlyMap<string, readonly number[]>;
  /** Reads weights by their name in the files, as float32. @throws {RefusedInput} for a NaN or an infinity among them */
  read(name: string, options?: { rows?: RowRange | undefined }): Promise<Float32Array>;
  /** True if a tensor is stored as bf16. */
  isBf16(name: string): boolean;
  /** Reads weights as bf16 bits: as they stand in a bf16 file, else rounded to the nearest. @throws as `read` */
  readBf16(name: string, options?: { rows?: RowRange | undefined }): Promise<Uint16Array>;
  /**
   * SHA-256 over the sorted names and SHA-256s of the files that decide what the model computes.
   * @param options `verify`: hash them again, whatever was kept of an earlier time
   */
  sha256(options?: { verify?: boolean | undefined }): Promise<string>;
  close(): Promise<void>;
}

/** Names of a layer's tensors after `model.layers.N.`: the border between the files' names and ours. */
const LAYER_TENSORS = {
  inputNorm: "input_layernorm.weight",
  q: "self_attn.q_proj.weight",
  k: "self_attn.k_proj.weight",
  v: "self_attn.v_proj.weight",
  o: "self_attn.o_proj.weight",
  postNorm: "post_attention_layernorm.weight",
  gate: "mlp.gate_proj.weight",
  up: "mlp.up_proj.weight",
  down: "mlp.down_proj.weight",
} as const;

/** A tensor of a decoder layer. */
export type LayerTensor = keyof typeof LAYER_TENSORS;

export const EMBEDDING = "model.embed_tokens.weight";
export const FINAL_NORM = "model.norm.weight";
const HEAD = "lm_head.weight";

/** The name of the output head [V, D]. With tied embeddings it is the embedding. */
export function headName(config: Pick<LlamaConfig, "tiedEmbeddings">): string {
  return config.tiedEmbeddings ? EMBEDDING : HEAD;
}

/** Rotary frequencies that Transformers once stored; they follow from the configuration. */
const IGNORED_TENSOR = /^model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq$/;

const WEIGHTS = "model.safetensors";
const INDEX = "model.safetensors.index.json";

/** Files beside the weights that decide what a model computes, where they exist. */
const HASHED_FILES = [
  "config.json",
  "generation_config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "chat_template.jinja",
];

/** The names under which layer `index` stands in the files. */
export function layerTensorNames(index: number): Record<LayerTensor, string> {
  const names = Object.entries(LAYER_TENSORS).map(([ours, theirs]) => [ours, `model.layers.${index}.${theirs}`]);
  return Object.fromEntries(names) as Record<LayerTensor, string>;
}

/** An open file of weights. */
interface WeightFile extends SafetensorsFile {
  /** In the model's folder. */
  readonly file: string;
}

/**
 * Opens the files of a Hugging Face LLaMA folder: config.json with one model.safetensors, or an index and its shards.
 * Every tensor that the configuration demands must be there in its shape, and no other. The files of a model that was
 * trained here must be the ones that the training wrote.
 * @throws {RefusedInput} naming file, tensor, found and expected
 */
export async function readCheckpoint(files: ModelFiles): Promise<Checkpoint> {
  const { names, where } = files;
  refuseAdapter(names, where);
  await requireAsTrained(files);
  const config = await readConfig(files);
  const weights = await openWeights(files);
  try {
    const located = locateTensors(weights, where);
    const shapes = tensorShapes(config);
    proveTensors(located, shapes, { config, folder: where });
    if (config.tiedEmbeddings && located.has(HEAD)) await proveTiedHead(located, [config.vocabSize, config.hiddenSize]);
    return checkpointOf(files, { config, shapes, weights, located });
  } catch (error) {
    await closeAll(weights);
    throw error;
  }
}

function checkpointOf(
  files: ModelFiles,
  opened: {
    config: LlamaConfig;
    shapes: ReadonlyMap<string, number[]>;
    weights: WeightFile[];
    located: ReadonlyMap<string, SafetensorsFile>;
  },
): Checkpoint {
  const { config, shapes, weights, located } = opened;
  const fileOf = (name: string): SafetensorsFile => {
    const file = located.get(name);
    if (file) return file;
    const near = nearest(name, [...located.keys()]);
    throw new RefusedInput("the model has no such tensor", {
      where: files.folder,
      found: name,
      expected: near ? `the name of a tensor, such as ${near}` : "the name of a tensor",
    });
  };
  let hash: Promise<string> | undefined;
  return {
    folder: files.folder,
    name: files.name,
    config,
    shapes,
    read: async (name, options = {}) => fileOf(name).read(name, { ...options, finite: true }),
    isBf16: (name) => fileOf(name).tensors.get(name)?.dtype === "BF16",
    readBf16: async (name, options = {}) => fileOf(name).readBf16(name, { ...options, finite: true }),
    sha256: (options) => {
      const others = HASHED_FILES.filter((name) => files.names.includes(name));
      hash ??= hashFiles(files, [...weights.map(({ file }) => file), ...others], options);
      return hash;
    },
    close: () => closeAll(weights),
  };
}

async function hashFiles(
  files: ModelFiles,
  names: string[],
  options?: { verify?: boolean | undefined },
): Promise<string> {
  const hashes: [name: string, sha256: string][] = [];
  for (const name of names) hashes.push([name, await files.sha256(name, options)]);
  return sha256OfFiles(hashes);
}

/** The SHA-256 of a checkpoint from those of its files. */
export function sha256OfFiles(hashes: readonly (readonly [name: string, sha256: string])[]): string {
  return sha256Json([...hashes].sort(([a], [b]) => (a < b ? -1 : 1)));
}

async function readConfig(files: ModelFiles): Promise<LlamaConfig> {
  const { names, where } = files;
  if (!names.includes("config.json")) {
    const found = `a folder without config.json: ${names.join(", ")}`;
    throw new RefusedInput("this folder holds no model", { where, found, expected: MODEL_FOLDER });
  }
  return parseLlamaConfig(await readJson(files, "config.json"), files.pathOf("config.json"));
}

async function openWeights(files: ModelFiles): Promise<WeightFile[]> {
  const { names, where } = files;
  const shards = await weightFiles(files);
  const missing = shards.filter((shard) => !names.includes(shard));
  if (missing.length > 0) {
    throw new RefusedInput("shards of the checkpoint are missing", {
      where,
      found: `${shards.length - missing.length} of ${shards.length} files; missing ${missing.join(", ")}`,
      expected: `every file that ${INDEX} names`,
      hint: "download the missing files",
    });
  }
  const weights: WeightFile[] = [];
  try {
    for (const file of shards) {
      weights.push({ file, ...(await readSafetensors(await files.open(file), files.pathOf(file))) });
    }
    return weights;
  } catch (error) {
    await closeAll(weights);
    throw error;
  }
}

const indexSchema = z.looseObject(
  {
    weight_map: z.record(
      z.string(),
      z.string().regex(/^[^/\\]+\.safetensors$/, { error: "the name of a .safetensors file beside the index" }),
      { error: "an object from tensor names to file names" },
    ),
  },
  { error: "an object with weight_map" },
);

/** The one weights file or, as Transformers does only where that is missing, the shards of the index. */
async function weightFiles(files: ModelFiles): Promise<string[]> {
  const { names, where } = files;
  if (names.includes(WEIGHTS)) return [WEIGHTS];
  if (names.includes(INDEX)) {
    const { weight_map } = checked(indexSchema, await readJson(files, INDEX), files.pathOf(INDEX));
    return [...new Set(Object.values(weight_map))].sort();
  }
  const other = names.filter((name) => /\.(bin|pth|pt|gguf|safetensors)$/.test(name));
  throw new RefusedInput("the model has no weights", {
    where,
    found: other.length > 0 ? other.join(", ") : "no weight files",
    expected: `${WEIGHTS}, or ${INDEX} and its shards`,
    ...(other.length > 0 && { hint: "save the model with Transformers: model.save_pretrained(FOLDER)" }),
  });
}

function locateTensors(files: WeightFile[], folder: string): Map<string, WeightFile> {
  const located = new Map<string, WeightFile>();
  for (const file of files) {
    for (const name of file.tensors.keys()) {
      const other = located.get(name);
      if (other) {
        throw new RefusedInput("a tensor stands in two shards", {
          where: `${folder}: ${name}`,
          found: `${other.file} and ${file.file}`,
          expected: "every tensor once",
        });
      }
      located.set(name, file);
    }
  }
  return located;
}

/** Name and shape of every tensor that a model of this configuration has. */
export function tensorShapes(config: LlamaConfig): Map<string, number[]> {
  const { hiddenSize: D, intermediateSize: M, vocabSize: V } = config;
  const query = config.heads * config.headDim;
  const keyValue = config.kvHeads * config.headDim;
  const layerShapes: Record<LayerTensor, number[]> = {
    inputNorm: [D],
    q: [query, D],
    k: [keyValue, D],
    v: [keyValue, D],
    o: [D, query],
    postNorm: [D],
    gate: [M, D],
    up: [M, D],
    down: [D, M],
  };
  const shapes = new Map<string, number[]>([[EMBEDDING, [V, D]]]);
  for (let layer = 0; layer < config.layers; layer++) {
    const names = layerTensorNames(layer);
    for (const key of Object.keys(LAYER_TENSORS) as LayerTensor[]) shapes.set(names[key], layerShapes[key]);
  }
  shapes.set(FINAL_NORM, [D]);
  if (!config.tiedEmbeddings) shapes.set(HEAD, [V, D]);
  return shapes;
}

function proveTensors(
  located: ReadonlyMap<string, SafetensorsFile>,
  shapes: ReadonlyMap<string, number[]>,
  { config, folder }: { config: LlamaConfig; folder: string },
): void {
  refuseForeignTensors([...located.keys()], folder);
  const missing = [...shapes.keys()].filter((name) => !located.has(name));
  if (missing.length > 0) {
    throw new RefusedInput("tensors of the model are missing", {
      where: folder,
      found: `${located.size} tensors; ${missing.length} missing: ${missing.join(", ")}`,
      expected: `${shapes.size} tensors for ${config.layers} layers`,
      ...(missing.join() === HEAD && {
        hint: "set tie_word_embeddings of config.json to true if the embedding is the head",
      }),
    });
  }
  const allowed = (name: string) => name === HEAD || IGNORED_TENSOR.test(name);
  const extra = [...located.keys()].filter((name) => !shapes.has(name) && !allowed(name));
  if (extra.length > 0) {
    throw new RefusedInput("the checkpoint has tensors that its config.json does not explain", {
      where: folder,
      found: extra.join(", "),
      expected: `${shapes.size} tensors: ${config.layers} layers, ${config.tiedEmbeddings ? "tied embeddings" : "embeddings and an output head"}`,
    });
  }
  for (const [name, shape] of shapes) proveTensor(located.get(name) as SafetensorsFile, name, shape);
}

function proveTensor(file: SafetensorsFile, name: string, shape: number[]): void {
  const found = file.tensors.get(name);
  const where = `${file.path}: ${name}`;
  if (found?.shape.join() !== shape.join()) {
    throw new RefusedInput("a tensor has the wrong shape", {
      where,
      found: `[${found?.shape.join(", ")}]`,
      expected: `[${shape.join(", ")}], as config.json says`,
    });
  }
  if (FLOAT_DTYPES.some((known) => known === found.dtype)) return;
  throw new RefusedInput("weights of this dtype are not supported", {
    where,
    found: found.dtype,
    expected: FLOAT_DTYPES.join(", "),
    hint: NOT_QUANTISED,
  });
}

/** Rows of embedding and head that are compared at a time. */
const COMPARED_ROWS = 4096;

/** Some converters store the head beside tied embeddings. @throws {RefusedInput} when it is not the embedding */
async function proveTiedHead(
  located: ReadonlyMap<string, SafetensorsFile>,
  [rows, width]: [number, number],
): Promise<void> {
  const head = located.get(HEAD) as SafetensorsFile;
  const embedding = located.get(EMBEDDING) as SafetensorsFile;
  proveTensor(head, HEAD, [rows, width]);
  for (let start = 0; start < rows; start += COMPARED_ROWS) {
    const part: RowRange = [start, Math.min(rows, start + COMPARED_ROWS)];
    const ours = await head.read(HEAD, { rows: part });
    const theirs = await embedding.read(EMBEDDING, { rows: part });
    if (ours.every((value, i) => value === theirs[i])) continue;
    throw new RefusedInput("the output head is not the embedding, and config.json says that they are one", {
      where: `${head.path}: ${HEAD}`,
      found: `other numbers than ${EMBEDDING}, in rows ${part.join(" to ")}`,
      expected: "the same numbers, or no output head",
      hint: "set tie_word_embeddings of config.json to false if the head is meant",
    });
  }
}

async function closeAll(files: SafetensorsFile[]): Promise<void> {
  for (const file of files) await file.close();
}
