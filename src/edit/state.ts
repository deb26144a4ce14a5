import { z } from "zod";
import { RefusedInput, show } from "../core/errors.js";
import { sha256Bytes, sha256Json } from "../core/hash.js";
import type { LlamaModel } from "../model/model.js";
import type { SafetensorsFile } from "../model/safetensors.js";
import { safetensorsChunks } from "../model/safetensors-write.js";
import { assetHashes } from "./assets.js";
import type { Asset, EditSession, EditSetting, PreparedMethod } from "./contract.js";

/** Edits as plain values: what they are saved, hashed and restored as, whatever made them. */
export interface EditState {
  /** Edits made so far. */
  edits: number;
  /** float32 arrays by name. */
  tensors: Readonly<Record<string, StateTensor>>;
  /** All else, as plain JSON. */
  json: unknown;
}

export interface StateTensor {
  shape: readonly number[];
  data: Float32Array;
}

const FORMAT = "wise-lab edits, version 2";

/** The JSON beside the tensors of saved edits. */
const metadataSchema = z.object({
  format: z.literal(FORMAT),
  method: z.string(),
  modelSha256: z.string(),
  options: z.record(z.string(), z.unknown()),
  /** sha256 of side data, by name. */
  assets: z.record(z.string(), z.string()),
  edits: z.number().int().nonnegative(),
  state: z.unknown(),
});

/** Owner of edits: a saved file fits one such owner alone. */
export interface EditOwner {
  method: Pick<PreparedMethod, "method" | "name" | "options" | "start">;
  model: Pick<LlamaModel, "sha256">;
  assets: ReadonlyMap<string, Asset>;
}

/** Saved edits as the parts of one safetensors file, with `hashEdits` of them, which stands in the file too. */
export interface EditFile {
  sha256: string;
  chunks: Iterable<Uint8Array>;
}

/** The edits of a session as a file. Equal edits give equal bytes. */
export async function editFile(session: EditSession, owner: EditOwner): Promise<EditFile> {
  const { tensors, ...state } = await session.state();
  return fileOf(metadataOf(state, owner), tensors);
}

/** sha256 of everything in the file of `editFile`: equal for equal edits, wherever they were made. */
export async function hashEdits(session: EditSession, owner: EditOwner): Promise<string> {
  const { tensors, ...state } = await session.state();
  return hashOf(metadataOf(state, owner), tensors);
}

interface StoredState {
  metadata: z.infer<typeof metadataSchema>;
  tensors: EditState["tensors"];
  /** `hashEdits`; null in a file of the form before, which had none. */
  sha256: string | null;
}

function hashOf(metadata: StoredState["metadata"], tensors: EditState["tensors"]): string {
  const hashes = Object.entries(tensors).map(([name, { shape, data }]) => [
    name,
    { shape, sha256: sha256Bytes(new Uint8Array(data.buffer, data.byteOffset, data.byteLength)) },
  ]);
  return sha256Json({ metadata, tensors: Object.fromEntries(hashes) });
}

function fileOf(metadata: StoredState["metadata"], tensors: EditState["tensors"]): EditFile {
  const sha256 = hashOf(metadata, tensors);
  const stored = Object.entries(tensors).map(
    ([name, { shape, data }]) => [name, { dtype: "F32", shape: [...shape], data }] as const,
  );
  const texts = { "wise-lab": JSON.stringify(metadata), sha256 };
  return { sha256, chunks: safetensorsChunks(Object.fromEntries(stored), texts) };
}

async function readState(file: SafetensorsFile): Promise<StoredState> {
  const metadata = parseMetadata(file);
  const tensors: Record<string, StateTensor> = {};
  for (const [name, { shape }] of file.tensors) {
    tensors[name] = { shape, data: await file.read(name, { finite: true }) };
  }
  return { metadata, tensors, sha256: file.metadata.sha256 ?? null };
}

/** Saved edits of the form before with their sha256. @throws {RefusedInput} for edits that have it */
export async function sealedFile(file: SafetensorsFile): Promise<EditFile> {
  const { metadata, tensors, sha256 } = await readState(file);
  if (sha256 === null) return fileOf(metadata, tensors);
  throw new RefusedInput("these edits have their sha256", { where: file.path, found: sha256, expected: "none yet" });
}

