import { createHash } from "node:crypto";
import { readdir, rm, stat, statfs } from "node:fs/promises";
import { join } from "node:path";
import { RefusedInput, throwIfAborted } from "../../core/errors.js";
import { requireWritableFolder, sha256File, writeFileAtomic } from "../../core/files.js";
import { sha256Bytes } from "../../core/hash.js";
import { createRng, requireSeed } from "../../core/rng.js";
import { sha256OfFiles } from "../../model/checkpoint.js";
import { parseLlamaConfig } from "../../model/config.js";
import { openCheckpoint } from "../../model/folder.js";
import type { StandInModel } from "../../model/known.js";
import { standInCard } from "./card.js";
import { finishedFiles, type StandInRecord, saveRecord } from "./record.js";
import { planShards, type ShardPlan, shardIndex } from "./shards.js";
import { tokenizerFiles } from "./tokenizer.js";
import { type NormalTable, normalTable, tensorBytes } from "./values.js";

export interface StandInOptions {
  /** Folder to write; new, empty, or one in which the same stand-in was begun. */
  folder: string;
  /** The same seed gives the same bytes; 0 by default. */
  seed?: number;
  signal?: AbortSignal;
  onProgress?: (progress: StandInProgress) => void;
}

export interface StandInProgress {
  /** The file being written. */
  file: string;
  /** Bytes of weights that are on disk, of all; those that were there before count as done. */
  done: number;
  total: number;
}

export interface StandIn {
  folder: string;
  /** As `Checkpoint.sha256` would say. */
  sha256: string;
  /** Files of weights. */
  files: string[];
  /** Bytes of these files. */
  bytes: number;
  /** Bytes of them written now: less than `bytes` when files were there before. */
  written: number;
}

const INDEX = "model.safetensors.index.json";

/** Read by people or by the loader on its way to the weights; what the model computes does not depend on them. */
const NOT_HASHED = [INDEX, "README.md"];

/** A file system's own needs and the record: small against any weights. */
const SPARE_BYTES = 1 << 20;

const DTYPES = { bfloat16: "BF16", float16: "F16" } as const;

/**
 * Writes a checkpoint with the shapes, names, dtype and files of a published model and seeded random weights: normal
 * with the model's initializer_range, norms 1. Memory stays at some megabytes. Every file is whole or not there, and a
 * finished one is kept when the same stand-in is written again.
 * @throws {RefusedInput} for a configuration that cannot be loaded, a folder with anything else in it, a full disk
 * @throws {Interrupted} when the signal is aborted; finished files stay
 */
export async function writeStandIn(model: StandInModel, options: StandInOptions): Promise<StandIn> {
  const { folder, seed = 0, signal, onProgress = () => {} } = options;
  requireSeed(seed);
  const config = parseLlamaConfig(model.config, `stand-in for ${model.source}`);
  const shards = planShards(config, DTYPES[model.config.torch_dtype], model.maxShardBytes);
  const texts = textFiles(model, shards, seed);
  const record: StandInRecord = { standsInFor: model, seed, files: await finishedFiles(folder, model, seed) };
  const kept = await keptShards(folder, shards, record);
  const missing = shards.filter((shard) => !kept.includes(shard));
  await requireWritableFolder(folder);
  await removeDrafts(folder);
  await requireSpace(folder, sumOf(missing) + sumOf(texts));
  await saveRecord(folder, record);
  const table = normalTable(model.config.initializer_range, DTYPES[model.config.torch_dtype]);
  const total = sumOf(shards);
  let before = sumOf(kept);
  for (const shard of missing) {
    const onBytes = (done: number) => onProgress({ file: shard.file, done: before + done, total });
    record.files[shard.file] = await writeShard(shard, { folder, table, seed, signal, onBytes });
    await saveRecord(folder, record);
    before += shard.bytes;
  }
  for (const { file, text } of texts) {
    await writeFileAtomic(join(folder, file), text);
    record.files[file] = sha256Bytes(text);
  }
  await saveRecord(folder, record);
  await (await openCheckpoint(folder)).close(); // proves every name and shape
  return {
    folder,
    sha256: sha256OfFiles(Object.entries(record.files).filter(([file]) => !NOT_HASHED.includes(file))),
    files: shards.map(({ file }) => file),
    bytes: total,
    written: sumOf(missing),
  };
}

