import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createRng } from "../../src/core/rng.js";
import type { AssetOwner, EditRequest, EditSetting } from "../../src/edit/contract.js";
import { loadOptions } from "../../src/edit/hparams.js";
import type { Options } from "../../src/edit/option-table.js";
import { textsOnDisk } from "../../src/edit/presets.js";
import { methodNamed } from "../../src/edit/registry.js";
import type { WiseOptions } from "../../src/edit/wise/options.js";
import { createCutStore } from "../../src/model/cut-store.js";
import { loadModel, openCheckpoint } from "../../src/model/folder.js";
import type { LlamaModel } from "../../src/model/model.js";
import { selectBackend } from "../../src/tensor/backend.js";
import { golden } from "../support/shared.js";

/** A golden checkpoint on the best backend there is. */
export async function loadTiny(name: "tiny-llama3" | "tiny-llama3-tied" = "tiny-llama3"): Promise<LlamaModel> {
  await selectBackend();
  return loadModel(join(golden, name));
}

/** A model that is not loaded, as the owner of side data. */
export async function ownerOf(folder: string): Promise<AssetOwner> {
  const checkpoint = await openCheckpoint(folder);
  const { name, config } = checkpoint;
  const owner = { name, folder: checkpoint.folder, config, sha256: await checkpoint.sha256() };
  await checkpoint.close();
  return owner;
}

interface GoldenRecords {
  records: { src: string; rephrase: string; subject: string; alt: string; loc: string; loc_ans: string }[];
  irrelevant: string[];
  templates: string[];
  tokens: Record<string, number[]>;
  greedy: Record<string, number[]>;
  chat: { message: string; rendered: string };
}

export const goldenRecords = JSON.parse(readFileSync(join(golden, "records.json"), "utf8")) as GoldenRecords;

/** The six made-up facts of the golden folder as edits. */
export const facts: EditRequest[] = goldenRecords.records.map(({ src, alt }, record) => ({
  record,
  prompt: src,
  target: alt,
  subject: null,
  irrelevant: goldenRecords.irrelevant[record] as string,
}));

/** The edit of golden record `i`. */
export const fact = (i: number) => facts[i] as EditRequest;

/** The options of the tiny checkpoint, few steps, with settings "key=value" on top. */
export async function tinyOptions(...set: string[]): Promise<WiseOptions> {
  return (await optionsOf("wise", "n_iter=4", ...set)) as WiseOptions;
}

/** The options of a method for the tiny checkpoint, with settings "key=value" on top. */
export async function optionsOf(name: string, ...set: string[]): Promise<Options> {
  const { config } = await tinyCheckpoint;
  return (
    await loadOptions(methodNamed(name), { preset: "tiny", set }, { model: config, others: [], texts: textsOnDisk })
  ).options;
}

const tinyCheckpoint = openCheckpoint(join(golden, "tiny-llama3")).then(async (checkpoint) => {
  await checkpoint.close();
  return checkpoint;
});

/** Surroundings of edits: two templates of the golden folder, an empty store and a seeded generator. */
export function settingOf(model: LlamaModel, layer = 2, seed = 0): EditSetting {
  return {
    model,
    cuts: createCutStore(model, { layer, at: "mlpIn" }),
    templates: goldenRecords.templates.slice(0, 2),
    rng: createRng(seed),
    assets: new Map(),
  };
}

/**
 * Largest difference of two lists of numbers, as a share of the largest number in them; NaN when their lengths differ
 * or one holds a NaN.
 */
export function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Number.NaN;
  let difference = 0;
  let size = 0;
  for (let i = 0; i < a.length; i++) {
    const [x, y] = [a[i] as number, b[i] as number];
    difference = Math.max(difference, Math.abs(x - y));
    size = Math.max(size, Math.abs(x), Math.abs(y));
  }
  return difference === 0 ? 0 : difference / size;
}

/** A promise of a value, or the error it ended in. */
export async function errorOf(work: Promise<unknown>): Promise<Error> {
  try {
    await work;
  } catch (error) {
    return error as Error;
  }
  throw new Error("it succeeded");
}
