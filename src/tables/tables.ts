import type { DataFrame } from "danfojs-node";
import { RefusedInput, show } from "../core/errors.js";
import { createRng } from "../core/rng.js";
import { bootstrapInterval, type Interval, mean } from "../core/stats.js";
import { MAIN } from "../edit/overlay.js";
import type { RunResult, ScoredProbe, ScoredRecord, ScoredRun } from "../run/types.js";
import { isShare, metricOf } from "../run/under-metric.js";
import { newFrame } from "./frame.js";
import { fieldOf, footnotes, requireAlike, rowFields } from "./protocols.js";
import type { Cell, Table } from "./readable.js";
import {
  anyHas,
  type MeasureName,
  measures,
  type ProbeKind,
  probeKinds,
  probesOf,
  secondsOf,
  secondsOfEdit,
  secondsPerEdit,
  shownKinds,
  valuesOf,
} from "./values.js";

export type Row = Record<string, Cell>;

/**
 * One row per record of a run, in file order: prompt, answer, scores in [0, 1] after and before the edit, the route of
 * each kind of probe, and how its edit went (steps, seconds). `record` and `block` count from 0.
 */
export function casesFrame(run: RunResult): DataFrame {
  const kinds = shownKinds([run]);
  const routed = hasRouter(run) ? kinds : [];
  const edits = new Map(run.edits.map((edit) => [edit.record, edit]));
  const rows = run.scores.map((record): Row => {
    const edit = edits.get(record.record);
    return {
      record: record.record,
      block: record.block,
      subject: record.subject,
      prompt: record.rewrite.prompt,
      answer: record.rewrite.answer,
      ...Object.fromEntries(shownMeasures([run]).map((name) => [name, measures[name](record)])),
      ...byKind(record, kinds, "Exact", (probes) => probes.every((probe) => probe.exact)),
      ...byKind(record, routed, "Route", (probes) => [...new Set(probes.map((probe) => probe.route))].join(", ")),
      steps: edit?.steps.length ?? null,
      stoppedEarly: edit?.stoppedEarly ?? null,
      seconds: edit === undefined ? null : secondsOfEdit(edit),
    };
  });
  return frameOf(rows, "records of the run");
}

/**
 * One row per block: which records it holds, mean scores, the number of records behind each, seconds of its edits (null
 * where a summary keeps only their mean).
 */
export function blocksFrame(run: ScoredRun): DataFrame {
  const blocks = new Map<number, ScoredRecord[]>();
  for (const score of run.scores) blocks.set(score.block, [...(blocks.get(score.block) ?? []), score]);
  const rows = [...blocks].map(([block, scores]): Row => {
    const records = scores.map((score) => score.record);
    return {
      block,
      firstRecord: Math.min(...records),
      lastRecord: Math.max(...records),
      records: records.length,
      ...Object.assign({}, ...shownMeasures([run]).map((name) => meanColumns(scores, name))),
      seconds: secondsOf(run, new Set(records)),
    };
  });
  return frameOf(rows, "blocks of the run");
}

/**
 * One row per group of probes of a run: its kind and name, the number of its probes, and their mean score after and before
 * the edits, with a 95% bootstrap interval over probes. Groups are those of the data, such as relations.
 * @throws {RefusedInput} for a run whose data has no groups, or the summary of one
 */
export function groupsFrame(run: ScoredRun): DataFrame {
  const rows = probeKinds.flatMap((kind) => {
    const groups = new Map<string, ScoredProbe[]>();
    for (const probe of run.scores.flatMap((record) => probesOf<ScoredProbe>(record, kind))) {
      if (probe.group !== undefined) groups.set(probe.group, [...(groups.get(probe.group) ?? []), probe]);
    }
    return [...groups]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([group, probes]) => groupRow(run, { kind, group, probes }));
  });
  return frameOf(rows, "groups of the run's data");
}

function groupRow(
  run: ScoredRun,
  { kind, group, probes }: { kind: ProbeKind; group: string; probes: readonly ScoredProbe[] },
): Row {
  const rng = createRng(run.protocol.seed).fork("bootstrap", `${kind} ${group}`);
  const {
    mean: score,
    low,
    high,
  } = bootstrapInterval(
    probes.map((probe) => probe.score),
    { rng },
  );
  const before = probes.flatMap(({ preScore }) => preScore ?? []);
  return {
    kind,
    group,
    probes: probes.length,
    score,
    scoreLow: low,
    scoreHigh: high,
    before: before.length === 0 ? null : mean(before),
  };
}

export interface SummaryOptions {
  /** Fields of the protocol in which runs may differ; each is a column. Default: method, T and when. */
  allow?: readonly string[];
  /** Takes runs that differ in other fields too, and gives each a mark in a column "mark" (texts: `footnotes`). */
  mark?: boolean;
}

/**
 * One row per run: the fields in which runs may differ, records and blocks, mean scores in [0, 1] with the number of
 * records behind each and its 95% bootstrap interval over records (columns NAME, NAMELow, NAMEHigh, NAMERecords), scores
 * before the edits, the share of each kind of probe that a router left to the untouched model where any run has one, and
 * seconds per edit.
 * @throws {RefusedInput} naming the fields in which runs differ that may not, unless they are marked.
 */
