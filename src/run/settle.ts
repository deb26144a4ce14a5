import type { PreparedMethod } from "../edit/contract.js";
import { foreseenTemplates } from "../edit/templates.js";
import type { LlamaConfig } from "../model/config.js";
import type { Residence } from "../model/model.js";
import type { Tokenizer } from "../model/tokenizer.js";
import type { WeightPrecision } from "../model/weights.js";
import type { BackendName, BackendReport } from "../tensor/backend.js";
import { cacheFolder, DEFAULT_CACHE_BYTES, type FrozenPartOptions } from "./frozen-part.js";
import { chooseWeights, type Machine, readMachine, renderPlan, requireFits } from "./memory-fit.js";
import { type MemoryPlan, planMemory } from "./memory-plan.js";
import { checkTexts, fittingWork, type RunPlan } from "./plan.js";
import { measureWork } from "./workload.js";

/** Settings that decide where a model's weights are and how they are held. */
export interface WeightOptions extends Pick<FrozenPartOptions, "cache" | "cacheBytes" | "onNotice"> {
  /** All weights in memory, or streamed through it; "auto", the default, is the first that leaves room. */
  weights?: Residence | "auto" | undefined;
  /** Precision in which matrices are held; "float32" by default. */
  precision?: WeightPrecision | undefined;
  /** Bytes that tensors may take on the graphics card; not checked, when left out: no backend tells them. */
  gpuBytes?: number | undefined;
}

/** Settings that say how a model is computed with, and in how much room. */
export interface MachineOptions extends Omit<WeightOptions, "onNotice"> {
  backend?: BackendName | undefined;
  /** Products of numbers rounded to bf16 where the processor is faster with them; only native TensorFlow has them. */
  fastMath?: boolean | undefined;
  /** Hash the model's files again, whatever was kept of an earlier time. */
  verify?: boolean | undefined;
}

/** Those of some options. */
export function machineOf(options: MachineOptions): MachineOptions {
  const { backend, fastMath, verify, weights, precision, cache, cacheBytes, gpuBytes } = options;
  return { backend, fastMath, verify, weights, precision, cache, cacheBytes, gpuBytes };
}

/** Parts of a model that are known before its weights are read, with its backend and method. */
export interface UnloadedModel {
  config: LlamaConfig;
  tokenizer: Tokenizer;
  backend: BackendReport;
  method: Pick<PreparedMethod, "cut" | "sites" | "style" | "needs" | "rows" | "inStep" | "bytes">;
}

/** Work with a model. */
export type PlannedWork = Pick<RunPlan, "dataset" | "irrelevant" | "T" | "seeing" | "targetStop" | "unedited">;

/**
 * Checks the texts of work with a model and plans its memory, shows the plan, and refuses what cannot fit: before the weights are read.
 * @param templates the context templates, once the model has written them
 * @throws {RefusedInput} naming the record whose text does not fit; with the bytes of every part and the settings that would fit
 */
export async function settleMemory(...[model, work, options]: Parameters<typeof planWork>): Promise<MemoryPlan> {
  const { plan, machine } = await planWork(model, work, options);
  options.onNotice?.(renderPlan(plan, machine));
  requireFits(plan, machine);
  return plan;
}

/** The memory of work with a model, and what this machine has. @throws {RefusedInput} naming the record whose text does not fit */
export async function planWork(
  { config, tokenizer, backend, method }: UnloadedModel,
  { templates, ...work }: PlannedWork & { templates?: readonly string[] },
  options: WeightOptions,
): Promise<{ plan: MemoryPlan; machine: Machine }> {
  const { weights = "auto", precision = "float32", cacheBytes = DEFAULT_CACHE_BYTES, gpuBytes } = options;
  const model = { config, tokenizer };
  const { templates: recipe } = method.needs;
  const foreseen = recipe === null ? ["{}"] : foreseenTemplates(model, recipe);
  const texts = { ...work, templates: templates ?? foreseen, method, model };
  if (templates !== undefined) checkTexts(texts); // foreseen ones may be longer than those that come
  const sizes = measureWork(fittingWork(texts));
  const input = {
    config,
    cut: method.cut,
    sites: method.sites,
    precision,
    backend,
    work: sizes,
    editBytes: (block: number) => method.bytes(block, sizes.blockTargets),
    cacheBytes: null,
  };
  const residence =
    weights === "auto" ? chooseWeights(input, await readMachine(backend, { cacheFolder: null, gpuBytes })) : weights;
  const folder = cacheFolder(options.cache, residence);
  const plan = planMemory({ ...input, weights: residence, cacheBytes: folder === null ? null : cacheBytes });
  return { plan, machine: await readMachine(backend, { cacheFolder: folder, gpuBytes }) };
}
