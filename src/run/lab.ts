import { loadRecords } from "../data/load.js";
import { type IrrelevantList, irrelevantPrompt } from "../data/records.js";
import { worldOf } from "../data/world/store.js";
import { openAssets } from "../edit/assets.js";
import type { Asset, PreparedMethod } from "../edit/contract.js";
import type { OptionSource } from "../edit/option-table.js";
import { methodNamed, methods, prepareNamed } from "../edit/registry.js";
import { restoreEdits, writeEdits } from "../edit/saved.js";
import { makeContextTemplates } from "../edit/templates.js";
import { type EditsByHand, editsByHand } from "../eval/byHand.js";
import { seeingFor } from "../eval/seeing.js";
import { backendFor } from "../model/backend.js";
import type { Checkpoint } from "../model/checkpoint.js";
import type { LlamaConfig } from "../model/config.js";
import { type CutStore, createCutStore } from "../model/cut-store.js";
import { loadModel, loadTokenizer, openCheckpoint } from "../model/folder.js";
import type { LlamaModel } from "../model/model.js";
import { cutName } from "../model/patch.js";
import type { BackendReport } from "../tensor/backend.js";
import { RECORDS_TOGETHER } from "./blocks.js";
import { requireRunPlace } from "./folder-files.js";
import { type FrozenPart, type FrozenPartOptions, openFrozenPart } from "./frozen-part.js";
import { handsFor } from "./hands.js";
import {
  DEFAULT_METHOD,
  DEFAULT_MODEL,
  DEFAULT_RECORDS,
  irrelevantByHand,
  loadRunInputs,
  withDefaultPreset,
} from "./inputs.js";
import { copiesBeside, readMachine } from "./memory-fit.js";
import type { MemoryPlan } from "./memory-plan.js";
import { checkWhen, type RunPlan } from "./plan.js";
import type { RunRequest } from "./request.js";
import { runProtocol } from "./runner.js";
import { type MachineOptions, type PlannedWork, planWork, settleMemory } from "./settle.js";
import type { RunResult } from "./types.js";

/** Options of a lab. Everything has a default: the model, records and hyperparameters of the project. */
export interface LabOptions extends MachineOptions, FrozenPartOptions {
  /** Folder of a Hugging Face LLaMA. */
  model?: string | undefined;
  /** Editing method; see `methods`. */
  method?: string | undefined;
  /** Hyperparameters: a YAML file or preset, and "key=value" settings over it. */
  hparams?: OptionSource | undefined;
  /** The run that is to come: it is checked, and memory planned for it, before weights are read. Edits by hand, when left out. */
  planFor?: RunRequest | undefined;
  /** Context templates that the model has written before; by default it writes them now. */
  templates?: readonly string[] | undefined;
  signal?: AbortSignal | undefined;
}

/** A model to ask, edit by hand and roll back, and to run the protocol on. */
export interface Lab extends Omit<EditsByHand, "file" | "restore"> {
  readonly model: LlamaModel;
  readonly backend: BackendReport;
  readonly method: PreparedMethod;
  /** Names of the methods that there are. */
  readonly methods: readonly string[];
  /** The context templates that the model wrote; "{}" alone where the method needs none. */
  readonly templates: readonly string[];
  /** Writes the edits that stand to one safetensors file. @returns `hash` of them, which stands in the file too */
  save(path: string): Promise<string>;
  /** Rolls back and puts the edits of a saved file in place. */
  restore(path: string): Promise<void>;
  /** Runs the protocol. The edits made by hand are not part of it and stay. */
  run(request: RunRequest): Promise<RunResult>;
  /**
   * A lab for another method on the model that is loaded, with edits of its own. It ends with this one.
   * @throws {RefusedInput} for a method or option that cannot be used, or weights that are not in memory
   */
  with(options: MethodOptions): Promise<Lab>;
  close(): void;
}

/** A method, and where its side data is told of. */
export type MethodOptions = Pick<LabOptions, "method" | "hparams" | "signal" | "onNotice">;

/** Loads a model and prepares a method on it. @throws {RefusedInput} for a model, method or option that cannot be used */
export async function openLab(options: LabOptions = {}): Promise<Lab> {
  const { loaded, prepared } = await load(options);
  try {
    return await labOn(loaded, prepared, { ...options, free: loaded.model.dispose });
  } catch (error) {
    loaded.model.dispose();
    throw error;
  }
}

