import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { methodNamed } from "../../edit/registry.js";
import type { BackendName } from "../../tensor/names.js";
import { largest, relative } from "./compare.js";
import {
  afterSchema,
  type EditedByMethod,
  editedByMethodSchema,
  type OursQuestion,
  openedMethodsSchema,
  type Prepared,
  type Preparing,
  preparedSchema,
  type TorchQuestion,
} from "./method-protocol.js";
import { type BenchProcess, startReference, startWorker } from "./process.js";
import { doneSchema } from "./protocol.js";

/** `requests`: edits of each method that are measured, each alone on the untouched model. */
export interface MethodBenchOptions extends Pick<Preparing, "preset" | "requests" | "steps" | "stats"> {
  /** Folder of the checkpoint. */
  model: string;
  /** Settings over the preset, by the method's name. */
  settings?: Readonly<Record<string, readonly string[]>> | undefined;
  /** False where there is no PyTorch. */
  reference: boolean;
  backend?: BackendName | undefined;
  signal?: AbortSignal | undefined;
  onProgress?: ((line: string) => void) | undefined;
}

/** The side of a method: one number an edit. */
export interface MethodSide {
  /** Seconds of a whole edit, and of its frozen part where it has one. */
  edit: number[];
  frozen: number[] | null;
  steps: number[];
}

/** A method as it was measured. */
export interface MethodResult {
  /** As users name it, and as tables do. */
  name: string;
  title: string;
  /** Token rows of an edit, and their tokens without padding, on average. */
  rows: number;
  tokens: number;
  ours: MethodSide;
  /** Null where there was no PyTorch. */
  torch: MethodSide | null;
  differences: MethodDifferences | null;
}

/** The largest differences of the two sides, relative, in an edit of a few steps. */
export interface MethodDifferences {
  /** Of the losses of its steps. */
  steps: number;
  /** Of the target's loss under the edit. */
  after: number;
}

/** Objects of the measurement, and their machine. */
export interface MethodsMeasured {
  modelSha256: string;
  runsOn: string[];
  /** Of the project's own side. */
  device: "cpu" | "gpu";
  methods: MethodResult[];
}

/** As far as float32 implementations may be apart: of the same steps, and of what stands after them. */
export const METHOD_TOLERANCE = { steps: 1e-4, after: 1e-2 } as const;

/** True if both sides computed the same thing, or there is one alone: only then do their times compare. */
export function methodAlike({ differences }: Pick<MethodResult, "differences">): boolean {
  if (differences === null) return true;
  return differences.steps <= METHOD_TOLERANCE.steps && differences.after <= METHOD_TOLERANCE.after;
}

/** Steps of the edit that goes before what is counted, after which both must have computed the same. */
const COMPARED_STEPS = 3;

/** Settings of that edit, where the two sides draw random numbers of their own. */
const COMPARED_WITH: Readonly<Record<string, string[]>> = { lora: ["lora_dropout=0"] };

interface Sides {
  ours: BenchProcess<OursQuestion>;
  torch: BenchProcess<TorchQuestion> | null;
}

/**
 * Measures methods one after another, each on the same requests: the project's own and PyTorch in a process of its own,
 * in turns.
 * @throws {LabFailure} when a side fails; {Interrupted}
 */
export async function benchMethods(names: readonly string[], options: MethodBenchOptions): Promise<MethodsMeasured> {
  const { model, backend, signal, onProgress = () => {} } = options;
  const files = await mkdtemp(join(tmpdir(), "wise-lab-bench-"));
  const ours = startWorker<OursQuestion>("TensorFlow.js", signal, "method-worker");
  const torch = options.reference ? startReference<TorchQuestion>("PyTorch", signal, "bench-methods") : null;
  try {
    onProgress("methods: opening the model");
    const opened = await ours.ask({ ask: "open", model, backend, files }, openedMethodsSchema);
    const other = await torch?.ask({ ask: "open", model, device: opened.device }, openedMethodsSchema);
    const methods: MethodResult[] = [];
    for (const name of names) methods.push(await benchMethod(name, { ours, torch }, options));
    return {
      modelSha256: opened.modelSha256 as string,
      device: opened.device,
      runsOn: [opened.runsOn, ...(other === undefined ? [] : [other.runsOn])],
      methods,
    };
  } finally {
    ours.stop();
    torch?.stop();
    await rm(files, { recursive: true, force: true });
  }
}

async function benchMethod(name: string, sides: Sides, options: MethodBenchOptions): Promise<MethodResult> {
  const { requests, steps, onProgress = () => {} } = options;
  onProgress(`${name}: comparing`);
  const differences = await compared(name, sides, options);
  const { edits } = await prepared(name, sides, options);
  const made: EditedByMethod[] = [];
  const others: EditedByMethod[] = [];
  for (const edit of requests.keys()) {
    onProgress(`${name}: edit ${edit + 1} of ${requests.length}`);
    const own = await sides.ours.ask({ ask: "edit", edit, steps }, editedByMethodSchema);
    made.push(own);
    if (sides.torch === null) continue;
    others.push(await sides.torch.ask({ ask: "edit", edit, steps: own.losses.length }, editedByMethodSchema));
  }
  const rows = edits.flatMap((edit) => edit.rows);
  return {
    name,
    title: methodNamed(name).title,
    rows: rows.length / edits.length,
    tokens: rows.reduce((sum, { ids }) => sum + ids.length, 0) / edits.length,
    ours: sideOf(made),
    torch: sides.torch === null ? null : sideOf(others),
    differences,
  };
}

/** One edit of a few steps by both sides, which is not counted. */
async function compared(name: string, sides: Sides, options: MethodBenchOptions): Promise<MethodDifferences | null> {
  const { ours, torch } = sides;
  const steps = Math.min(options.steps ?? COMPARED_STEPS, COMPARED_STEPS);
  await prepared(name, sides, { ...options, steps }, COMPARED_WITH[name]);
  const own = await ours.ask({ ask: "edit", edit: 0, steps }, editedByMethodSchema);
  const after = await ours.ask({ ask: "after" }, afterSchema);
  if (torch === null) return null;
  const other = await torch.ask({ ask: "edit", edit: 0, steps: own.losses.length }, editedByMethodSchema);
  const otherAfter = await torch.ask({ ask: "after" }, afterSchema);
  return differencesOf([own.losses, other.losses], [after.loss, otherAfter.loss]);
}

/** @returns infinity for another number of steps */
export function differencesOf(
  [own, other]: readonly [number[], number[]],
  [after, otherAfter]: readonly [number, number],
): MethodDifferences {
  const apart = own.map((loss, i) => relative(loss, other[i] ?? Number.NaN));
  const steps = own.length === other.length ? largest(apart) : Number.POSITIVE_INFINITY;
  return { steps, after: relative(after, otherAfter) };
}

/** Hands a method with its edits to both sides. */
async function prepared(
  name: string,
  { ours, torch }: Sides,
  { preset, requests, steps, stats, settings }: MethodBenchOptions,
  further: readonly string[] = [],
): Promise<Prepared> {
  const set = [...(settings?.[name] ?? []), ...further];
  const made = await ours.ask({ ask: "prepare", name, preset, requests, steps, stats, set }, preparedSchema);
  await torch?.ask({ ask: "prepare", ...made }, doneSchema);
  return made;
}

function sideOf(edits: readonly EditedByMethod[]): MethodSide {
  const frozen = edits.map((edit) => edit.frozen);
  return {
    edit: edits.map(({ seconds }) => seconds),
    frozen: frozen.every((seconds) => seconds !== null) ? frozen : null,
    steps: edits.map(({ losses }) => losses.length),
  };
}
