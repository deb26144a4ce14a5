import { type CaseFilter, selectCases } from "./filter.js";
import { type Html, html } from "./html.js";
import { listRows, type ReportState, readState, stateHash } from "./list.js";
import { type PackedCases, unpackCases } from "./pack.js";
import type { Case, CaseKind, MethodWords } from "./types.js";
import { caseView } from "./view.js";

// Parts of the browser in use. The rest of the project runs in Node, where the names of the DOM stand for nothing.
interface PageElement {
  innerHTML: string;
  textContent: string | null;
  value: string;
  hidden: boolean;
  open: boolean;
  scrollTop: number;
  scrollLeft: number;
  scrollWidth: number;
  clientWidth: number;
  tabIndex: number;
  classList: { toggle(name: string, on: boolean): void };
  focus(options?: { preventScroll: boolean }): void;
  scrollIntoView(options: { block: "nearest" | "start" }): void;
  addEventListener(type: string, listener: (event: PageEvent) => void, capture?: boolean): void;
  matches(selector: string): boolean;
}
interface PageEvent {
  key: string;
  target: PageElement;
  ctrlKey: boolean;
  metaKey: boolean;
  altKey: boolean;
  preventDefault(): void;
}
declare const document: PageElement & {
  body: PageElement;
  fonts: { ready: Promise<unknown> };
  querySelector(selector: string): PageElement | null;
  querySelectorAll(selector: string): Iterable<PageElement>;
};
declare const location: { hash: string };
declare const history: { replaceState(data: null, title: string, url: string): void };
declare const window: PageElement;

/** Data that the page carries beside its tables. */
export interface ReportData extends PackedCases {
  kinds: CaseKind[];
  words: MethodWords;
}

function startReport(): void {
  const data = JSON.parse(element("#cases").textContent ?? "") as ReportData;
  const cases = unpackCases(data);
  let shown: ReportState | null = null;

  function show(state: ReportState): void {
    const selected = selectCases(cases, data.words, state);
    showControls(state);
    showList(selected, cases.length, { state, kinds: data.kinds });
    if (shown?.record !== state.record) {
      const one = cases.find(({ record }) => record === state.record);
      showDetail(one && caseView(one, data.words), shown, state.record);
    }
    showNeighbours(selected, state);
    markWide();
    shown = state;
  }

  const go = (state: ReportState) => {
    history.replaceState(null, "", stateHash(state)); // controls leave no trail for the back button; links do
    show(state);
  };
  element("#filter").addEventListener("input", () => go({ ...readControls(), record: shown?.record ?? null }));
  element("#filter").addEventListener("submit", (event) => event.preventDefault()); // Enter would load the page anew
  element("#clear").addEventListener("click", () => go({ filter: {}, order: "record", record: shown?.record ?? null }));
  window.addEventListener("hashchange", () => {
    show(readState(location.hash));
    if (shown?.record === null && location.hash !== "#") element("#records").scrollIntoView({ block: "start" });
  });
  document.addEventListener("keydown", (event) => pressKey(event));
  window.addEventListener("resize", markWide);
  for (const type of ["scroll", "toggle"]) document.addEventListener(type, markWide, true); // of any element: they do not bubble
  document.fonts.ready.then(markWide);
  window.addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
  });
  show(readState(location.hash));
}

function readControls(): Pick<ReportState, "filter" | "order"> {
  const told = new URLSearchParams();
  for (const name of [...controlNames, "order"]) told.set(name, document.querySelector(`#${name}`)?.value ?? "");
  const { filter, order } = readState(told.toString());
  return { filter, order };
}

/** A page has those of them that its run has a use for. */
const controlNames = [
  "text",
  "probe",
  "outcome",
  "cause",
  "route",
  "block",
] as const satisfies readonly (keyof CaseFilter)[];

function showControls({ filter, order }: ReportState): void {
  for (const name of controlNames) {
    const control = document.querySelector(`#${name}`);
    const value = String(filter[name] ?? "");
    if (control !== null && control.value !== value) control.value = value;
  }
  element("#order").value = order;
}

function showList(
  selected: readonly Case[],
  all: number,
  at: { state: ReportState; kinds: readonly CaseKind[] },
): void {
  element("#rows").innerHTML = listRows(selected, at.kinds, at.state).html;
  element("#count").textContent =
    selected.length === all ? `all ${all} records` : `${selected.length} of ${all} records`;
  element("#empty").hidden = selected.length > 0;
}

function showDetail(view: Html | undefined, before: ReportState | null, record: number | null): void {
  document.body.classList.toggle("reading", record !== null);
  element("#detail").hidden = record === null;
  if (record === null) {
    document.querySelector(`#row-${before?.record}`)?.focus();
    return;
  }
  element("#case").innerHTML = (view ?? missing(record)).html;
  element("#detail").scrollTop = 0;
  const title = element("#case .title");
  title.tabIndex = -1; // read out when it opens
  title.focus({ preventScroll: true });
  document.querySelector(`#row-${record}`)?.scrollIntoView({ block: "nearest" });
}

/** Marks the tables that go on to the right of what is seen of them: their edge fades. */
function markWide(): void {
  for (const box of document.querySelectorAll(".wide")) {
    box.classList.toggle("more", box.scrollLeft + box.clientWidth < box.scrollWidth - 1);
  }
}

function missing(record: number): Html {
  return html`<h2 class="title">Record ${record}</h2><p class="note">This run has not scored it.</p>`;
}

/** Links to the records before and after the open one in the list, and back to the list. */
function showNeighbours(selected: readonly Case[], state: ReportState): void {
  const place = selected.findIndex(({ record }) => record === state.record);
  const link = (one: Case | undefined, id: string, name: string) =>
    one === undefined || place < 0
      ? html`<span class="step off">${name}</span>`
      : html`<a class="step" id="${id}" href="${stateHash({ ...state, record: one.record })}">${name}</a>`;
  element("#neighbours").innerHTML =
    html`${link(selected[place - 1], "previous", "← Previous")}${link(selected[place + 1], "next", "Next →")}
<a class="step close" id="close" href="${stateHash({ ...state, record: null })}">Close ✕</a>`.html;
}

/** Escape closes a record, j and k go on to the next and the one before, "/" searches. */
function pressKey(event: PageEvent): void {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const links: Record<string, string> = { Escape: "#close", j: "#next", k: "#previous" };
  const typing = event.target.matches("input, select");
  if (event.key === "/" && !typing) {
    event.preventDefault();
    element("#text").focus();
    return;
  }
  const selector = links[event.key];
  if (selector === undefined || (typing && event.key !== "Escape")) return;
  const target = document.querySelector(selector) as (PageElement & { href?: string }) | null;
  if (target?.href) location.hash = new URL(target.href).hash;
}

function element(selector: string): PageElement {
  const found = document.querySelector(selector);
  if (found === null) throw new Error(`the page has no ${selector}`);
  return found;
}

startReport();