/** Loads a model for one run. @throws {RefusedInput} as `openLab`, and for inputs of the run that cannot be used */
export async function openPlan(options: LabOptions, request: RunRequest): Promise<RunPlan> {
  const { loaded, prepared } = await load({ ...options, planFor: request });
  const { parts } = await partsOn(loaded, prepared, options);
  return (await planOf(parts, request, options)).plan;
}

async function load(options: LabOptions): Promise<{ loaded: Loaded; prepared: MethodParts }> {
  const folder = options.model ?? DEFAULT_MODEL;
  const checkpoint = await openCheckpoint(folder);
  if (options.verify) await checkpoint.sha256({ verify: true });
  const prepared = await prepareLab(checkpoint, options).finally(checkpoint.close);
  const { backend, method, residence, precision, tokenizer } = prepared;
  const { cut, sites } = method;
  const model = await loadModel(folder, { residence, precision, cut, sites, tokenizer }); // gigabytes, for some
  return { loaded: { model, backend, stores: new Map() }, prepared };
}

/** Common ground of the labs of one model: those whose methods are cut at one point have one store. */
interface Loaded {
  model: LlamaModel;
  backend: BackendReport;
  stores: Map<string, { frozen: FrozenPart; cuts: CutStore }>;
}

/** @param free what closing the lab frees beside its edits */
async function labOn(
  loaded: Loaded,
  prepared: MethodParts,
  { free, ...options }: LabOptions & { free: () => void },
): Promise<Lab> {
  const { parts, cuts } = await partsOn(loaded, prepared, options);
  return createLab(parts, { cuts, loaded, free }, options);
}

async function partsOn(
  { model, backend, stores }: Loaded,
  prepared: MethodParts,
  options: LabOptions,
): Promise<{ parts: LabParts; cuts: CutStore }> {
  const { cut, needs } = prepared.method;
  if (!stores.has(cutName(cut))) {
    const frozen = await openFrozenPart(model, { point: cut, backend }, options);
    stores.set(cutName(cut), { frozen, cuts: createCutStore(model, cut, frozen) });
  }
  const { frozen, cuts } = stores.get(cutName(cut)) as { frozen: FrozenPart; cuts: CutStore };
  const { signal } = options;
  const written = async (): Promise<readonly string[]> =>
    needs.templates === null ? ["{}"] : makeContextTemplates(model, needs.templates, { cuts, signal });
  const templates = options.templates ?? (await written());
  return { parts: { ...prepared, model, backend, templates, frozen }, cuts };
}

/** Another method on a loaded model. */
async function labWith(loaded: Loaded, options: LabOptions): Promise<Lab> {
  const { model } = loaded;
  const { method, irrelevant } = await prepareMethodFor(model.config, options);
  model.requireCut(method.cut);
  for (const site of method.sites) model.matrix(site);
  const assets = await openAssets(method, model, options);
  return labOn(loaded, { method, irrelevant, assets }, { ...options, free: () => {} });
}

/** Everything that can be checked before weights are read: options, side data, the run that is to come, and memory. */
async function prepareLab(checkpoint: Checkpoint, options: LabOptions) {
  const { config, folder } = checkpoint;
  const { method, irrelevant } = await prepareMethodFor(config, options);
  const work = await workOf(options, method, irrelevant);
  const backend = await backendFor(config, options);
  const tokenizer = await loadTokenizer(folder, config);
  const { input } = await settleMemory({ config, tokenizer, backend, method }, work, options);
  const { precision, weights: residence } = input;
  const identity = { name: checkpoint.name, folder, config };
  const assets =
    method.needs.assets.length === 0
      ? new Map<string, Asset>()
      : await openAssets(method, { ...identity, sha256: await checkpoint.sha256() }, options);
  return { backend, method, assets, irrelevant, precision, residence, tokenizer };
}

