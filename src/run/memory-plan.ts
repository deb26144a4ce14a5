import type { EditBytes } from "../edit/contract.js";
import type { LlamaConfig } from "../model/config.js";
import { STORE_BYTES } from "../model/cut-store.js";
import type { Residence } from "../model/model.js";
import { type CutPoint, cutName, MATRICES, type Site, siteName } from "../model/patch.js";
import { HEAD_SHARD_BYTES, type WeightPrecision } from "../model/weights.js";
import type { BackendReport } from "../tensor/backend.js";
import { COPIED_ENTRIES } from "../tensor/linear.js";
import { pooledBytes } from "../tensor/webgpu.js";
import { CACHED_STORE_BYTES, PASS_BYTES } from "./frozen-part.js";
import {
  cutNumbers,
  frozenNumbers,
  headWeights,
  layersAfter,
  layerWeights,
  matrixWeights,
  scoreNumbers,
  stepNumbers,
  writtenNumbers,
} from "./memory-parts.js";
import type { Workload } from "./workload.js";

/** Everything that decides what a run holds. */
export interface PlanInput {
  config: LlamaConfig;
  /** Point at which the model is cut. */
  cut: CutPoint;
  /** Matrices that stay in memory as float32. */
  sites: readonly Site[];
  weights: Residence;
  precision: WeightPrecision;
  backend: Pick<BackendReport, "name" | "device">;
  work: Workload;
  /** Bytes of the method's edits; see `MethodPlan.bytes`. */
  editBytes(block: number): EditBytes;
  /** Bytes that the cache of cuts on disk may take; null for a run without one. */
  cacheBytes: number | null;
}

/** Something that is held, in bytes. A tensor lies in the backend's memory, an array in the process' own. */
export interface Part {
  name: string;
  bytes: number;
  held: "tensor" | "array";
  why: string;
}

/** Work that is done at a time of its own, and what it holds beside what always stays. */
export interface Phase {
  name: string;
  parts: Part[];
}

/** Most that a run will hold, in bytes. */
export interface MemoryPlan {
  input: PlanInput;
  always: Part[];
  phases: Phase[];
  /** The phase that takes most memory of this machine, and the one that holds most in tensors. */
  crowded: Phase;
  fullest: Phase;
  /** Memory of this machine, tensors on the graphics card not counted. */
  memory: number;
  /** Tensors, wherever they are. */
  tensors: number;
  /** Cuts that the whole run leaves, what the cache keeps of them, and the streams of a pass. */
  disk: { cuts: number; kept: number; streams: number };
}

/** Node, its libraries and code, and arrays that wait to be collected: resident before a model of any size is (measured). */
const PROGRAM_BYTES = { tensorflow: 500e6, webgpu: 400e6, wasm: 300e6, cpu: 250e6 };

const part = (held: Part["held"], name: string, bytes: number, why: string): Part => ({ name, bytes, held, why });
const tensor = (name: string, bytes: number, why: string) => part("tensor", name, bytes, why);
const array = (name: string, bytes: number, why: string) => part("array", name, bytes, why);

/** Adds up what a run will hold. Pure; an upper bound, within about half of what was measured. */
export function planMemory(input: PlanInput): MemoryPlan {
  const { work, backend } = input;
  const { working } = input.editBytes(work.block);
  const always = alwaysHeld(input);
  const phases: Phase[] = [
    { name: "frozen pass", parts: frozenPass(input) },
    { name: "step of an edit", parts: stepOfAnEdit(input) },
    { name: "moving and saving", parts: [tensor("matrices of an edit", working, "at once")] },
    { name: "scoring", parts: reading(input, batchOfProbes(input)) },
    ...(work.written === null ? [] : [{ name: "free answers", parts: reading(input, freeAnswers(input)) }]),
  ];
  const bytes = (phase: Phase, held?: Part["held"]) =>
    [...always, ...phase.parts]
      .filter((one) => held === undefined || one.held === held)
      .reduce((sum, one) => sum + one.bytes, 0);
  if (backend.name === "webgpu") {
    const used = Math.max(...phases.map((phase) => bytes(phase, "tensor")));
    always.push(tensor("free buffers", pooledBytes(used), "kept for the next tensors"));
  }
  const inMemory = backend.device === "gpu" ? ("array" as const) : undefined;
  const most = (held?: Part["held"]) => phases.reduce((a, b) => (bytes(b, held) > bytes(a, held) ? b : a));
  const [crowded, fullest] = [most(inMemory), most("tensor")];
  const [memory, tensors] = [bytes(crowded, inMemory), bytes(fullest, "tensor")];
  return { input, always, phases, crowded, fullest, memory, tensors, disk: diskOf(input) };
}

