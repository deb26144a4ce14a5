import { RefusedInput, show } from "../core/errors.js";
import { metrics } from "../eval/metrics.js";
import type { Protocol, ScoredRun } from "../run/types.js";
import { metricOf } from "../run/under-metric.js";

/** Fields of a protocol in which the rows of a table differ by design: each gets a column of its own. */
export const rowFields = ["method", "T", "when"] as const satisfies readonly (keyof Protocol)[];

/** More options are not told by name. */
const MOST_OPTIONS = 6;

/** One field in which two protocols differ. Options and side data are named one by one: "options.KEY", "assets.NAME". */
export interface Difference {
  field: string;
  first: unknown;
  other: unknown;
}

/**
 * Fields in which two protocols differ, except the allowed ones. Options of different methods have nothing to compare:
 * the method says it.
 */
export function differences(first: Protocol, other: Protocol, allowed: readonly string[]): Difference[] {
  const a = fieldsOf(first);
  const b = fieldsOf(other);
  return [...new Set([...a.keys(), ...b.keys()])]
    .filter((field) => !allowed.includes(field))
    .filter((field) => first.method === other.method || !isOfMethod(field, a, b))
    .filter((field) => !/^generation\./.test(field) || (a.has(field) && b.has(field))) // the metric says who has none
    .map((field) => ({ field, first: a.get(field), other: b.get(field) }))
    .filter((pair) => canonical(pair.first) !== canonical(pair.other));
}

/** Options, and what one of two methods does not need: there is nothing to compare. */
function isOfMethod(field: string, ...protocols: readonly ReadonlyMap<string, unknown>[]): boolean {
  if (field.startsWith("options.")) return true;
  return /^(irrelevant|assets\.)/.test(field) && protocols.some((protocol) => (protocol.get(field) ?? null) === null);
}

/** Names of the fields of a protocol, options and side data one by one. */
export function fieldNames(protocol: Protocol): string[] {
  return [...fieldsOf(protocol).keys()];
}

/** A field of a protocol by its name, "options.KEY" for one option. */
export function fieldOf(protocol: Protocol, field: string): unknown {
  return fieldsOf(protocol).get(field);
}

/**
 * Proves that runs may stand in one table or figure.
 * @throws {RefusedInput} when there is none, or naming every field in which one differs from the first.
 */
export function requireAlike(runs: readonly ScoredRun[], allowed: readonly string[] = rowFields): void {
  const first = firstOf(runs);
  for (const [i, run] of runs.entries()) {
    const found = differences(first.protocol, run.protocol, allowed);
    if (found.length === 0) continue;
    throw new RefusedInput("runs of unlike protocols cannot stand side by side unmarked", {
      where: `run ${i + 1}${run.folder ? ` (${run.folder})` : ""}, compared with run 1`,
      found: describe(found),
      expected: `the same protocol but for ${shortList(allowed)}`,
      hint: "allow the field, or mark: true for a footnote at each row that differs (--allow, --mark)",
    });
  }
}

/** Fields in few words: of many options, that they are. */
function shortList(fields: readonly string[]): string {
  const options = fields.filter((field) => field.startsWith("options."));
  if (options.length <= MOST_OPTIONS) return fields.join(", ");
  return [...fields.filter((field) => !options.includes(field)), "options"].join(", ");
}

/** Footnotes for runs that differ from the first: a mark per run ("" for those like it), and the text of each mark. */
export function footnotes(
  runs: readonly ScoredRun[],
  allowed: readonly string[] = rowFields,
): { marks: string[]; notes: string[] } {
  const first = firstOf(runs);
  const texts: string[] = [];
  const marks = runs.map((run) => {
    const found = differences(first.protocol, run.protocol, allowed);
    if (found.length === 0) return "";
    const text = describe(found);
    if (!texts.includes(text)) texts.push(text);
    return letter(texts.indexOf(text));
  });
  return { marks, notes: texts.map((text, i) => `${letter(i)}: ${text}`) };
}

