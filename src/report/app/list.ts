import type { Order } from "./filter.js";
import { type CaseFilter, orders } from "./filter.js";
import { type Html, html } from "./html.js";
import type { Case, CaseKind, CaseProbe } from "./types.js";
import { kindNames } from "./view.js";

/** State of a report, in its address after the "#": filter and order of the list, and the record that is open. */
export interface ReportState {
  filter: CaseFilter;
  order: Order;
  record: number | null;
}

const filterNames = [
  "probe",
  "outcome",
  "cause",
  "route",
  "block",
  "text",
] as const satisfies readonly (keyof CaseFilter)[];

/** A state from an address. What it does not know is left out: an address may come from anywhere. */
export function readState(hash: string): ReportState {
  const told = new URLSearchParams(hash.replace(/^#/, ""));
  const filter: Record<string, string | number> = {};
  for (const name of filterNames) {
    const value = told.get(name) ?? "";
    if (value !== "") filter[name] = name === "block" ? Number(value) : value;
  }
  const order = told.get("order") ?? "";
  const record = told.get("record");
  return {
    filter,
    order: Object.hasOwn(orders, order) ? (order as Order) : "record",
    record: record !== null && /^\d+$/.test(record) ? Number(record) : null,
  };
}

/** The address of a state; `readState` reads it back. */
export function stateHash({ filter, order, record }: ReportState): string {
  const told = new URLSearchParams();
  for (const name of filterNames) {
    const value = filter[name] ?? "";
    if (value !== "") told.set(name, String(value));
  }
  if (order !== "record") told.set("order", order);
  if (record !== null) told.set("record", String(record));
  return `#${told}`;
}

/** The rows of a list of records, each with a link that opens it. */
export function listRows(cases: readonly Case[], kinds: readonly CaseKind[], state: ReportState): Html {
  return html`${cases.map((one) => {
    const isOpen = one.record === state.record;
    const link = stateHash({ ...state, record: one.record });
    const [rewrite] = one.probes;
    const causes = [...new Set(one.probes.map(({ cause }) => cause).filter((cause) => cause !== null))];
    return html`<tr class="${isOpen ? "open" : ""}"><td class="number">${one.record}</td><td class="number block">${one.block}</td><th scope="row"><a href="${link}" id="row-${one.record}"${isOpen ? html` aria-current="true"` : ""}>${rewrite?.prompt ?? ""} <span class="arrow">→</span> ${rewrite?.answer ?? ""}</a></th>${kinds.map(
      (kind) =>
        scoreCell(
          one.probes.filter((probe) => probe.kind === kind),
          kind,
        ),
    )}<td class="causes">${causes.map((cause) => html`<span class="cause">${cause}</span> `)}</td></tr>`;
  })}`;
}

function scoreCell(probes: readonly CaseProbe[], kind: CaseKind): Html {
  if (probes.length === 0) return html`<td class="score"></td>`;
  const score = probes.reduce((sum, probe) => sum + probe.score, 0) / probes.length;
  const style = score === 1 ? "good" : score > 0 ? "part" : "bad";
  const text = score === 1 ? "✓" : score === 0 ? "✗" : `${Math.round(score * 100)} %`;
  return html`<td class="score" data-kind="${kindNames[kind]}"><span class="badge ${style}">${text}</span></td>`;
}
