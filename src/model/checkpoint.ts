import { basename, join, resolve } from "node:path";
import { z } from "zod";
import { nearest, RefusedInput } from "../core/errors.js";
import { readJsonFile } from "../core/files.js";
import { sha256Json } from "../core/hash.js";
import { type LlamaConfig, parseLlamaConfig } from "./config.js";
import { listModelFolder, MODEL_FOLDER } from "./folder.js";
import { NOT_QUANTISED, refuseAdapter, refuseForeignTensors } from "./foreign.js";
import { sha256Kept } from "./kept-hash.js";
import { requireAsTrained } from "./origin.js";
import { FLOAT_DTYPES, openSafetensors, type RowRange, type SafetensorsFile } from "./safetensors.js";
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

/**
 * Opens a Hugging Face LLaMA folder: config.json with one model.safetensors, or an index and its shards.
 * Every tensor that the configuration demands must be there in its shape, and no other. The files of a model that was
 * trained here must be the ones that the training wrote.
 * @throws {RefusedInput} naming file, tensor, found and expected
 */
export async function openCheckpoint(folder: string): Promise<Checkpoint> {
  const names = await listModelFolder(folder);
  refuseAdapter(names, folder);
  await requireAsTrained(folder);
  const config = await readConfig(folder, names);
  const files = await openWeights(folder, names);
  try {
    const located = locateTensors(files, folder);
    const shapes = tensorShapes(config);
    proveTensors(located, shapes, { config, folder });
    if (config.tiedEmbeddings && located.has(HEAD)) await proveTiedHead(located, [config.vocabSize, config.hiddenSize]);
    return checkpointOf({ folder: resolve(folder), config, shapes, files, located, names });
  } catch (error) {
    await closeAll(files);
    throw error;
  }
}

function checkpointOf(opened: {
  folder: string;
  config: LlamaConfig;
  shapes: ReadonlyMap<string, number[]>;
  files: SafetensorsFile[];
  located: ReadonlyMap<string, SafetensorsFile>;
  names: string[];
}): Checkpoint {
  const { folder, config, shapes, files, located, names } = opened;
  const fileOf = (name: string): SafetensorsFile => {
    const file = located.get(name);
    if (file) return file;
    const near = nearest(name, [...located.keys()]);
    throw new RefusedInput("the model has no such tensor", {
      where: folder,
      found: name,
      expected: near ? `the name of a tensor, such as ${near}` : "the name of a tensor",
    });
  };
  let hash: Promise<string> | undefined;
  return {
    folder,
    name: basename(folder),
    config,
    shapes,
    read: async (name, options = {}) => fileOf(name).read(name, { ...options, finite: true }),
    isBf16: (name) => fileOf(name).tensors.get(name)?.dtype === "BF16",
    readBf16: async (name, options = {}) => fileOf(name).readBf16(name, { ...options, finite: true }),
    sha256: (options) => {
      const weights = files.map((file) => basename(file.path));
      const others = HASHED_FILES.filter((name) => names.includes(name));
      hash ??= hashFiles(folder, [...weights, ...others], options);
      return hash;
    },
    close: () => closeAll(files),
  };
}

async function hashFiles(folder: string, names: string[], options?: { verify?: boolean | undefined }): Promise<string> {
  const hashes: [name: string, sha256: string][] = [];
  for (const name of names) hashes.push([name, await sha256Kept(join(folder, name), options)]);
  return sha256OfFiles(hashes);
}

/** The SHA-256 of a checkpoint from those of its files. */
export function sha256OfFiles(hashes: readonly (readonly [name: string, sha256: string])[]): string {
  return sha256Json([...hashes].sort(([a], [b]) => (a < b ? -1 : 1)));
}

async function readConfig(folder: string, names: string[]): Promise<LlamaConfig> {
  if (!names.includes("config.json")) {
    const found = `a folder without config.json: ${names.join(", ")}`;
    throw new RefusedInput("this folder holds no model", { where: folder, found, expected: MODEL_FOLDER });
  }
  const path = join(folder, "config.json");
  return parseLlamaConfig(await readJsonFile(path), path);
}

async function openWeights(folder: string, names: string[]): Promise<SafetensorsFile[]> {
  const shards = await weightFiles(folder, names);
  const missing = shards.filter((shard) => !names.includes(shard));
  if (missing.length > 0) {
    throw new RefusedInput("shards of the checkpoint are missing", {
      where: folder,
      found: `${shards.length - missing.length} of ${shards.length} files; missing ${missing.join(", ")}`,
      expected: `every file that ${INDEX} names`,
      hint: "download the missing files",
    });
  }
  const files: SafetensorsFile[] = [];
  try {
    for (const shard of shards) files.push(await openSafetensors(join(folder, shard)));
    return files;
  } catch (error) {
    await closeAll(files);
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
async function weightFiles(folder: string, names: string[]): Promise<string[]> {
  if (names.includes(WEIGHTS)) return [WEIGHTS];
  if (names.includes(INDEX)) {
    const path = join(folder, INDEX);
    const { weight_map } = checked(indexSchema, await readJsonFile(path), path);
    return [...new Set(Object.values(weight_map))].sort();
  }
  const other = names.filter((name) => /\.(bin|pth|pt|gguf|safetensors)$/.test(name));
  throw new RefusedInput("the model has no weights", {
    where: folder,
    found: other.length > 0 ? other.join(", ") : "no weight files",
    expected: `${WEIGHTS}, or ${INDEX} and its shards`,
    ...(other.length > 0 && { hint: "save the model with Transformers: model.save_pretrained(FOLDER)" }),
  });
}

function locateTensors(files: SafetensorsFile[], folder: string): Map<string, SafetensorsFile> {
  const located = new Map<string, SafetensorsFile>();
  for (const file of files) {
    for (const name of file.tensors.keys()) {
      const other = located.get(name);
      if (other) {
        throw new RefusedInput("a tensor stands in two shards", {
          where: `${folder}: ${name}`,
          found: `${basename(other.path)} and ${basename(file.path)}`,
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
