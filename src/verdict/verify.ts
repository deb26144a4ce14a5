import type { DataFrame } from "danfojs-node";
import { RefusedInput } from "../core/errors.js";
import { catalogue } from "../data/catalogue.js";
import { locateData } from "../data/fetch.js";
import { methods } from "../edit/registry.js";
import { type Metric, metrics, TEACHER_FORCED } from "../eval/metrics.js";
import { type PublishedRow, readPublished, sameMethod } from "../published/published.js";
import { frameOf, type Row } from "../tables/tables.js";

/** One published row, as a user names it. */
export interface CellRequest {
  /** File of data/published, with or without ".json". */
  source: string;
  method?: string | undefined;
  T?: number | undefined;
  /** Name of the model as published. */
  ofModel?: string | undefined;
  /** Name of the data set as published. */
  dataSet?: string | undefined;
  metric?: string | undefined;
}

/** Fields that tell the rows of a source apart, with the options that name them. */
const TELLING = [
  ["method", "--method", ({ method }) => method],
  ["T", "--T", ({ T }) => String(T)],
  ["ofModel", "--of-model", ({ model }) => model],
  ["dataSet", "--data-set", ({ data }) => data],
  ["metric", "--metric", ({ metric }) => metric],
] as const satisfies readonly (readonly [keyof CellRequest, string, (row: PublishedRow) => string])[];

/**
 * The published row that a user names.
 * @throws {RefusedInput} where no row is named so, or several are, with what tells them apart
 */
export async function publishedCell(request: CellRequest): Promise<PublishedRow> {
  const all = await readPublished();
  const file = `${request.source.replace(/\.json$/, "")}.json`;
  const ofFile = all.filter((row) => row.file === file);
  if (ofFile.length === 0) {
    const known = [...new Set(all.map((row) => row.file.replace(/\.json$/, "")))];
    throw new RefusedInput("there is no such source of published numbers", {
      where: "verify",
      found: request.source,
      expected: known.join(", "),
    });
  }
  const found = ofFile.filter((row) =>
    TELLING.every(
      ([name, , of]) => request[name] === undefined || of(row).toLowerCase() === String(request[name]).toLowerCase(),
    ),
  );
  const [only] = found;
  if (only !== undefined && found.length === 1) return only;
  throw new RefusedInput(found.length === 0 ? "no published row is named so" : "several published rows are named so", {
    where: file,
    found:
      TELLING.flatMap(([name, option]) => (request[name] === undefined ? [] : [`${option} ${request[name]}`])).join(
        " ",
      ) || "no more than the source",
    expected: (found.length === 0 ? ofFile : found).map((row) => tellingApart(row, ofFile)).join("; or "),
  });
}

/** The options that tell a row from the others of its source. */
function tellingApart(row: PublishedRow, ofFile: readonly PublishedRow[]): string {
  return TELLING.flatMap(([, option, of]) => {
    const differ = new Set(ofFile.map(of)).size > 1;
    const value = of(row);
    return differ ? [`${option} ${/^[\w.*()+-]+$/.test(value) ? value : `'${value}'`}`] : [];
  }).join(" ");
}

/** The command that verifies a row. @param rows all that are published */
export function verifyCommandOf(row: PublishedRow, rows: readonly PublishedRow[]): string {
  const ofFile = rows.filter(({ file }) => file === row.file);
  return `npx wise-lab verify ${row.file.replace(/\.json$/, "")} ${tellingApart(row, ofFile)}`.trimEnd();
}

/** The run of a published row, as options of `wise-lab run`. */
export interface VerifyingRun {
  T: string;
  method: string;
  /** The first so many; all where the source does not say. */
  limit?: number;
  when: "after-all" | "after-each";
  metrics: string[];
  set: string[];
  /** Records file; undefined where the caller must name one. */
  data?: string;
}

/**
 * The run that a published row is of.
 * @returns the run; or why it cannot be made here, in words
 */
export async function verifyingRun(row: PublishedRow): Promise<VerifyingRun | string> {
  const method = Object.keys(methods).find((name) => sameMethod(name, row.algorithm));
  if (method === undefined) return "no method of this project";
  if (row.lacks !== null) return `not to be made here: ${row.lacks}`;
  if (row.T === "unknown") return "published without T";
  const metric = metricOfTitle(row.metric);
  if (metric === null) return `by a metric that this project does not have: ${row.metric}`;
  return {
    T: String(row.T),
    method,
    ...(row.records !== "unknown" && { limit: row.records }),
    when: row.when === "unknown" ? "after-all" : row.when,
    metrics: [metric.name],
    set: Object.entries(row.options).map(([name, value]) => `${name}=${JSON.stringify(value)}`),
    ...(await knownRecords(row)),
  };
}

/** Sources whose rows stand first: the headline, then one study by teacher forcing and in free answers. */
const FIRST = ["easyedit-issue-474.json", "mirage-syn.json", "mirage-wild.json"];

/**
 * Published rows that can be run here, each with its command; and of the others, by the reason, their methods.
 * @throws {RefusedInput} where none can be run
 */
export async function verifyFrame(
  rows: readonly PublishedRow[],
): Promise<{ frame: DataFrame; without: ReadonlyMap<string, readonly string[]> }> {
  const all = await readPublished();
  const lines: Row[] = [];
  const without = new Map<string, string[]>();
  const rank = ({ file }: PublishedRow) => (FIRST.includes(file) ? FIRST.indexOf(file) : FIRST.length);
  for (const row of [...rows].sort((a, b) => rank(a) - rank(b))) {
    const run = await verifyingRun(row);
    const { method, algorithm, data, T, records } = row;
    if (typeof run === "string") without.set(run, [...(without.get(run) ?? []), algorithm]);
    else lines.push({ method, data, T, records, command: verifyCommandOf(row, all) });
  }
  return { frame: frameOf(lines, "published rows that can be run here"), without };
}

/** A source that leaves its metric open scored by teacher forcing, as all of its time did: the comparison says so. */
function metricOfTitle(title: string): Metric | null {
  if (title === "unknown") return TEACHER_FORCED;
  return [...metrics.values()].find((metric) => metric.title === title) ?? null;
}

/** The file of records, where the source or the name of its data tells it. */
async function knownRecords({ data, dataSha256 }: PublishedRow): Promise<{ data?: string }> {
  const entry = Object.entries(catalogue).find(([, { sha256 }]) => sha256 === dataSha256);
  const name = entry?.[0] ?? (data === "zsRE" ? "zsre_mend_edit" : undefined);
  if (name === undefined) return {};
  return { data: (await locateData(name)) ?? name };
}
