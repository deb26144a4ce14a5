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

/** Adds up what a run will hold. Pure; an upper bound, within about half of what was measured. */
export function planMemory(input: PlanInput): MemoryPlan {
  const always = alwaysHeld(input);
  const phases = [frozenPhase(input), stepPhase(input), matrixPhase(input), scorePhase(input), ...writePhase(input)];
  const bytes = (phase: Phase, held?: Part["held"]) =>
    [...always, ...phase.parts]
      .filter((part) => held === undefined || part.held === held)
      .reduce((sum, part) => sum + part.bytes, 0);
  if (input.backend.name === "webgpu") {
    const used = Math.max(...phases.map((phase) => bytes(phase, "tensor")));
    always.push({ name: "free buffers", bytes: pooledBytes(used), held: "tensor", why: "kept for the next tensors" });
  }
  const inMemory = input.backend.device === "gpu" ? ("array" as const) : undefined;
  const most = (held?: Part["held"]) => phases.reduce((a, b) => (bytes(b, held) > bytes(a, held) ? b : a));
  const [crowded, fullest] = [most(inMemory), most("tensor")];
  return {
    input,
    always,
    phases,
    crowded,
    fullest,
    memory: bytes(crowded, inMemory),
    tensors: bytes(fullest, "tensor"),
    disk: diskOf(input),
  };
}

function alwaysHeld(input: PlanInput): Part[] {
  const { config, cut, sites, weights, precision, backend, work } = input;
  const layers = weights === "whole" ? config.layers : layersAfter(config, cut);
  const size = precision === "bf16" ? 2 : 4;
  const firstHeld = config.layers - layers;
  const own = sites.reduce((sum, { matrix }) => sum + matrixWeights(config, matrix), 0);
  const within = sites
    .filter(({ layer }) => layer >= firstHeld)
    .reduce((sum, { matrix }) => sum + matrixWeights(config, matrix), 0);
  const { kept } = input.editBytes(work.block);
  const parts: Part[] = [
    { name: "program", bytes: PROGRAM_BYTES[backend.name], held: "array", why: `Node with ${backend.name}` },
    { name: "edited matrices", bytes: 4 * own, held: "tensor", why: `${sites.map(siteName).join(", ")}, float32` },
    {
      name: "matrix at the cut",
      bytes: size * cutMatrix(input, firstHeld),
      held: heldAs(input),
      why: `${cutName(cut)}, ${precision}`,
    },
    {
      name: weights === "whole" ? "layers" : "later layers",
      bytes: size * (layers * layerWeights(config) - within),
      held: heldAs(input),
      why: `${layers} of ${config.layers}, ${precision}`,
    },
    {
      name: "output head",
      bytes: size * headWeights(config),
      held: heldAs(input),
      why: `${config.vocabSize} rows, ${precision}`,
    },
    {
      name: "transposed copies",
      bytes: backend.name === "tensorflow" && precision === "float32" ? 4 * copiedWeights(config, layers) : 0,
      held: "tensor",
      why: "of small matrices, by native TensorFlow",
    },
    {
      name: "edits",
      bytes: kept,
      held: "tensor",
      why: `up to ${work.block} without a rollback`,
    },
    {
      name: "results of the frozen part",
      bytes: Math.min(input.cacheBytes === null ? STORE_BYTES : CACHED_STORE_BYTES, cutBytes(input)),
      held: "array",
      why: `of ${work.frozen.tokens} tokens; the least recently used are dropped`,
    },
  ];
  // They go when the next ones are made: by then the largest matrix and a shard of the head may stand beside each other.
  const waiting = 4 * matrixWeights(config, "down") + Math.min(HEAD_SHARD_BYTES, 4 * headWeights(config));
  parts.push({ name: "arrays read from files", bytes: waiting, held: "array", why: "until they are collected" });
  return parts.filter(({ bytes }) => bytes > 0);
}

/** Weights of the matrices of which a transposed copy is kept. */
function copiedWeights(config: LlamaConfig, layers: number): number {
  const small = (size: number) => (size <= COPIED_ENTRIES ? size : 0);
  const ofALayer = MATRICES.reduce((sum, matrix) => sum + small(matrixWeights(config, matrix)), 0);
  return layers * ofALayer + small(headWeights(config));
}

/** Weights of the value matrix that a streamed model is cut at, where it is not among the edited ones. */
function cutMatrix({ config, cut, sites }: PlanInput, firstHeld: number): number {
  const listed = sites.some(({ layer, matrix }) => layer === cut.layer && matrix === "down");
  return cut.at === "input" || cut.layer >= firstHeld || listed ? 0 : matrixWeights(config, "down");
}

