import { mean } from "../core/stats.js";
import type { EditMethod } from "../edit/contract.js";
import { MAIN } from "../edit/overlay.js";
import type { CauseName } from "../run/causes.js";
import type { RunResult } from "../run/types.js";
import { type Row, summaryRows } from "../tables/tables.js";
import type { ProbeKind } from "../tables/values.js";
import { type CaseFilter, type Order, orders } from "./app/filter.js";
import { type Html, html, nothing } from "./app/html.js";
import { stateHash } from "./app/list.js";
import type { Case, Outcome } from "./app/types.js";
import { kindNames } from "./app/view.js";
import { causeRows, causesShown } from "./select.js";

/** Data that a report's chapters are made from. */
export interface ReportSubject {
  run: RunResult;
  method: EditMethod;
  cases: readonly Case[];
  /** The kinds of probes that any record has. */
  kinds: readonly ProbeKind[];
}

/** The means of a run with their intervals, and how many probes are right, partly right and wrong. */
export function scoresChapter({ run, method: { router }, cases, kinds }: ReportSubject): Html {
  const [summary] = summaryRows([run]) as [Row];
  const counts = ["Before", "Right", "Partly right", "Wrong", ...(router ? ["Left to main"] : [])];
  const rows = (some: readonly ProbeKind[]) => some.map((kind) => scoreRow(kind, summary, { cases, router }));
  return html`<section class="chapter" aria-labelledby="scores-title"><h2 id="scores-title">Scores</h2>
<div class="wide"><table class="grid-table">
<thead><tr><th scope="col">Score</th><th scope="col">Mean [95 % interval]</th><td></td>${counts.map(numberHead)}</tr></thead>
<tbody>
${rows(kinds.filter((kind) => kind !== "portability"))}
${typeof summary.average === "number" ? averageRow(summary, counts.length) : nothing}
${rows(kinds.filter((kind) => kind === "portability"))}
</tbody>
</table></div>
<p class="note">Teacher-forced token accuracy; locality is agreement with the model before the edit. Means and counts lead
to their records.</p>
</section>`;
}

function scoreRow(
  kind: ProbeKind,
  summary: Row,
  { cases, router }: { cases: readonly Case[]; router: EditMethod["router"] },
): Html {
  const probes = cases.flatMap((one) => one.probes.filter((probe) => probe.kind === kind));
  const having = (outcome: Outcome) => {
    const count = probes.filter((probe) => probe.outcome === outcome).length;
    return html`<td class="number">${counted(count, { probe: kind, outcome })}</td>`;
  };
  const toMain = probes.filter(({ route }) => route === MAIN).length;
  return html`<tr><th scope="row">${kindNames[kind]}</th>${meanCells(summary, kind)}
<td class="number">${kind === "locality" ? "–" : meanBefore(cases, kind).toFixed(3)}</td>
${having("right")}${having("partly right")}${having("wrong")}
${router ? html`<td class="number">${counted(toMain, { probe: kind, route: MAIN })}</td>` : nothing}</tr>`;
}

/** A record with several probes of a kind counts once, as in the means of a summary. */
function meanBefore(cases: readonly Case[], kind: ProbeKind): number {
  const scores = cases.map(({ probes }) =>
    probes.filter((probe) => probe.kind === kind).map(({ preScore }) => preScore as number),
  );
  return mean(scores.filter((own) => own.length > 0).map(mean));
}

function averageRow(summary: Row, columns: number): Html {
  const of = html`<span class="meaning">of rewrite, rephrase and locality</span>`;
  return html`<tr><th scope="row" class="meant">Average${of}</th>${meanCells(summary, "average")}<td colspan="${columns}"></td></tr>`;
}

/** A mean that leads to its records, the lowest first; its interval; and both as a bar. */
function meanCells(summary: Row, name: ProbeKind | "average"): Html {
  const [middle, low, high] = [name, `${name}Low`, `${name}High`].map((column) => summary[column]) as number[] as [
    number,
    number,
    number,
  ];
  const link = listLink(name === "average" ? {} : { probe: name }, "score");
  const x = (share: number) => Math.round(share * 1000) / 10;
  const interval = `M${x(low)} 1v8M${x(high)} 1v8M${x(low)} 5H${x(high)}`;
  return html`<td><a class="mean" href="${link}">${middle.toFixed(3)}</a>
<span class="interval">[${low.toFixed(3)}, ${high.toFixed(3)}]</span></td>
<td><svg class="meter" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">
<rect class="meter-track" width="100" height="4" y="3"></rect>
<rect class="meter-fill" width="${x(middle)}" height="4" y="3"></rect>
<path class="meter-interval" vector-effect="non-scaling-stroke" fill="none" d="${interval}"></path></svg></td>`;
}

