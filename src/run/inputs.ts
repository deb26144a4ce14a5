import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { RefusedInput } from "../core/errors.js";
import { exists, requireWritableFolder } from "../core/files.js";
import { catalogueEntry, locateData, recordsAt } from "../data/fetch.js";
import { loadIrrelevant, loadRecords, wrapsAround } from "../data/load.js";
import type { Dataset, IrrelevantList } from "../data/records.js";
import { loadUnedited, uneditedOfWorld, withUnedited } from "../data/unedited.js";
import type { EditMethod, Needs } from "../edit/contract.js";
import type { OptionSource } from "../edit/option-table.js";
import { seeingFor } from "../eval/seeing.js";
import type { LlamaConfig } from "../model/config.js";
import { parseT } from "./blocks.js";
import type { LabOptions } from "./lab.js";
import type { RunPlan } from "./plan.js";
import type { RunRequest } from "./request.js";
import { requireOneWorld } from "./world.js";

/** A file of the project itself, wherever it is installed. */
export function projectFile(...parts: string[]): string {
  return fileURLToPath(new URL(["../..", ...parts].join("/"), import.meta.url));
}

/** The model and records that are used when none are named: the small LLaMA of the made-up world, and its 1037 edits. */
export const DEFAULT_MODEL = projectFile("data", "lab-llama");
/** The method that is used when none is named. */
export const DEFAULT_METHOD = "wise";
export const DEFAULT_RECORDS = projectFile("data", "lab", "edits.json");

/** Irrelevant prompts of the project's own, for record files that have no list of theirs. */
const GENERAL_IRRELEVANT = projectFile("data", "irrelevant.json");

/** List of irrelevant prompts for each edit set in the authors' distribution. */
const companions: Readonly<Record<string, string>> = {
  "zsre_mend_edit.json": "zsre_mend_train_loc_prompts_first1000",
  "hallucination-edit.json": "hallucination-train",
  "temporal-edit.json": "temporal-train",
};

/**
 * The irrelevant prompts of a run: the file named; else the one that belongs to a known edit set, beside it or in the
 * data folder; else an irrelevant.json beside the records; else the project's general list.
 * @returns the list, and one line for the user about what was chosen where nothing was named
 */
export async function findIrrelevant(
  records: string,
  named: string | undefined,
): Promise<{ list: IrrelevantList; notice: string | null }> {
  if (named !== undefined) return { list: await loadIrrelevant(named), notice: null };
  const companion = companions[basename(records)];
  if (companion !== undefined) {
    const sibling = join(dirname(records), catalogueEntry(companion).file);
    const found = (await exists(sibling)) ? sibling : await locateData(companion);
    if (found !== null) return belonging(found, records);
  }
  const beside = join(dirname(records), "irrelevant.json");
  if (await exists(beside)) return belonging(beside, records);
  const list = await loadIrrelevant(GENERAL_IRRELEVANT);
  const notice = `irrelevant prompts: the project's general list of ${list.prompts.length}; name one with --irrelevant`;
  return { list, notice };
}

/** Irrelevant prompts for edits made by hand: of its own world for the project's model, general ones for any other. */
export function irrelevantByHand(model: string): Promise<IrrelevantList> {
  const own = join(dirname(DEFAULT_RECORDS), "irrelevant.json");
  return loadIrrelevant(model === DEFAULT_MODEL ? own : GENERAL_IRRELEVANT);
}

async function belonging(path: string, records: string): Promise<{ list: IrrelevantList; notice: string }> {
  const list = await loadIrrelevant(path);
  return { list, notice: `irrelevant prompts: ${list.name}, which belongs to ${basename(records)}` };
}

/** Models that presets are named after, told by their shape. */
const knownShapes = [
  { preset: "llama-3-8b", layers: 32, hiddenSize: 4096, kvHeads: 8, vocabSize: 128256 },
  { preset: "mistral-7b", layers: 32, hiddenSize: 4096, kvHeads: 8, vocabSize: 32000 },
  { preset: "llama-2-7b", layers: 32, hiddenSize: 4096, kvHeads: 32, vocabSize: 32000 },
  { preset: "lab", layers: 4, hiddenSize: 256, kvHeads: 2, vocabSize: 1024 },
  { preset: "tiny", layers: 4, hiddenSize: 64, kvHeads: 2, vocabSize: 1024 },
] as const;

