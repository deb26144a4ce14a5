import type { Measured, ShapeResult } from "./bench.js";
import { methodNotes } from "./method-report.js";
import type { MethodsMeasured } from "./methods.js";
import { type BenchRow, median, shown } from "./numbers.js";
import type { Side } from "./shapes.js";

/** A benchmark as it is saved, what was not measured left out. */
export interface BenchReport {
  /** YYYY-MM-DD. */
  date: string;
  command: string;
  machine: BenchMachine;
  /** Of weights and arithmetic. */
  precision: "float32";
  rounds: number;
  shapes: ShapeResult[];
  methods?: MethodsMeasured;
  /** Measurements left out, each with its reason. */
  skipped: string[];
}

export interface BenchMachine {
  processor: string;
  cores: number;
  memoryBytes: number;
  platform: string;
  node: string;
  wiseLab: string;
}

const ROW_LETTERS: Readonly<Record<Side, string>> = {
  whole: "(a) whole model at every step",
  cut: "(b) cut",
  reference: "(c) whole model at every step, PyTorch",
};

/** The table, one row per shape and side; seconds are medians over rounds. */
export function benchRows({ shapes }: Pick<BenchReport, "shapes">): BenchRow[] {
  return shapes.flatMap((shape) => shape.sides.map((measured) => benchRow(shape, measured)));
}

function benchRow(shape: ShapeResult, measured: Measured): BenchRow {
  const edit = median(measured.edit);
  const frozen = measured.frozen === null ? null : median(measured.frozen);
  const times = (side: Side) => {
    const other = shape.sides.find((candidate) => candidate.side === side);
    if (other === undefined || other === measured || !shape.alike) return null;
    return shown(median(other.edit) / edit);
  };
  const record = edit + median(measured.score);
  const floor = floorSeconds(shape, measured);
  return {
    model: shape.shape,
    "what is run": ROW_LETTERS[measured.side],
    "tokens of an edit": shape.tokens,
    steps: shape.steps,
    "s/edit": shown(edit),
    "of it frozen part": frozen === null ? null : shown(frozen),
    "s/step": shown((edit - (frozen ?? 0)) / shape.steps),
    "s/scored record": shown(median(measured.score)),
    "s/record": shown(record),
    "its floor": floor === null ? null : shown(floor),
    "times the floor": floor === null ? null : shown(record / floor),
    "peak memory, GB": shown(measured.peakBytes / 1e9),
    "times faster than (a)": times("whole"),
    "times faster than (c)": times("reference"),
  };
}

/** Seconds of a record's products at the rate that TensorFlow.js was measured at; null elsewhere. */
function floorSeconds({ floor }: ShapeResult, { side }: Measured): number | null {
  return floor === undefined || side === "reference" ? null : floor.gflop / floor.rate;
}

/** Notes under the tables, one line each. */
export function benchNotes(report: BenchReport): string[] {
  const { shapes, methods, machine } = report;
  return [
    `${report.date}, \`${report.command}\`, ${machine.processor}, ${machine.cores} cores, ${shown(machine.memoryBytes / 2 ** 30)} GiB, ${machine.platform}, Node ${machine.node}, wise-lab ${machine.wiseLab}, ${report.precision}.`,
    ...(shapes.length > 0 ? shapeNotes(report) : []),
    ...(methods ? methodNotes(methods) : []),
    ...report.skipped,
    gpuNote(report),
  ];
}

function shapeNotes({ shapes, rounds }: BenchReport): string[] {
  return [
    ...runsOnNotes(shapes),
    ...shapes.map(shapeNote),
    ...shapes.flatMap(differenceNotes),
    ...shapes.flatMap(floorNote),
    ...shapes.flatMap(dispatchNote),
    `Seconds are medians over ${rounds} rounds, in which (a), (b) and (c), each a process of its own, take turns. The frozen part of (b) is that of one edit alone, without the cache on disk; its steps include drawing the mask. A scored record is ${probesText(shapes)}, before and after the edit. A record is an edit and its scores.`,
  ];
}

/** Backends that computed, said once where all shapes agree. */
function runsOnNotes(shapes: readonly ShapeResult[]): string[] {
  return [...new Set(shapes.flatMap(({ sides }) => sides.map(({ runsOn }) => `${runsOn}.`)))];
}

function shapeNote(shape: ShapeResult): string {
  const weights = shape.standIn
    ? `random weights in the shapes of ${shape.model}, whose tokenizer makes a token of every byte: every fourth is kept, as many as the real one makes`
    : shape.model;
  const where = shape.residence === "whole" ? "in memory" : "streamed from the checkpoint before the edit layer";
  const edit = `edited at layer ${shape.layer} of ${shape.layers}, ${shape.rows} rows of ${shape.tokens} tokens in all`;
  return `${shape.shape}: ${weights} (sha256 ${shape.modelSha256.slice(0, 12)}); ${edit}; weights of (b) ${where}.`;
}

function differenceNotes(shape: ShapeResult): string[] {
  return shape.sides.flatMap(({ side, differences }) => {
    if (differences === null) return [];
    const { loss, matrix, activation, tokens, ofTokens, lossInTheEnd } = differences;
    const [l, m, r, end] = [loss, matrix, activation, lossInTheEnd].map((value) => value.toExponential(1));
    const found = `losses ${l}, matrix ${m}, routing activations ${r}, predicted tokens ${tokens} of ${ofTokens}`;
    const verdict = shape.alike ? "" : " That is not the same computation: no times are compared.";
    return [
      `${shape.shape}, ${ROW_LETTERS[side].slice(0, 3)} against (b) after the first steps, largest relative difference: ${found}; losses to the last step ${end}.${verdict}`,
    ];
  });
}

function floorNote({ shape, floor }: ShapeResult): string[] {
  if (floor === undefined) return [];
  const [gflop, rate] = [floor.gflop, floor.rate].map(shown);
  return [
    `${shape}: the products of a record, counted, are ${gflop} GFLOP. Its floor is that at ${rate} GFLOP/s, which one product of the edit's shape reached in the process of (b).`,
  ];
}

function dispatchNote({ shape, dispatches }: ShapeResult): string[] {
  return dispatches == null ? [] : [`${shape}: a step of (b) is ${dispatches} dispatches of WebGPU.`];
}

function gpuNote({ shapes, methods }: BenchReport): string {
  const onGpu = shapes.flatMap(({ sides }) => sides.filter(({ device }) => device === "gpu").map(({ side }) => side));
  const letters = [...new Set(onGpu)].map((side) => ROW_LETTERS[side].slice(0, 3));
  if (methods?.device === "gpu") letters.push("our methods");
  return letters.length === 0 ? "GPU: not tried." : `GPU: used by ${letters.join(" and ")}.`;
}

function probesText(shapes: readonly ShapeResult[]): string {
  return [...new Set(shapes.map(({ probes, probeTokens }) => `${probes} probes (${probeTokens} tokens)`))].join(" or ");
}