/** Caption of a table or a figure: what the numbers of these runs mean, in words. Every value that occurs is named. */
export function caption(runs: readonly ScoredRun[]): string {
  firstOf(runs);
  const every = (text: (protocol: Protocol) => unknown) =>
    [...new Set(runs.map((run) => String(text(run.protocol))))].join(" or ");
  const parts = [
    `${every((p) => `${p.data} (sha256 ${p.dataSha256.slice(0, 8)})`)}, ${every((p) => p.records)} records`,
    ...irrelevantText(runs),
    `T = ${[...new Set(runs.map((run) => run.protocol.T))].join(", ")}, scored ${every((p) => p.when)}`,
    every((p) => p.metric),
    ...generationText(runs),
    `locality is ${every((p) => p.locality)}`,
    every(templateText),
    ...(runs.some(({ protocol }) => protocol.targetStop !== "none")
      ? [`trained behind each target: ${every((p) => p.targetStop)}`]
      : []),
    `${every((p) => p.method)} on ${every((p) => `${p.model} (sha256 ${p.modelSha256.slice(0, 8)})`)}`,
    `seed ${every((p) => p.seed)}`,
    `computed with ${every((p) => (p.precision === "float32" ? p.backend : `${p.backend}, ${p.precision}`))}`,
    "[95% bootstrap interval over records]",
  ];
  const methods = [...new Set(runs.map((run) => run.protocol.method))];
  return [`${parts.join("; ")}.`, ...methods.map((method) => optionsLine(runs, method))].join("\n");
}

/** The irrelevant prompts and the side data, where any of the runs was made with such. */
function irrelevantText(runs: readonly ScoredRun[]): string[] {
  const named = (name: string, sha256: string) => `${name} (sha256 ${sha256.slice(0, 8)})`;
  const lists = runs.flatMap(({ protocol: { irrelevant, irrelevantSha256 } }) =>
    irrelevant === null || irrelevantSha256 === null ? [] : [named(irrelevant, irrelevantSha256)],
  );
  const assets = runs.flatMap(({ protocol }) =>
    Object.entries(protocol.assets).map(([name, sha256]) => named(name, sha256)),
  );
  const told = (what: string, all: readonly string[]) =>
    all.length === 0 ? [] : [`${what}: ${[...new Set(all)].join(" or ")}`];
  return [...told("irrelevant prompts", lists), ...told("side data", assets)];
}

/** The way in which free answers were written, where the metric of any of the runs reads them. */
function generationText(runs: readonly ScoredRun[]): string[] {
  const texts = runs.flatMap((run) => {
    const { generation } = run.protocol;
    if (generation === null || !metricOf(run).needs.includes("written")) return [];
    const { maxNewTokens, context, routing } = generation;
    const put = context === "none" ? "" : `, put as ${context}`;
    return [
      `answers of at most ${maxNewTokens} tokens up to ".", a line break or the end of text${put}, routed ${routing}`,
    ];
  });
  return [...new Set(texts)];
}

function templateText(protocol: Protocol): string {
  if (!protocol.chatTemplate) return "no chat template";
  return protocol.doubleBos ? "chat template, a second BOS in front" : "chat template";
}

function optionsLine(runs: readonly ScoredRun[], method: string): string {
  const all = runs.filter((run) => run.protocol.method === method).map((run) => run.protocol.options);
  const names = [...new Set(all.flatMap((options) => Object.keys(options)))];
  const every = (name: string) => [...new Set(all.map((options) => show(options[name])))].join(" or ");
  return `${method}: ${names.map((name) => `${name} ${every(name)}`).join(", ")}.`;
}

function firstOf(runs: readonly ScoredRun[]): ScoredRun {
  const [first] = runs;
  if (first === undefined) {
    throw new RefusedInput("there is no run to show", { where: "runs", found: "0 runs", expected: "at least one run" });
  }
  return first;
}

/** Fields of a protocol by name. The metrics that a run saw beside change no number; the rule of free answers counts where the metric reads them. */
function fieldsOf({ options, assets, metrics: _, generation, ...plain }: Protocol): Map<string, unknown> {
  const metric = [...metrics.values()].find(({ title }) => title === plain.metric);
  const written = metric === undefined || metric.needs.includes("written");
  const named = (group: string, values: object) =>
    Object.entries(values).map(([name, value]) => [`${group}.${name}`, value] as const);
  return new Map<string, unknown>([
    ...Object.entries({ ...plain, doubleBos: plain.chatTemplate && plain.doubleBos }), // nothing without a template
    ...(written ? named("generation", generation ?? {}) : []),
    ...named("assets", assets),
    ...named("options", options),
  ]);
}

function describe(found: readonly Difference[]): string {
  return found.map(({ field, first, other }) => `${field} is ${show(other)}, not ${show(first)}`).join("; ");
}

/** Text that is equal when values are, whatever the order of their keys. */
function canonical(value: unknown): string {
  if (value === undefined) return "undefined";
  return JSON.stringify(value, (_key, part: unknown) =>
    part !== null && typeof part === "object" && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  );
}

function letter(index: number): string {
  const last = String.fromCharCode(97 + (index % 26));
  return index < 26 ? last : letter(Math.floor(index / 26) - 1) + last;
}
