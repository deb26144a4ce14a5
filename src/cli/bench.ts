import { availableParallelism, cpus, totalmem } from "node:os";
import { join } from "node:path";
import { RefusedInput } from "../core/errors.js";
import { readJsonFile, requireWritableFolder, writeFileAtomic } from "../core/files.js";
import { loadRecords } from "../data/load.js";
import type { EditRecord } from "../data/records.js";
import { methodNamed, methods } from "../edit/registry.js";
import { probesOf } from "../eval/records.js";
import type { Residence } from "../model/model.js";
import { DEFAULT_MODEL, DEFAULT_RECORDS, findIrrelevant, projectFile } from "../run/inputs.js";
import { requestOf } from "../run/plan.js";
import { type Table, toMarkdown, toText } from "../tables/readable.js";
import { tableOf } from "../tables/tables.js";
import type { BackendName } from "../tensor/names.js";
import { benchShape, type ShapeResult } from "../workshop/bench/bench.js";
import { methodRows } from "../workshop/bench/method-report.js";
import { benchMethods, type MethodsMeasured, methodAlike } from "../workshop/bench/methods.js";
import { referenceMissing } from "../workshop/bench/process.js";
import type { Fact } from "../workshop/bench/protocol.js";
import { type BenchReport, benchNotes, benchRows } from "../workshop/bench/report.js";
import {
  type BenchShape,
  benchModel,
  makeStandIn,
  SHAPES,
  type ShapeName,
  type Side,
} from "../workshop/bench/shapes.js";
import { createProgressLine } from "./run.js";

/** Parts of the benchmark: shapes of WISE, and every method on the lab's model. */
type BenchPart = ShapeName | "methods";
const PARTS: readonly BenchPart[] = [...(Object.keys(SHAPES) as ShapeName[]), "methods"];

/** Steps of a WISE edit where none are named. */
const STEPS = 10;

/** Options of `wise-lab bench`, as the command line gives them. */
export interface BenchArguments {
  only?: BenchPart[];
  methods?: string[];
  model1b?: string;
  model8b?: string;
  data?: string;
  steps?: number;
  rounds: number;
  weights?: Residence;
  save?: boolean;
  json?: boolean;
  backend?: BackendName;
}

/** Stand-ins that no folder was named for. */
const STAND_IN_FOLDER = projectFile("runs", "bench");
const SAVE_FOLDER = projectFile("data", "bench");

/** `wise-lab bench`. Prints the tables. @returns the exit status: 1 when two sides did not compute the same thing */
export async function benchCommand(options: BenchArguments, signal: AbortSignal): Promise<number> {
  const only: readonly BenchPart[] = options.only ?? PARTS;
  const names = options.methods ?? Object.keys(methods);
  for (const name of names) methodNamed(name); // refuses one that is not there
  if (options.save) await requireWritableFolder(SAVE_FOLDER);
  const missing = referenceMissing();
  const line = createProgressLine();
  const measuring = { signal, onProgress: (text: string) => line.show(text, true), missing, skipped: [] };
  const shapes = await measureShapes(
    only.filter((part): part is ShapeName => part !== "methods"),
    options,
    measuring,
  );
  const measured = only.includes("methods") ? await measureMethods(names, options, measuring) : undefined;
  line.end();
  const made = { shapes, ...(measured && { methods: measured }), skipped: measuring.skipped };
  const report = await reportOf(made, options);
  console.log(options.json ? JSON.stringify(report, null, 2) : benchText(report));
  if (!shapes.every(({ alike }) => alike) || measured?.methods.some((method) => !methodAlike(method))) return 1;
  if (options.save) await save(report);
  return 0;
}

interface Measuring {
  signal: AbortSignal;
  onProgress: (line: string) => void;
  /** Why there is no PyTorch; null where there is. */
  missing: string | null;
  /** Takes in why something is left out. */
  skipped: string[];
}

async function measureShapes(
  names: readonly ShapeName[],
  options: BenchArguments,
  measuring: Measuring,
): Promise<ShapeResult[]> {
  const { signal, onProgress, missing, skipped } = measuring;
  if (names.length > 0 && missing !== null) skipped.push(`(c) was not run: ${missing}.`);
  const { steps = STEPS, rounds, backend } = options;
  const fact = await factOf(options.data ?? DEFAULT_RECORDS);
  const shapes: ShapeResult[] = [];
  for (const name of names) {
    const { residence } = SHAPES[name];
    const shape: BenchShape = { ...SHAPES[name], residence: options.weights ?? residence };
    const folder = await folderOf(shape, options, measuring);
    if (folder === null) continue;
    // PyTorch has its weights in memory always: it is measured too where ours are asked to be there.
    const wished = new Set<Side>(options.weights === "whole" ? [...shape.sides, "reference"] : shape.sides);
    const sides = [...wished].filter((side) => side !== "reference" || missing === null);
    const model = await benchModel(shape, folder);
    shapes.push(await benchShape(model, fact, { steps, rounds, sides, backend, signal, onProgress }));
  }
  return shapes;
}

