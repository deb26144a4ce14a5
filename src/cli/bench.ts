import { availableParallelism, cpus, totalmem } from "node:os";
import { join } from "node:path";
import { benchShape, type ShapeResult } from "../bench/bench.js";
import { referenceMissing } from "../bench/process.js";
import type { Fact } from "../bench/protocol.js";
import { type BenchReport, benchNotes, benchRows } from "../bench/report.js";
import { type BenchShape, benchModel, makeStandIn, SHAPES, type ShapeName } from "../bench/shapes.js";
import { RefusedInput } from "../core/errors.js";
import { readJsonFile, requireWritableFolder, writeFileAtomic } from "../core/files.js";
import { loadRecords } from "../data/load.js";
import type { EditRecord } from "../data/records.js";
import type { Residence } from "../model/model.js";
import { toMarkdown, toText } from "../report/format.js";
import { frameOf } from "../report/tables.js";
import { DEFAULT_MODEL, DEFAULT_RECORDS, findIrrelevant, projectFile } from "../run/inputs.js";
import { probesOf, requestOf } from "../run/plan.js";
import type { BackendName } from "../tensor/names.js";
import { createProgressLine } from "./run.js";

/** Options of `wise-lab bench`, as the command line gives them. */
export interface BenchArguments {
  only?: ShapeName[];
  model1b?: string;
  model8b?: string;
  data?: string;
  steps: number;
  rounds: number;
  weights?: Residence;
  save?: boolean;
  json?: boolean;
  backend?: BackendName;
}

/** Stand-ins that no folder was named for. */
const STAND_IN_FOLDER = projectFile("runs", "bench");
const SAVE_FOLDER = projectFile("data", "bench");

/** `wise-lab bench`. Prints the table. @returns the exit status: 1 when the sides did not compute the same thing */
export async function benchCommand(options: BenchArguments, signal: AbortSignal): Promise<number> {
  const fact = await factOf(options.data ?? DEFAULT_RECORDS);
  if (options.save) await requireWritableFolder(SAVE_FOLDER);
  const missing = referenceMissing();
  const skipped = missing === null ? [] : [`(c) was not run: ${missing}.`];
  const shapes: ShapeResult[] = [];
  const line = createProgressLine();
  const onProgress = (text: string) => line.show(text, true);
  for (const name of options.only ?? (Object.keys(SHAPES) as ShapeName[])) {
    const { residence } = SHAPES[name];
    const shape: BenchShape = { ...SHAPES[name], residence: options.weights ?? residence };
    const folder = await folderOf(shape, options, { signal, onProgress, skipped });
    if (folder === null) continue;
    const sides = shape.sides.filter((side) => side !== "reference" || missing === null);
    const { steps, rounds, backend } = options;
    const model = await benchModel(shape, folder);
    shapes.push(await benchShape(model, fact, { steps, rounds, sides, backend, signal, onProgress }));
  }
  line.end();
  const report = await reportOf({ shapes, skipped }, options);
  console.log(options.json ? JSON.stringify(report, null, 2) : benchText(report));
  if (!shapes.every(({ alike }) => alike)) return 1;
  if (options.save) await save(report);
  return 0;
}

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
  const needs = { templates: null, irrelevant: true, subject: false, assets: [] };
  const request = requestOf(record, { method: { needs }, irrelevant: list });
  return { request, probes: chosen };
}

interface Finding {
  signal: AbortSignal;
  onProgress: (line: string) => void;
  /** Takes in why a shape is left out. */
  skipped: string[];
}

/** The checkpoint of a shape: the folder named, or a stand-in, which is made; null where there is no room for one. */
async function folderOf(shape: BenchShape, options: BenchArguments, finding: Finding): Promise<string | null> {
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

async function reportOf(made: Pick<BenchReport, "shapes" | "skipped">, options: BenchArguments): Promise<BenchReport> {
  const { version } = (await readJsonFile(projectFile("package.json"))) as { version: string };
  const only = options.only ? ` --only ${options.only.join(",")}` : "";
  const weights = options.weights ? ` --weights ${options.weights}` : "";
  return {
    date: new Date().toISOString().slice(0, 10),
    command: `npm run bench --${only} --steps ${options.steps} --rounds ${options.rounds}${weights}`,
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

async function save(report: BenchReport): Promise<void> {
  await writeFileAtomic(join(SAVE_FOLDER, `${report.date}.json`), `${JSON.stringify(report, null, 2)}\n`);
  await writeFileAtomic(join(SAVE_FOLDER, "latest.md"), benchMarkdown(report));
  console.error(`saved: ${SAVE_FOLDER}`);
}

/** A report as a terminal shows it. */
export function benchText(report: BenchReport): string {
  return [...tableOf(report, toText), ...benchNotes(report)].join("\n");
}

/** A report as Markdown: its table, and what was measured how. */
export function benchMarkdown(report: BenchReport): string {
  return [...tableOf(report, toMarkdown), ...benchNotes(report).map((note) => `- ${note}`), ""].join("\n");
}

/** No table where nothing was measured. */
function tableOf(report: BenchReport, render: (frame: ReturnType<typeof frameOf>) => string): string[] {
  const rows = benchRows(report);
  return rows.length === 0 ? [] : [render(frameOf(rows, "the benchmark"))];
}