function alwaysHeld(input: PlanInput): Part[] {
  const { config, cut, sites, weights, precision, backend, work } = input;
  const layers = weights === "whole" ? config.layers : layersAfter(config, cut);
  const size = precision === "bf16" ? 2 : 4;
  const held = (name: string, numbers: number, why: string) => part(heldAs(input), name, size * numbers, why);
  const firstHeld = config.layers - layers;
  const edited = (some: readonly Site[]) => some.reduce((sum, { matrix }) => sum + matrixWeights(config, matrix), 0);
  const within = edited(sites.filter(({ layer }) => layer >= firstHeld));
  const copied = layers * copiesOfALayer(input) + copyOf(input, headWeights(config));
  const cuts = Math.min(input.cacheBytes === null ? STORE_BYTES : CACHED_STORE_BYTES, cutBytes(input));
  // They go when the next ones are made: by then the largest matrix and a shard of the head may stand beside each other.
  const waiting = 4 * matrixWeights(config, "down") + Math.min(HEAD_SHARD_BYTES, 4 * headWeights(config));
  return [
    array("program", PROGRAM_BYTES[backend.name], `Node with ${backend.name}`),
    tensor("edited matrices", 4 * edited(sites), `${sites.map(siteName).join(", ")}, float32`),
    held("matrix at the cut", cutMatrix(input, firstHeld), `${cutName(cut)}, ${precision}`),
    held(
      weights === "whole" ? "layers" : "later layers",
      layers * layerWeights(config) - within,
      `${layers} of ${config.layers}, ${precision}`,
    ),
    held("output head", headWeights(config), `${config.vocabSize} rows, ${precision}`),
    tensor("transposed copies", copied, "of small matrices, by native TensorFlow"),
    tensor("edits", input.editBytes(work.block).kept, `up to ${work.block} without a rollback`),
    array("results of the frozen part", cuts, `of ${work.frozen.tokens} tokens; the least recently used are dropped`),
    array("arrays read from files", waiting, "until they are collected"),
  ].filter(({ bytes }) => bytes > 0);
}

/** Bytes of the transposed copy that stands beside a matrix. */
function copyOf({ backend, precision }: PlanInput, size: number): number {
  return backend.name === "tensorflow" && precision === "float32" && size <= COPIED_ENTRIES ? 4 * size : 0;
}

function copiesOfALayer(input: PlanInput): number {
  return MATRICES.reduce((sum, matrix) => sum + copyOf(input, matrixWeights(input.config, matrix)), 0);
}

/** Weights of the value matrix that a streamed model is cut at, where it is not among the edited ones. */
function cutMatrix({ config, cut, sites }: PlanInput, firstHeld: number): number {
  const listed = sites.some(({ layer, matrix }) => layer === cut.layer && matrix === "down");
  return cut.at === "input" || cut.layer >= firstHeld || listed ? 0 : matrixWeights(config, "down");
}

/** The layer that the pass is in; none where all come after the cut, and the embedding alone is frozen. */
function frozenPass(input: PlanInput): Part[] {
  const { config, cut, weights, work } = input;
  const { frozen } = work;
  const together = passTokens(input);
  const results = 2 * 4 * cutNumbers(config, cut) * frozen.batch; // as they are read back, and cut into sequences
  const always = [
    tensor("streams of a pass", 4 * config.hiddenSize * together, `${together} tokens`),
    array("results of a batch", results, "read back"),
  ];
  if (layersAfter(config, cut) === config.layers) return always;
  const read = weights === "whole" ? 0 : 4 * layerWeights(config) + copiesOfALayer(input);
  return [
    ...(read === 0 ? [] : [tensor("a layer being read", read, "one at a time, float32")]),
    tensor("one layer over a batch", 4 * frozenNumbers(config, frozen), `${frozen.batch} tokens at once`),
    ...unpacked(input),
    ...always,
  ];
}

