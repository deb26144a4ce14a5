import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sequencesOfRows } from "../../edit/rows.js";
import type { Residence } from "../../model/model.js";
import type { BackendName } from "../../tensor/names.js";
import { alike, type Computed, type Differences, differencesOf } from "./compare.js";
import { type Floor, recordGflop } from "./floor.js";
import { type BenchProcess, startReference, startWorker } from "./process.js";
import {
  doneSchema,
  type Edited,
  editedSchema,
  type Fact,
  memorySchema,
  type Opened,
  type OpenedCut,
  openedCutSchema,
  openedSchema,
  rateSchema,
  type Scored,
  scoredSchema,
} from "./protocol.js";
import type { BenchModel, Side } from "./shapes.js";

export interface BenchOptions {
  /** Steps of each edit. */
  steps: number;
  /** Edits of each side that are measured, in turns. */
  rounds: number;
  /** Those that are run; the cut is always one. */
  sides: readonly Side[];
  backend?: BackendName | undefined;
  signal?: AbortSignal | undefined;
  onProgress?: ((line: string) => void) | undefined;
}

/** Measurements of one side, one number a round. */
export interface Measured {
  side: Side;
  runsOn: string;
  device: "cpu" | "gpu";
  /** Seconds of a whole edit, and of its frozen part where it has one. */
  edit: number[];
  frozen: number[] | null;
  /** Seconds of scoring one record, before and after the edit. */
  score: number[];
  peakBytes: number;
  /** From the cut; null for the cut itself. */
  differences: Differences | null;
}

/** A shape as it was measured. */
export interface ShapeResult {
  shape: string;
  model: string;
  modelSha256: string;
  /** Random weights, one token per byte of which every fourth is kept. */
  standIn: boolean;
  /** Place of the cut's weights. */
  residence: Residence;
  layer: number;
  layers: number;
  /** Rows of an edit with the irrelevant prompt, their tokens without padding, and tokens of the probes of a record. */
  rows: number;
  tokens: number;
  probes: number;
  probeTokens: number;
  /** Steps that were made: fewer than asked for where the loss settled. */
  steps: number;
  /** Programs that a step of the cut runs through WebGPU; null elsewhere. */
  dispatches?: number | null;
  sides: Measured[];
  /** Left out of reports that are older than it. */
  floor?: Floor;
  /** True if all sides computed the same thing: only then do their times compare. */
  alike: boolean;
}

/** One side with its process and what it has answered. */
interface Contestant {
  side: Side;
  process: BenchProcess;
  opened: Opened;
  edits: Edited[];
  scores: Scored[];
}

/**
 * Measures one model: every side in a process of its own, one at a time and in turns, so that what else the machine does
 * meets all of them alike. An edit of a few steps and its scores go before what is counted.
 * @throws {LabFailure} when a side fails; {Interrupted}
 */
export async function benchShape(model: BenchModel, fact: Fact, options: BenchOptions): Promise<ShapeResult> {
  const files = await mkdtemp(join(tmpdir(), "wise-lab-bench-"));
  const started: BenchProcess[] = [];
  const start = (side: Side): BenchProcess => {
    const process = (side === "reference" ? startReference : startWorker)(sideNames[side], options.signal);
    started.push(process);
    return process;
  };
  try {
    const { contestants, cut } = await openSides({ model, fact, files, start }, options);
    const computed = await warmUp(contestants, files, options);
    await runRounds(contestants, options);
    return await resultOf({ model, cut, contestants, computed });
  } finally {
    for (const process of started) process.stop();
    await rm(files, { recursive: true, force: true });
  }
}

/** Names of the sides. */
const sideNames: Readonly<Record<Side, string>> = {
  whole: "whole model, TensorFlow.js",
  cut: "cut, TensorFlow.js",
  reference: "whole model, PyTorch",
};

interface Opening {
  model: BenchModel;
  fact: Fact;
  files: string;
  start(side: Side): BenchProcess;
}

/** Starts the sides, the cut first: it makes the token rows and the mask for the others. */
async function openSides(
  { model, fact, files, start }: Opening,
  { sides, backend, onProgress }: BenchOptions,
): Promise<{ contestants: Contestant[]; cut: OpenedCut }> {
  const { folder, options, shape } = model;
  const base = { ask: "open", model: folder, options, mask: join(files, "mask"), backend } as const;
  const open = (side: Side) => {
    onProgress?.(`${shape.title}: opening ${sideNames[side]}`);
    return start(side);
  };
  const process = open("cut");
  const { residence } = shape;
  const cut = await process.ask({ ...base, side: "cut", fact, residence }, openedCutSchema);
  const opened = new Map<Side, Contestant>();
  opened.set("cut", { side: "cut", process, opened: cut, edits: [], scores: [] });
  for (const side of sides.filter((other) => other !== "cut")) {
    const process = open(side);
    const answer = await process.ask({ ...base, side: "whole", rows: cut.rows, device: cut.device }, openedSchema);
    opened.set(side, { side, process, opened: answer, edits: [], scores: [] });
  }
  return { contestants: sides.map((side) => opened.get(side) as Contestant), cut };
}