/** The memory that a run would take on a machine like this one, which need not have it. No weights are read. */
export async function foreseeMemory(options: LabOptions, request: RunRequest): Promise<MemoryPlan> {
  const { config, folder, close } = await openCheckpoint(options.model ?? DEFAULT_MODEL);
  await close();
  const { method, irrelevant } = await prepareMethodFor(config, options);
  const work = await workOf({ ...options, planFor: request }, method, irrelevant);
  const backend = await backendFor(config, options);
  const tokenizer = await loadTokenizer(folder, config);
  return (await planWork({ config, tokenizer, backend, method }, work, options)).plan;
}

/** A method with its options, and irrelevant prompts for edits by hand. */
async function prepareMethodFor(
  config: LlamaConfig,
  { method: name = DEFAULT_METHOD, hparams = {}, model = DEFAULT_MODEL }: LabOptions,
): Promise<Pick<MethodParts, "method" | "irrelevant">> {
  const method = await prepareNamed(name, withDefaultPreset(hparams, config, methodNamed(name)), config);
  const irrelevant = method.needs.irrelevant ? await irrelevantByHand(model) : null;
  if (irrelevant !== null) await worldOf(irrelevant); // refuses a list that has changed
  return { method, irrelevant };
}

/** The run that is to come or, for edits by hand, a few records of the project's own, one at a time. */
async function workOf(
  { planFor, model }: LabOptions,
  method: PreparedMethod,
  irrelevant: IrrelevantList | null,
): Promise<PlannedWork> {
  if (planFor === undefined) {
    const dataset = await loadRecords(DEFAULT_RECORDS, { limit: RECORDS_TOGETHER });
    return { dataset, irrelevant, T: 1, seeing: seeingFor({}), unedited: null, targetStop: "none" };
  }
  checkWhen({ method, when: planFor.when ?? "after-all" });
  if (planFor.out !== undefined) await requireRunPlace(planFor.out);
  return loadRunInputs({ ...planFor, model }, method.needs);
}

type MethodParts = Pick<RunPlan, "method" | "assets" | "irrelevant">;
type LabParts = MethodParts & Pick<RunPlan, "model" | "backend" | "templates" | "frozen">;

function createLab(
  parts: LabParts,
  { cuts, loaded, free }: { cuts: CutStore; loaded: Loaded; free: () => void },
  options: LabOptions,
): Lab {
  const { irrelevant } = parts;
  const byHand = editsByHand({
    ...parts,
    cuts,
    irrelevant: (edit) => (irrelevant === null ? null : irrelevantPrompt(irrelevant, edit)),
  });
  const { file, restore, ...others } = byHand;
  return {
    ...parts,
    ...others,
    methods: Object.keys(methods),
    get edits() {
      return byHand.edits;
    },
    save: async (path) => writeEdits(path, await file()),
    restore: (path) => restore((setting, owner) => restoreEdits(path, setting, owner)),
    run: (request) => runRequest(parts, request, options),
    with: (wish) => labWith(loaded, { ...options, planFor: undefined, method: undefined, hparams: undefined, ...wish }),
    close() {
      byHand.rollback();
      free();
    },
  };
}

async function runRequest(parts: LabParts, request: RunRequest, options: LabOptions): Promise<RunResult> {
  const { plan, memory } = await planOf(parts, request, options);
  const { out = null, processes = 1, ...rest } = request;
  const room = copiesBeside(memory, await readMachine(parts.backend, { cacheFolder: null }));
  const hands = handsFor(plan, Math.min(processes, room), request, options);
  return runProtocol(plan, { folder: out, hands, ...rest });
}

/** A run with a model that is loaded, and its memory: the templates are known now, and the records may be others. */
async function planOf(
  parts: LabParts,
  request: RunRequest,
  { cache, cacheBytes, gpuBytes }: LabOptions,
): Promise<{ plan: RunPlan; memory: MemoryPlan }> {
  const { model, method, backend, templates } = parts;
  const { notices, ...inputs } = await loadRunInputs({ ...request, model: model.folder }, method.needs);
  for (const notice of notices) request.onNotice?.(notice);
  const { config, tokenizer, precision, residence: weights } = model;
  const memory = await settleMemory(
    { config, tokenizer, backend, method },
    { ...inputs, templates },
    { weights, precision, cache, cacheBytes, gpuBytes },
  );
  return { plan: { ...parts, ...inputs, when: request.when ?? "after-all" }, memory };
}