function stepOfAnEdit(input: PlanInput): Part[] {
  const { config, cut, backend, precision, work } = input;
  const { sequences, longest, targets } = work.edit;
  const { stepping, flags = 0, perToken = 0 } = input.editBytes(work.block);
  const trained = stepping + (backend.name === "webgpu" ? 3 * flags : 0);
  const activations = 4 * stepNumbers(config, cut, work.edit) + perToken * sequences * longest;
  const turned = 4 * (layersAfter(config, cut) * layerWeights(config) + headWeights(config));
  return [
    ...(backend.name === "wasm" && precision === "float32"
      ? [tensor("copies of weights", 2 * turned, "for the gradient, by wasm")]
      : []),
    tensor("matrices of an edit", trained, "what is trained, and its gradient"),
    tensor(
      "activations and gradients",
      activations,
      `${sequences} sequences of up to ${longest} tokens, ${targets} targets`,
    ),
    ...unpacked(input),
  ];
}

/** Work under an overlay, beside the matrices that it holds. */
function reading(input: PlanInput, work: Part): Part[] {
  const { kept, reading } = input.editBytes(input.work.block);
  const bytes = input.backend.name === "wasm" ? reading + kept : reading; // an overlay holds clones of what is kept
  return [tensor("matrices read", bytes, "beside the edits"), work, ...unpacked(input)].filter(
    ({ bytes }) => bytes > 0,
  );
}

function batchOfProbes({ config, cut, work: { block, score }, editBytes }: PlanInput): Part {
  const numbers = scoreNumbers(config, cut, { score, variants: editBytes(block).variants });
  return tensor("a batch of probes", 4 * numbers, `${score.padded} tokens, ${score.answers} of answers`);
}

function freeAnswers({ config, work, editBytes }: PlanInput): Part {
  const written = work.written as NonNullable<Workload["written"]>;
  const numbers = writtenNumbers(config, { written, variants: editBytes(work.block).variants });
  const { sequences, longest, tokens } = written;
  const why = `${sequences} prompts of up to ${longest} tokens, ${tokens} new ones of each`;
  return tensor("free answers", 4 * numbers, why);
}

/** The largest matrix of weights, where a product makes copies of it. */
function unpacked({ config, backend, precision }: PlanInput): Part[] {
  const { hiddenSize: D, intermediateSize: M, vocabSize: V } = config;
  const largest = 4 * D * Math.max(M, Math.min(V, HEAD_SHARD_BYTES / (4 * D)));
  return [
    ...(precision === "bf16" ? [tensor("a matrix unpacked", largest, "bf16 to float32")] : []),
    ...(backend.name === "wasm" ? [tensor("a matrix turned", 2 * largest, "transposed and packed by wasm")] : []),
  ];
}

/** The cuts of every sequence, what the cache keeps of them, and the streams that a killed pass goes on from. */
function diskOf(input: PlanInput): MemoryPlan["disk"] {
  const { config, cacheBytes } = input;
  if (cacheBytes === null) return { cuts: 0, kept: 0, streams: 0 };
  const cuts = cutBytes(input);
  return { cuts, kept: Math.min(cuts, cacheBytes), streams: 4 * config.hiddenSize * passTokens(input) };
}

/** Tokens, padding included, that go through the frozen layers in one pass. */
function passTokens({ config, work, cacheBytes }: PlanInput): number {
  const ahead = cacheBytes === null ? 0 : PASS_BYTES / (4 * config.hiddenSize);
  return Math.ceil(Math.min(work.frozen.pass + ahead, work.frozen.padded));
}

function cutBytes({ config, cut, work }: PlanInput): number {
  return 4 * cutNumbers(config, cut) * work.frozen.tokens;
}

/** On wasm and cpu, bf16 bits stay outside the backend (tensor/bf16.ts). */
function heldAs({ precision, backend }: PlanInput): Part["held"] {
  return precision === "bf16" && (backend.name === "wasm" || backend.name === "cpu") ? "array" : "tensor";
}