function frozenPhase(input: PlanInput): Phase {
  const { config, cut, work } = input;
  const together = passTokens(input);
  const results = 2 * 4 * cutNumbers(config, cut) * work.frozen.batch; // as they are read back, and cut into sequences
  return {
    name: "frozen pass",
    parts: [
      ...frozenLayer(input),
      { name: "streams of a pass", bytes: 4 * config.hiddenSize * together, held: "tensor", why: `${together} tokens` },
      { name: "results of a batch", bytes: results, held: "array", why: "read back" },
    ],
  };
}

/** The layer that the frozen pass is in; none where all come after the cut, and the embedding alone is frozen. */
function frozenLayer(input: PlanInput): Part[] {
  const { config, cut, weights, work } = input;
  if (layersAfter(config, cut) === config.layers) return [];
  const [read, run] = [4 * layerWeights(config), 4 * frozenNumbers(config, work.frozen)];
  const parts: Part[] = [
    { name: "one layer over a batch", bytes: run, held: "tensor", why: `${work.frozen.batch} tokens at once` },
    ...unpacked(input),
  ];
  if (weights === "whole") return parts;
  return [{ name: "a layer being read", bytes: read, held: "tensor", why: "one at a time, float32" }, ...parts];
}

function stepPhase(input: PlanInput): Phase {
  const { config, cut, backend, precision, work } = input;
  const { stepping, flags = 0, perToken = 0 } = input.editBytes(work.block);
  const trained = stepping + (backend.name === "webgpu" ? 3 * flags : 0);
  const activations = 4 * stepNumbers(config, cut, work.edit) + perToken * work.edit.sequences * work.edit.longest;
  const parts: Part[] = [];
  if (backend.name === "wasm" && precision === "float32") {
    const weights = layersAfter(config, cut) * layerWeights(config) + headWeights(config);
    parts.push({ name: "copies of weights", bytes: 2 * 4 * weights, held: "tensor", why: "for the gradient, by wasm" });
  }
  return {
    name: "step of an edit",
    parts: [
      ...parts,
      { name: "matrices of an edit", bytes: trained, held: "tensor", why: "what is trained, and its gradient" },
      {
        name: "activations and gradients",
        bytes: activations,
        held: "tensor",
        why: `${work.edit.sequences} sequences of up to ${work.edit.longest} tokens, ${work.edit.targets} targets`,
      },
      ...unpacked(input),
    ],
  };
}

function matrixPhase(input: PlanInput): Phase {
  const { working: bytes } = input.editBytes(input.work.block);
  return {
    name: "moving and saving",
    parts: [{ name: "matrices of an edit", bytes, held: "tensor", why: "at once" }],
  };
}

/** The matrices that an overlay holds while the model runs under it. */
function readingPart({ work, backend, editBytes }: PlanInput): Part {
  const { kept, reading } = editBytes(work.block);
  const bytes = backend.name === "wasm" ? reading + kept : reading; // an overlay holds clones of what is kept
  return { name: "matrices read", bytes, held: "tensor", why: "beside the edits" };
}

function scorePhase(input: PlanInput): Phase {
  const { config, cut, work } = input;
  const { variants } = input.editBytes(work.block);
  return {
    name: "scoring",
    parts: [
      readingPart(input),
      {
        name: "a batch of probes",
        bytes: 4 * scoreNumbers(config, cut, { score: work.score, variants }),
        held: "tensor" as const,
        why: `${work.score.padded} tokens, ${work.score.answers} of answers`,
      },
      ...unpacked(input),
    ].filter(({ bytes }) => bytes > 0),
  };
}

/** Nothing where no answer is written freely. */
function writePhase(input: PlanInput): Phase[] {
  const { config, work } = input;
  const { written } = work;
  if (written === null) return [];
  const { variants } = input.editBytes(work.block);
  const parts: Part[] = [
    readingPart(input),
    {
      name: "free answers",
      bytes: 4 * writtenNumbers(config, { written, variants }),
      held: "tensor",
      why: `${written.sequences} prompts of up to ${written.longest} tokens, ${written.tokens} new ones of each`,
    },
    ...unpacked(input),
  ];
  return [{ name: "free answers", parts: parts.filter(({ bytes }) => bytes > 0) }];
}

/** The largest matrix of weights, where a product makes copies of it. */
function unpacked({ config, backend, precision }: PlanInput): Part[] {
  const { hiddenSize: D, intermediateSize: M, vocabSize: V } = config;
  const largest = 4 * D * Math.max(M, Math.min(V, HEAD_SHARD_BYTES / (4 * D)));
  const parts: Part[] = [];
  if (precision === "bf16")
    parts.push({ name: "a matrix unpacked", bytes: largest, held: "tensor", why: "bf16 to float32" });
  if (backend.name === "wasm") {
    parts.push({ name: "a matrix turned", bytes: 2 * largest, held: "tensor", why: "transposed and packed by wasm" });
  }
  return parts;
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