/** Every method on the lab's model, with as many records as there are rounds. */
async function measureMethods(
  names: readonly string[],
  options: BenchArguments,
  { missing, skipped, ...control }: Measuring,
): Promise<MethodsMeasured> {
  if (missing !== null) skipped.push(`PyTorch was not run beside the methods: ${missing}.`);
  const { data = DEFAULT_RECORDS, steps = null, rounds, backend } = options;
  const { records } = await loadRecords(data, { limit: rounds });
  const { list } = await findIrrelevant(data, undefined);
  const requests = records.map((record) => requestOf(record, { method: { needs: EVERYTHING }, irrelevant: list }));
  const reference = missing === null;
  const bench = { model: DEFAULT_MODEL, preset: "lab", requests, steps, reference, backend };
  return benchMethods(names, { ...bench, ...control });
}

/** Parts of a request that some method needs. */
const EVERYTHING = { templates: null, irrelevant: true, subject: true, assets: [] };

/** The first record of a file, with its first probe of each kind. */
async function factOf(data: string): Promise<Fact> {
  const { records } = await loadRecords(data, { limit: 1 });
  const { list } = await findIrrelevant(data, undefined);
  const record = records[0] as EditRecord;
  const probes = probesOf(record);
  const kinds = ["rewrite", "rephrase", "locality"] as const;
  const chosen = kinds
    .map((kind) => probes.find((probe) => probe.kind === kind))
    .filter((probe) => probe !== undefined);
  const needs = { ...EVERYTHING, subject: false };
  const request = requestOf(record, { method: { needs }, irrelevant: list });
  return { request, probes: chosen };
}

/** The checkpoint of a shape: the folder named, or a stand-in, which is made; null where there is no room for one. */
async function folderOf(shape: BenchShape, options: BenchArguments, finding: Measuring): Promise<string | null> {
  const named = { lab: DEFAULT_MODEL, "1b": options.model1b, "8b": options.model8b }[shape.title];
  if (named !== undefined) return named;
  try {
    return await makeStandIn(shape, { ...finding, cache: STAND_IN_FOLDER });
  } catch (error) {
    if (!(error instanceof RefusedInput)) throw error;
    finding.skipped.push(
      `${shape.title} was not measured, its stand-in cannot be made: ${error.found}, ${error.expected} needed (--model-${shape.title} names a checkpoint).`,
    );
    return null;
  }
}

async function reportOf(
  made: Pick<BenchReport, "shapes" | "methods" | "skipped">,
  options: BenchArguments,
): Promise<BenchReport> {
  const { version } = (await readJsonFile(projectFile("package.json"))) as { version: string };
  const only = options.only ? ` --only ${options.only.join(",")}` : "";
  const named = options.methods ? ` --methods ${options.methods.join(",")}` : "";
  const steps = options.steps === undefined ? "" : ` --steps ${options.steps}`;
  const weights = options.weights ? ` --weights ${options.weights}` : "";
  return {
    date: new Date().toISOString().slice(0, 10),
    command: `npm run bench --${only}${named}${steps} --rounds ${options.rounds}${weights}`,
    machine: {
      processor: cpus()[0]?.model.trim() || "unknown processor",
      cores: availableParallelism(),
      memoryBytes: totalmem(),
      platform: `${process.platform} ${process.arch}`,
      node: process.version,
      wiseLab: version,
    },
    precision: "float32",
    rounds: options.rounds,
    ...made,
  };
}

/** Shapes and methods are saved apart: each is measured without the other, too. */
async function save({ methods, ...report }: BenchReport): Promise<void> {
  const write = async (report: BenchReport, data: string, page: string) => {
    await writeFileAtomic(join(SAVE_FOLDER, data), `${JSON.stringify(report, null, 2)}\n`);
    await writeFileAtomic(join(SAVE_FOLDER, page), benchMarkdown(report));
  };
  if (report.shapes.length > 0) await write(report, `${report.date}.json`, "latest.md");
  if (methods) await write({ ...report, shapes: [], methods }, `methods-${report.date}.json`, "methods.md");
  console.error(`saved: ${SAVE_FOLDER}`);
}

/** A report as a terminal shows it. */
export function benchText(report: BenchReport): string {
  return [...tablesOf(report, toText), ...benchNotes(report)].join("\n");
}

/** A report as Markdown: its tables, and what was measured how. */
export function benchMarkdown(report: BenchReport): string {
  return [...tablesOf(report, toMarkdown), ...benchNotes(report).map((note) => `- ${note}`), ""].join("\n");
}

/** No table where nothing was measured. */
function tablesOf(report: BenchReport, render: (table: Table) => string): string[] {
  const tables = [benchRows(report), report.methods ? methodRows(report.methods) : []];
  return tables.filter((rows) => rows.length > 0).map((rows) => render(tableOf(rows, "the benchmark")));
}