export function summaryFrame(runs: readonly ScoredRun[], options: SummaryOptions = {}): DataFrame {
  return frameOf(summaryRows(runs, options), "runs");
}

/** The rows of `summaryFrame`. @throws {RefusedInput} as it does */
export function summaryRows(runs: readonly ScoredRun[], options: SummaryOptions = {}): Row[] {
  const { allow = rowFields, mark = false } = options;
  if (!mark) requireAlike(runs, allow);
  const { marks } = footnotes(runs, allow);
  return runs.map(
    (run, i): Row => ({
      ...Object.fromEntries(allow.map((field) => [field, cellOf(fieldOf(run.protocol, field))])),
      ...(mark ? { mark: marks[i] as string } : {}),
      records: run.scores.length,
      blocks: new Set(run.scores.map((score) => score.block)).size,
      ...Object.assign({}, ...shownMeasures(runs).map((name) => intervalColumns(run, name))),
      ...Object.assign({}, ...routedKinds(runs).map((kind) => shareOfMain(run, kind))),
      secondsPerEdit: secondsPerEdit(run),
    }),
  );
}

/** Rows of a table, such as a danfo DataFrame, as objects with the values that stand in it. */
export function rowsOf({ columns, values }: Table): Row[] {
  return (values as Cell[][]).map((cells) => Object.fromEntries(columns.map((name, i) => [name, cells[i] ?? null])));
}

/** Rows as a danfo DataFrame: what notebooks take on with. @throws {RefusedInput} for no rows */
export function frameOf(rows: readonly Row[], what: string): DataFrame {
  const { columns, values } = tableOf(rows, what);
  return newFrame(values, columns);
}

/** Rows under the columns of the first. @throws {RefusedInput} for no rows: nothing says their columns */
export function tableOf(rows: readonly Row[], what: string): Table & { values: Cell[][] } {
  const [first] = rows;
  if (first === undefined) {
    throw new RefusedInput("a table needs at least one row", { where: what, found: "none", expected: "at least one" });
  }
  const columns = Object.keys(first);
  return { columns, values: rows.map((row) => columns.map((name) => row[name] ?? null)) };
}

/** A column per kind of probe, named after it. */
function byKind(
  record: ScoredRecord,
  kinds: readonly ProbeKind[],
  ending: string,
  cell: (probes: readonly ScoredProbe[]) => Cell,
): Row {
  const columns = kinds.map((kind) => {
    const probes = probesOf(record, kind);
    return [`${kind}${ending}`, probes.length === 0 ? null : cell(probes)] as const;
  });
  return Object.fromEntries(columns);
}

function shownMeasures(runs: readonly ScoredRun[]): MeasureName[] {
  const [rewrite, rephrase, locality, ...rare] = shownKinds(runs) as [ProbeKind, ProbeKind, ProbeKind, ...ProbeKind[]];
  const average: MeasureName[] = runs.every((run) => isShare(metricOf(run))) ? ["average"] : []; // no mean of unlike numbers
  const before: MeasureName[] = rare.includes("unedited") ? ["preUnedited"] : [];
  return [rewrite, rephrase, locality, ...average, ...rare, "preRewrite", "preRephrase", ...before];
}

function meanColumns(scores: readonly ScoredRecord[], name: MeasureName): Row {
  const values = valuesOf(scores, name);
  return { [name]: values.length === 0 ? null : mean(values), [`${name}Records`]: values.length };
}

/**
 * The mean of a measure over the records of a run that have it, with its 95% bootstrap interval; null where none has it.
 * The generator is keyed by the run's seed and the measure: the same run gives the same interval anywhere.
 */
export function intervalOf(run: ScoredRun, name: MeasureName): Interval | null {
  const values = valuesOf(run.scores, name);
  const rng = createRng(run.protocol.seed).fork("bootstrap", name);
  return values.length === 0 ? null : bootstrapInterval(values, { rng });
}

/** The interval of a measure in columns NAME, NAMELow, NAMEHigh and NAMERecords. */
export function intervalColumns(run: ScoredRun, name: MeasureName): Row {
  const { mean, low, high, n } = intervalOf(run, name) ?? { mean: null, low: null, high: null, n: 0 };
  return { [name]: mean, [`${name}Low`]: low, [`${name}High`]: high, [`${name}Records`]: n };
}

/** Kinds of probes that a router decided on in any of the runs. */
function routedKinds(runs: readonly ScoredRun[]): ProbeKind[] {
  return runs.some(hasRouter) ? probeKinds.filter((kind) => anyHas(runs, kind)) : [];
}

/** True if a router decided what answers, so that routes say something. */
function hasRouter({ scores }: Pick<ScoredRun, "scores">): boolean {
  return scores.some(({ rewrite }) => rewrite.readings.length > 0);
}

function shareOfMain(run: ScoredRun, kind: ProbeKind): Row {
  const probes = hasRouter(run) ? run.scores.flatMap((record) => probesOf(record, kind)) : [];
  const routed = probes.map((probe): number => (probe.route === MAIN ? 1 : 0));
  return { [`${kind}ToMain`]: routed.length === 0 ? null : mean(routed) };
}

function cellOf(value: unknown): Cell {
  if (typeof value === "string" || typeof value === "number" || typeof value === "boolean") return value;
  return value === undefined || value === null ? null : show(value);
}