/**
 * Completes where options come from: without a file or preset, the preset of the model's shape.
 * @throws {RefusedInput} when nothing is named and the shape is not known
 */
export function withDefaultPreset(
  source: OptionSource,
  config: LlamaConfig,
  method: Pick<EditMethod, "title" | "presets">,
): OptionSource {
  if (source.file !== undefined || source.preset !== undefined) return source;
  const shapes = knownShapes.filter(({ preset }) => Object.hasOwn(method.presets, preset));
  const known = shapes.find(
    ({ layers, hiddenSize, kvHeads, vocabSize }) =>
      layers === config.layers &&
      hiddenSize === config.hiddenSize &&
      kvHeads === config.kvHeads &&
      vocabSize === config.vocabSize,
  );
  if (known !== undefined) return { ...source, preset: known.preset };
  throw new RefusedInput(`no hyperparameters of ${method.title} are known for this model`, {
    where: "model",
    found: `${config.layers} layers, hidden size ${config.hiddenSize}, vocabulary ${config.vocabSize}`,
    expected: `a file of hyperparameters, or a model shaped like ${shapes.map(({ preset }) => preset).join(", ")}`,
    hint: "--hparams FILE",
  });
}

/** Inputs of a run besides the model, and what to tell the user about them. */
export interface RunInputs
  extends Pick<RunPlan, "dataset" | "irrelevant" | "T" | "seeing" | "targetStop" | "unedited"> {
  notices: string[];
}

/**
 * Reads and checks everything a run needs besides the model, which may take minutes to load.
 * @throws {RefusedInput} for a T, records, irrelevant prompts or output folder that cannot be used, and for records of a
 *   world that the model did not learn
 */
export async function loadRunInputs(
  request: Omit<RunRequest, "when"> & Pick<LabOptions, "model">,
  needs: Pick<Needs, "irrelevant">,
): Promise<RunInputs> {
  const T = parseT(request.T);
  const seeing = seeingFor(request);
  const { targetStop = "none" } = request;
  const data = request.data === undefined ? DEFAULT_RECORDS : await recordsAt(request.data);
  const loaded = await loadRecords(data, { limit: request.limit });
  const { dataset, unedited } = await addUnedited(loaded, request);
  const { list, notices } = await irrelevantFor(dataset, request.irrelevant, needs);
  const { length } = dataset.records;
  if (request.limit !== undefined && request.limit > length)
    notices.push(`limit ${request.limit}: there are ${length} records, all are used`);
  if (T !== "all" && T > length)
    notices.push(`T = ${T}: there are ${length} records, so they are one block, as with T = all`);
  await requireOneWorld(request.model ?? DEFAULT_MODEL, list === null ? [dataset] : [dataset, list]);
  if (request.out !== undefined) await requireWritableFolder(request.out);
  return { dataset, irrelevant: list, T, seeing, targetStop, unedited, notices };
}

/** Gives the records of a run the unedited facts that are asked for. */
async function addUnedited(
  dataset: Dataset,
  { unedited: each, uneditedItems }: Pick<RunRequest, "unedited" | "uneditedItems">,
): Promise<Pick<RunPlan, "dataset" | "unedited">> {
  if (each === undefined) return { dataset, unedited: null };
  const list = uneditedItems === undefined ? await uneditedOfWorld(dataset) : await loadUnedited(uneditedItems);
  const { name, sha256 } = list;
  return {
    dataset: { ...dataset, records: withUnedited(dataset.records, list, each) },
    unedited: { name, sha256, each },
  };
}

/** The irrelevant prompts of a run, and what to tell the user about them. */
async function irrelevantFor(
  { path, records }: Dataset,
  named: string | undefined,
  needs: Pick<Needs, "irrelevant">,
): Promise<{ list: IrrelevantList | null; notices: string[] }> {
  if (!needs.irrelevant) {
    return {
      list: null,
      notices: named === undefined ? [] : ["no effect here: irrelevant prompts, which the method does not need"],
    };
  }
  const { list, notice } = await findIrrelevant(path, named);
  const notices = notice === null ? [] : [notice];
  if (wrapsAround(list, records.length)) {
    const count = `irrelevant prompts: ${list.prompts.length} for ${records.length} records`;
    notices.push(`${count}; the later ones start the list again`);
  }
  return { list, notices };
}