interface TextFile {
  file: string;
  text: string;
  bytes: number;
}

/** Everything but the weights. */
function textFiles(model: StandInModel, shards: readonly ShardPlan[], seed: number): TextFile[] {
  const { bos_token_id, eos_token_id } = model.config;
  const json: Record<string, unknown> = {
    "config.json": model.config,
    "generation_config.json": { bos_token_id, eos_token_id },
    ...tokenizerFiles(model),
    ...(shards.length > 1 && { [INDEX]: shardIndex(shards) }),
  };
  const texts = Object.entries(json).map(([file, value]) => [file, `${JSON.stringify(value, null, 2)}\n`] as const);
  const all = [...texts, ["README.md", standInCard(model, seed)] as const];
  return all.map(([file, text]) => ({ file, text, bytes: Buffer.byteLength(text) }));
}

/** @returns the file's sha256 */
async function writeShard(
  { file, header, tensors }: ShardPlan,
  {
    folder,
    table,
    seed,
    signal,
    onBytes,
  }: {
    folder: string;
    table: NormalTable;
    seed: number;
    signal: AbortSignal | undefined;
    onBytes: (done: number) => void;
  },
): Promise<string> {
  const rng = createRng(seed).fork("stand-in");
  const hash = createHash("sha256");
  function* bytes(): Generator<Uint8Array> {
    let done = 0;
    for (const chunk of chunks()) {
      throwIfAborted(signal, `the writing of ${file}`);
      hash.update(chunk);
      yield chunk;
      done += chunk.length;
      onBytes(done);
    }
  }
  function* chunks(): Generator<Uint8Array> {
    yield header;
    for (const [name, { shape }] of tensors) yield* tensorBytes(shape, table, rng.fork(name));
  }
  try {
    await writeFileAtomic(join(folder, file), bytes());
  } catch (error) {
    throwIfAborted(signal, `the writing of ${file}`); // not a failure to write
    throw error;
  }
  return hash.digest("hex");
}

/** Shards that are on disk as the record says. */
async function keptShards(folder: string, shards: readonly ShardPlan[], record: StandInRecord): Promise<ShardPlan[]> {
  const kept: ShardPlan[] = [];
  for (const shard of shards) {
    const path = join(folder, shard.file);
    const sha256 = record.files[shard.file];
    const size = await stat(path).then(
      ({ size }) => size,
      () => null, // not there
    );
    if (sha256 !== undefined && size === shard.bytes && (await sha256File(path)) === sha256) kept.push(shard);
  }
  return kept;
}

/** Takes away what a process that was killed left half written: up to five gigabytes. */
async function removeDrafts(folder: string): Promise<void> {
  const drafts = (await readdir(folder)).filter((name) => /^model.*\.safetensors\.\d+\.part$/.test(name));
  for (const draft of drafts) await rm(join(folder, draft));
}

/** @throws {RefusedInput} when the disk has no room for so many bytes */
async function requireSpace(folder: string, bytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(folder);
  const free = bavail * bsize;
  if (free >= bytes + SPARE_BYTES) return;
  throw new RefusedInput("the disk has too little room for the checkpoint", {
    where: folder,
    found: `${gigabytes(free)} free`,
    expected: `${gigabytes(bytes + SPARE_BYTES)} for what is still to be written`,
    hint: "another disk, or fewer layers: --layers 2",
  });
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(3)} GB`;
}

function sumOf(files: readonly { bytes: number }[]): number {
  return files.reduce((sum, { bytes }) => sum + bytes, 0);
}
