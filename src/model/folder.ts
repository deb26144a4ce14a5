import { spawnSync } from "node:child_process";
import { readdir } from "node:fs/promises";
import { createRequire } from "node:module";
import { basename, join, resolve } from "node:path";
import { errorText, RefusedInput } from "../core/errors.js";
import { exists, readText, sha256File } from "../core/files.js";
import { TRIAL_MB, TRIAL_MS } from "./chat-template.js";
import { type Checkpoint, readCheckpoint } from "./checkpoint.js";
import type { LlamaConfig } from "./config.js";
import { MODEL_FOLDER, type ModelFiles } from "./files.js";
import { sha256Kept } from "./kept-hash.js";
import { type LlamaModel, type LoadOptions, readModel } from "./model.js";
import { ORIGIN_FILE, type Origin, parseOrigin, TRAINED_FILES } from "./origin.js";
import { sourceOnDisk } from "./safetensors-file.js";
import { readTokenizer, type Tokenizer } from "./tokenizer.js";

/* Models on disk: Hugging Face folders. */

/** Opens a checkpoint; see `readCheckpoint`. @throws {RefusedInput} also when the folder cannot be read */
export async function openCheckpoint(folder: string): Promise<Checkpoint> {
  return readCheckpoint(await filesOnDisk(folder));
}

/** Loads a tokenizer; see `readTokenizer`. @throws {RefusedInput} also when the folder cannot be read */
export async function loadTokenizer(folder: string, config?: LlamaConfig): Promise<Tokenizer> {
  return readTokenizer(await filesOnDisk(folder), config);
}

/** Loads a model; see `readModel`. @throws {RefusedInput} also when the folder cannot be read */
export async function loadModel(folder: string, options: LoadOptions = {}): Promise<LlamaModel> {
  return readModel(await filesOnDisk(folder), options);
}

/**
 * Origin of a model folder; null for one that was not trained here.
 * @throws {RefusedInput} when its training.json is not one that a training wrote
 */
export async function readOrigin(folder: string): Promise<Origin | null> {
  const path = join(folder, ORIGIN_FILE);
  return (await exists(path)) ? parseOrigin(await readText(path), path) : null;
}

/** sha256 of the files that a training wrote. @throws {RefusedInput} when one of them is missing */
export async function hashModelFiles(folder: string): Promise<Origin["files"]> {
  const hashes: [name: string, sha256: string][] = [];
  for (const name of TRAINED_FILES) hashes.push([name, await sha256File(join(folder, name))]);
  return Object.fromEntries(hashes) as Origin["files"];
}

async function filesOnDisk(where: string): Promise<ModelFiles> {
  const folder = resolve(where);
  const pathOf = (name: string) => join(where, name);
  return {
    folder,
    name: basename(folder),
    where,
    names: await listModelFolder(where),
    pathOf,
    text: (name) => readText(pathOf(name)),
    open: (name) => sourceOnDisk(pathOf(name)),
    sha256: (name, options) => sha256Kept(pathOf(name), options),
    tryTemplate,
  };
}

/** Sorted names of the files in a model's folder. @throws {RefusedInput} when it is no folder, is empty, or is a cache of models */
async function listModelFolder(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch((cause: unknown) => {
    throw new RefusedInput("a model folder cannot be read", {
      where: folder,
      found: errorText(cause),
      expected: MODEL_FOLDER,
      ...(HUB_ID.test(folder) && { hint: downloadOf(folder) }),
      cause,
    });
  });
  if (names.includes("snapshots") && names.includes("blobs")) await refuseCacheRoot(folder);
  if (names.length > 0) return names.sort();
  throw new RefusedInput("a model folder is empty", { where: folder, found: "no files", expected: MODEL_FOLDER });
}

/** Name of a model on the Hugging Face hub. */
const HUB_ID = /^[\w.-]+\/[\w.-]+$/;

function downloadOf(id: string): string {
  const to = id.slice(id.indexOf("/") + 1);
  return `nothing is downloaded here: hf download ${id} --local-dir ${to}, then --model ${to}`;
}

/** A Hugging Face cache keeps a model's files under snapshots/REVISION. */
async function refuseCacheRoot(folder: string): Promise<never> {
  const revisions = (await readdir(join(folder, "snapshots"))).sort();
  const main = await readText(join(folder, "refs", "main")).catch(() => "");
  const named = revisions.find((revision) => revision === main.trim()) ?? revisions[0];
  throw new RefusedInput("this is the root of a model in a Hugging Face cache", {
    where: folder,
    found: `snapshots of ${revisions.length} revisions`,
    expected: MODEL_FOLDER,
    hint: named === undefined ? "download the model: it has no snapshot" : join(folder, "snapshots", named),
  });
}

const TRIAL = `
const { jinja, source, context } = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
const { Template } = require(jinja);
try { new Template(source).render(context); } catch {}
`;

/** Templates whose rendering has come to an end, well or not. */
const tried = new Set<string>();

/** @throws {Error} when a rendering takes more time or memory than it may: no thread can be kept from that, a process can */
function tryTemplate(source: string, context: Record<string, unknown>): void {
  if (tried.has(source)) return;
  const jinja = createRequire(import.meta.url).resolve("@huggingface/jinja");
  const { status } = spawnSync(process.execPath, [`--max-old-space-size=${TRIAL_MB}`, "--eval", TRIAL], {
    input: JSON.stringify({ jinja, source, context }),
    timeout: TRIAL_MS,
    killSignal: "SIGKILL",
    stdio: ["pipe", "ignore", "ignore"],
  });
  if (status !== 0) throw new Error("no end of the rendering, or no memory left for it");
  tried.add(source);
}