/** The causes of probes that are not right, with their counts. */
export function causesChapter({ method: { router }, cases, kinds }: ReportSubject): Html {
  const cell = (count: unknown, filter: CaseFilter) =>
    html`<td class="number">${counted(count as number, filter)}</td>`;
  const counts = causeRows(cases, router).slice(0, -1); // behind them stands what is right
  const rows = counts.map((row) => {
    const cause = row.cause as CauseName;
    return html`<tr><th scope="row" class="meant">${cause}<span class="meaning">${row.meaning as string}</span></th>
${kinds.map((probe) => cell(row[probe], { probe, cause }))}${cell(row.records, { cause })}</tr>`;
  });
  const heads = [...kinds.map((kind) => kindNames[kind]), "Records"];
  return html`<section class="chapter" aria-labelledby="causes-title"><h2 id="causes-title">Why probes are not right</h2>
<div class="wide"><table class="grid-table">
<thead><tr><th scope="col">Cause</th>${heads.map(numberHead)}</tr></thead>
<tbody>${rows}</tbody>
</table></div>
</section>`;
}

function numberHead(head: string): Html {
  return html`<th scope="col" class="number">${head}</th>`;
}

/** A count that leads to what it counts; none leads nowhere. */
function counted(count: number, filter: CaseFilter): Html {
  return count === 0 ? html`<span class="note">0</span>` : html`<a href="${listLink(filter)}">${count}</a>`;
}

function listLink(filter: CaseFilter, order: Order = "record"): string {
  return stateHash({ filter, order, record: null });
}

/** The controls of the list, and its place: the page's script fills it. */
export function recordsChapter({ method, cases, kinds }: ReportSubject): Html {
  return html`<section class="chapter" id="records" aria-labelledby="records-title"><h2 id="records-title">Records</h2>
${controls(cases, kinds, method)}
<p class="count" id="count" role="status"></p>
<table class="list">
<thead><tr><th scope="col" class="number">Record</th><th scope="col" class="number block">Block</th>
<th scope="col">Question → new answer</th>
${kinds.map((kind) => html`<th scope="col" class="score">${kindNames[kind]}</th>`)}
<th scope="col" class="causes">Causes</th></tr></thead>
<tbody id="rows"></tbody>
</table>
<p id="empty" class="note" hidden>No record is like that.</p>
<noscript><p>The list of records needs JavaScript.</p></noscript>
<p class="foot">Keys: / searches, j and k go to the next and the previous record, Escape closes it. The address of this page
keeps the list and the record.</p>
</section>`;
}

function controls(cases: readonly Case[], kinds: readonly ProbeKind[], { router }: EditMethod): Html {
  const routes = [...new Set(cases.flatMap(({ probes }) => probes.map(({ route }) => route)))].sort();
  const blocks = [...new Set(cases.map(({ block }) => block))];
  const plain = (values: readonly (string | number)[]): Choice[] => values.map((value) => [value, value]);
  const byRoute = choice("route", "Route", [anything, ["not-main", "any edit"], ...plain(routes)]);
  const order = Object.entries(orders).filter(([name]) => router !== undefined || name !== "margin");
  return html`<form class="controls" id="filter" role="search">
<div class="search"><label for="text">Search</label>
<input id="text" type="search" autocomplete="off" placeholder="words, or #12"></div>
${choice("probe", "Probe", [anything, ...kinds.map((kind): Choice => [kind, kindNames[kind]])])}
${choice("outcome", "Outcome", [anything, ...plain(["right", "partly right", "wrong", "not right"])])}
${choice("cause", "Cause", [anything, ...plain(causesShown(cases, router))])}
${router ? byRoute : nothing}
${choice("block", "Block", [anything, ...plain(blocks)])}
${choice(
  "order",
  "Sort by",
  order.map(([value, { name }]): Choice => [value, name]),
)}
<div class="clear"><button id="clear" type="button">Clear</button></div>
</form>`;
}

type Choice = readonly [value: string | number, text: string | number];
const anything: Choice = ["", "any"];

function choice(id: string, name: string, values: readonly Choice[]): Html {
  const options = values.map(([value, text]) => html`<option value="${value}">${text}</option>`);
  return html`<div><label for="${id}">${name}</label><select id="${id}">${options}</select></div>`;
}