function metadataOf({ edits, json }: Omit<EditState, "tensors">, owner: EditOwner): z.infer<typeof metadataSchema> {
  const { method, model } = owner;
  return {
    format: FORMAT,
    method: method.name,
    modelSha256: model.sha256,
    options: method.options,
    assets: assetHashes(owner.assets),
    edits,
    state: json,
  };
}

/**
 * Goes on from a file that `saveEdits` wrote.
 * @throws {RefusedInput} when the file is none, is not as it was written, or belongs to another method, model, options or
 * side data
 */
export async function restoreFrom(
  file: SafetensorsFile,
  setting: EditSetting,
  owner: EditOwner,
): Promise<{ session: EditSession; edits: number; sha256: string }> {
  const { metadata, tensors, sha256 } = await readWhole(file);
  requireOwner(file.path, metadata, owner);
  const { edits, state: json } = metadata;
  return { session: owner.method.start(setting, { edits, tensors, json }), edits, sha256 };
}

/** Method and options of saved edits, and `hashEdits` of them. */
export type SavedEdits = Pick<StoredState["metadata"], "method" | "options" | "modelSha256" | "edits"> & {
  sha256: string;
};

/** Describes saved edits. @throws {RefusedInput} when they are not as they were written */
export async function describeEdits(file: SafetensorsFile): Promise<SavedEdits> {
  const { metadata, sha256 } = await readWhole(file);
  const { method, options, modelSha256, edits } = metadata;
  return { method, options, modelSha256, edits, sha256 };
}

async function readWhole(file: SafetensorsFile): Promise<StoredState & { sha256: string }> {
  const { path } = file;
  const { metadata, tensors, sha256 } = await readState(file);
  const found = hashOf(metadata, tensors);
  if (found === sha256) return { metadata, tensors, sha256 };
  if (sha256 === null) {
    throw new RefusedInput("saved edits in an older form", {
      where: path,
      found: "no sha256 of the edits",
      expected: "edits as wise-lab saves them today",
      hint: `wise-lab convert ${path} NEWFILE`,
    });
  }
  throw new RefusedInput("saved edits are not as they were written", {
    where: path,
    found: `sha256 ${found}`,
    expected: `sha256 ${sha256}, as the file says`,
    hint: "a copy of it, or make the edits again",
  });
}

function parseMetadata(file: SafetensorsFile): z.infer<typeof metadataSchema> {
  const text = file.metadata["wise-lab"];
  const parsed = metadataSchema.safeParse(text === undefined ? undefined : parseJson(text));
  if (parsed.success) return parsed.data;
  throw new RefusedInput("not a file of saved edits", {
    where: `${file.path}, metadata "wise-lab"`,
    found: text,
    expected: `metadata with format "${FORMAT}": ${z.prettifyError(parsed.error)}`,
  });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // the schema then says what is missing
  }
}

function requireOwner(path: string, saved: z.infer<typeof metadataSchema>, { method, model, assets }: EditOwner): void {
  const require = (what: string, found: unknown, expected: unknown): void => {
    if (JSON.stringify(found) === JSON.stringify(expected)) return;
    throw new RefusedInput(`edits were made with another ${what}`, {
      where: `${path}, ${what}`,
      found: found === undefined ? "none" : found,
      expected: expected === undefined ? "none" : show(expected),
    });
  };
  require("method", saved.method, method.name);
  require("model sha256", saved.modelSha256, model.sha256);
  for (const key of new Set([...Object.keys(saved.options), ...Object.keys(method.options)])) {
    if (method.method.options[key]?.read === "inference") continue; // the same edits serve every value of it
    const unsaid = method.method.options[key]?.unsaid;
    require(`option ${key}`, key in saved.options ? saved.options[key] : unsaid, method.options[key]);
  }
  const own = assetHashes(assets);
  for (const name of new Set([...Object.keys(saved.assets), ...Object.keys(own)])) {
    require(`${name} (sha256)`, saved.assets[name], own[name]);
  }
}

/**
 * A tensor of a state in its shape.
 * @throws {RefusedInput} when it is not there, or in another shape
 */
export function stateTensor({ tensors }: EditState, name: string, shape: readonly number[]): Float32Array {
  const found = tensors[name];
  if (found !== undefined && found.shape.join() === shape.join()) return found.data;
  throw new RefusedInput("saved edits do not fit the model", {
    where: `tensor ${name}`,
    found: found === undefined ? "no such tensor" : `[${found.shape.join(", ")}]`,
    expected: `[${shape.join(", ")}]`,
  });
}