/**
 * Steps of the edit that goes before what is counted, after which all must have computed the same. In more of them it
 * could not be told: each step overshoots, and multiplies what rounding made different.
 */
const COMPARED_STEPS = 3;

/** One edit and its scores by every side, which are not counted. @returns what each has computed */
async function warmUp(
  contestants: readonly Contestant[],
  files: string,
  { steps, onProgress }: BenchOptions,
): Promise<Map<Side, Computed>> {
  const computed = new Map<Side, Computed>();
  for (const { side, process } of contestants) {
    onProgress?.(`warming up: ${sideNames[side]}`);
    const { losses } = await process.ask({ ask: "edit", steps: Math.min(steps, COMPARED_STEPS) }, editedSchema);
    const scored = await process.ask({ ask: "score" }, scoredSchema);
    const file = join(files, side);
    await process.ask({ ask: "delta", file }, doneSchema);
    const bytes = await readFile(file);
    computed.set(side, {
      losses,
      scored,
      delta: new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / Float32Array.BYTES_PER_ELEMENT),
    });
  }
  return computed;
}

async function runRounds(contestants: readonly Contestant[], options: BenchOptions): Promise<void> {
  const { steps, rounds, onProgress = () => {} } = options;
  for (let round = 1; round <= rounds; round++) {
    for (const { process, side, edits } of contestants) {
      onProgress(`round ${round} of ${rounds}, edit: ${sideNames[side]}`);
      edits.push(await process.ask({ ask: "edit", steps }, editedSchema));
    }
    for (const { process, side, scores } of contestants) {
      onProgress(`round ${round} of ${rounds}, scores: ${sideNames[side]}`);
      scores.push(await process.ask({ ask: "score" }, scoredSchema));
    }
  }
}

interface Outcome {
  model: BenchModel;
  cut: OpenedCut;
  contestants: readonly Contestant[];
  computed: ReadonlyMap<Side, Computed>;
}

async function resultOf({ model, cut, contestants, computed }: Outcome): Promise<ShapeResult> {
  const reference = contestants.find(({ side }) => side === "cut") as Contestant;
  const ours = { ...(computed.get("cut") as Computed), edit: reference.edits.at(-1) as Edited };
  const sides: Measured[] = [];
  for (const { side, process, opened, edits, scores } of contestants) {
    const { peakBytes } = await process.ask({ ask: "memory" }, memorySchema);
    const frozen = edits.map((edit) => edit.frozen);
    const own = { ...(computed.get(side) as Computed), edit: edits.at(-1) as Edited };
    sides.push({
      side,
      runsOn: opened.runsOn,
      device: opened.device,
      edit: edits.map(({ seconds }) => seconds),
      frozen: frozen.every((seconds) => seconds !== null) ? frozen : null,
      score: scores.map(({ seconds }) => seconds),
      peakBytes,
      differences: side === "cut" ? null : differencesOf(ours, own),
    });
  }
  const sequences = sequencesOfRows(cut.rows.edit);
  const count = (rows: readonly (readonly number[])[]) => rows.reduce((sum, row) => sum + row.length, 0);
  const { config, options } = model;
  const of: [number, number, number] = [count(sequences), config.intermediateSize, config.hiddenSize];
  const { rate } = await reference.process.ask({ ask: "rate", of }, rateSchema);
  const steps = ours.edit.losses.length;
  return {
    shape: model.shape.title,
    model: model.shape.standIn ?? "lab-llama",
    modelSha256: cut.modelSha256,
    standIn: model.standIn,
    residence: model.shape.residence,
    layer: options.layer,
    layers: config.layers,
    rows: sequences.length,
    tokens: count(sequences),
    probes: cut.rows.probes.length,
    probeTokens: count(cut.rows.probes.map(({ ids }) => ids)),
    steps,
    dispatches: ours.edit.dispatches ?? null,
    sides,
    floor: { gflop: recordGflop(config, cut.rows, { layer: options.layer, steps }), rate },
    alike: sides.every(({ differences }) => differences === null || alike(differences)),
  };
}
