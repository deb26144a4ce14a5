import { basename, dirname, join } from "node:path";
import type { z } from "zod";
import { RefusedInput } from "../../core/errors.js";
import { exists, readBytes, sha256File } from "../../core/files.js";
import { sha256Bytes, sha256Json } from "../../core/hash.js";
import { decodeUtf8, parseJson } from "../../core/json.js";
import { type ListFile, parseItem, readListFile } from "../read-list.js";
import { linesOf } from "./lines.js";
import { factSchema, manifestSchema, recordSchema, relationSchema, textSchema } from "./schema.js";
import type { Manifest, World } from "./types.js";

export const MANIFEST_FILE = "manifest.json";

/** The world's lists and their files. Its lines follow from facts and relations and are not written. */
const listFiles = {
  relations: "relations.json",
  facts: "facts.json",
  edits: "edits.json",
  irrelevant: "irrelevant.json",
  tuning: "tuning.json",
  tuningIrrelevant: "tuning-irrelevant.json",
  prefixes: "prefixes.json",
} as const satisfies Partial<Record<keyof World, string>>;

/**
 * Reads a world that `writeWorld` wrote.
 * @throws {RefusedInput} naming the file, when one is missing or any byte of any file has changed.
 */
export async function readWorld(folder: string): Promise<World> {
  const manifest = await readManifest(folder);
  for (const name of Object.values(listFiles)) {
    const path = join(folder, name);
    requireUnchanged({ path, sha256: await sha256File(path) }, manifest);
  }
  const list = async <T>(name: string, schema: z.ZodType<T>): Promise<T[]> => {
    const path = join(folder, name);
    const { items } = await readListFile(path);
    return items.map((item, index) => parseItem(schema, item, { path, index }));
  };
  const relations = await list(listFiles.relations, relationSchema);
  const facts = await list(listFiles.facts, factSchema);
  return {
    seed: manifest.seed,
    relations,
    facts,
    lines: linesOf(facts, relations),
    edits: await list(listFiles.edits, recordSchema),
    irrelevant: await list(listFiles.irrelevant, textSchema),
    tuning: await list(listFiles.tuning, recordSchema),
    tuningIrrelevant: await list(listFiles.tuningIrrelevant, textSchema),
    prefixes: await list(listFiles.prefixes, textSchema),
  };
}

/**
 * The world that a data file belongs to: it has the name of one of a world's files, and a manifest beside it.
 * @returns sha256 of the world; null for a file of no world
 * @throws {RefusedInput} when any byte of the file or the manifest has changed
 */
export async function worldOf(file: Pick<ListFile, "path" | "sha256">): Promise<string | null> {
  const names: readonly string[] = Object.values(listFiles);
  const folder = dirname(file.path);
  if (!names.includes(basename(file.path)) || !(await exists(join(folder, MANIFEST_FILE)))) return null;
  const manifest = await readManifest(folder);
  requireUnchanged(file, manifest);
  return manifest.sha256;
}

/** Identity of a world: the same as its manifest's `sha256`. */
export function worldSha256(world: World): string {
  return manifestOf(world.seed, filesOf(world)).sha256;
}

/** The text of each of a world's list files. */
export function filesOf(world: World): Record<string, string> {
  const entries = Object.entries(listFiles) as [keyof typeof listFiles, string][];
  return Object.fromEntries(entries.map(([list, file]) => [file, listText(world[list])]));
}

/** A JSON list with one entry per line, so that a difference shows as lines. */
export function listText(items: readonly unknown[]): string {
  return `[\n${items.map((item) => JSON.stringify(item)).join(",\n")}\n]\n`;
}

/** Manifest of such files. */
export function manifestOf(seed: number, texts: Record<string, string>): Manifest {
  const files = Object.fromEntries(
    Object.entries(texts).map(([name, text]) => {
      const bytes = Buffer.from(text);
      return [name, { bytes: bytes.length, sha256: sha256Bytes(bytes) }];
    }),
  );
  const content = { format: 1, seed, files } as const;
  return { ...content, sha256: sha256Json(content) };
}

/** The manifest as its file has it. */
export function manifestText(manifest: Manifest): string {
  return `${JSON.stringify(manifest, null, 2)}\n`;
}

/** The manifest, whose own bytes can be nothing but what its content is written as. */
async function readManifest(folder: string): Promise<Manifest> {
  const path = join(folder, MANIFEST_FILE);
  const text = decodeUtf8(await readBytes(path), path);
  const manifest = parseItem(manifestSchema, parseJson(text, path), { path, index: 0 });
  const { sha256, ...content } = manifest;
  if (sha256 !== sha256Json(content) || text !== manifestText(manifest)) {
    throw changed(path, "a manifest whose sha256 is not that of its content", `sha256 ${sha256Json(content)}`);
  }
  return manifest;
}

function requireUnchanged({ path, sha256 }: Pick<ListFile, "path" | "sha256">, manifest: Manifest): void {
  const listed = manifest.files[basename(path)];
  if (listed?.sha256 === sha256) return;
  throw changed(path, `sha256 ${sha256}`, listed ? `sha256 ${listed.sha256}` : `a file that ${MANIFEST_FILE} lists`);
}

function changed(where: string, found: string, expected: string): RefusedInput {
  return new RefusedInput("a file of the world is not the one that was written", {
    where,
    found,
    expected,
    hint: "make the world again from its seed",
  });
}
