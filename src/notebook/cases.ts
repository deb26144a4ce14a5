import { methodNamed } from "../edit/registry.js";
import { type CaseFilter, matches } from "../report/app/filter.js";
import { caseView } from "../report/app/view.js";
import { caseOf, casesOf } from "../report/case.js";
import { caseRows } from "../report/select.js";
import { caseText } from "../report/text.js";
import { wordsOf } from "../report/words.js";
import type { RunResult } from "../run/types.js";
import { type TableOptions, tableBundle } from "./bundles.js";
import { display } from "./display.js";

/**
 * Styles of the parts of a case where no style sheet goes with it, by class of `caseView`. Colours stand on light and
 * on dark pages. Whatever a viewer strips (GitHub takes styles away), marks and words say the same.
 */
const styles: Readonly<Record<string, string>> = {
  over: "opacity:.7;margin:0",
  title: "font-size:1.25em;margin:.1em 0 .4em",
  head: "font-size:1.05em;margin:1em 0 .2em",
  asked: "margin:.2em 0",
  why: "margin:.3em 0;padding-left:.6em;border-left:3px solid #d55e00",
  note: "opacity:.75;margin:.3em 0",
  good: "background:rgba(0,114,178,.16)",
  part: "background:rgba(240,200,60,.3)",
  bad: "background:rgba(213,94,0,.2)",
  badge: "padding:0 .4em;border-radius:4px;font-size:.85em",
  cause: "padding:0 .4em;border:1px solid #8888;border-radius:4px;font-size:.85em;font-weight:normal",
  token: "text-align:left;font-family:monospace;padding:.1em .5em",
  name: "text-align:left;font-weight:normal;opacity:.8",
  number: "text-align:right",
  answered: "font-weight:bold",
  tag: "padding:0 .3em;border-radius:4px;background:rgba(0,114,178,.16);font-size:.85em",
  loss: "font-size:13px",
  grid: "stroke:#8884",
  tick: "fill:#888",
  "ink-blue": "fill:#0072b2",
  "ink-pale": "fill:#a9b5c0",
  "ink-vermilion": "fill:#d55e00",
  "ink-green": "fill:#009e73",
  "ink-purple": "fill:#cc79a7",
  "ink-line": "stroke:#d55e00;stroke-width:2",
  "line-blue": "fill:none;stroke:#0072b2;stroke-width:2",
  "line-vermilion": "fill:none;stroke:#d55e00;stroke-width:2",
  "line-green": "fill:none;stroke:#009e73;stroke-width:2",
  "line-purple": "fill:none;stroke:#cc79a7;stroke-width:2",
  "text-blue": "fill:#0072b2",
  "text-vermilion": "fill:#d55e00",
  "text-green": "fill:#009e73",
  "text-purple": "fill:#cc79a7",
};

/**
 * Shows everything a run knows about one record: its tokens, routing, losses, and why a probe is not right.
 * @param record 0-based position in the file of records
 * @throws {RefusedInput} when the run has not scored it
 */
export function displayCase(run: RunResult, record: number): void {
  const method = methodNamed(run.protocol.method);
  const [one, words] = [caseOf(run, record, method), wordsOf(method)];
  display({ "text/html": withInlineStyles(caseView(one, words).html), "text/plain": caseText(one, words) });
}

/** Shows the records that pass a filter as a table, e.g. `{ probe: "rephrase", cause: "not routed" }`. */
export function displayCases(run: RunResult, filter: CaseFilter = {}, options: TableOptions = {}): void {
  const all = casesOf(run);
  const selected = all.filter((one) => matches(one, filter));
  display(tableBundle(caseRows(selected), { caption: `${selected.length} of ${all.length} records`, ...options }));
}

function withInlineStyles(html: string): string {
  return html.replace(/ class="([^"]*)"/g, (_, names: string) => {
    const own = names
      .split(" ")
      .map((name) => styles[name])
      .filter((style) => style !== undefined);
    return own.length === 0 ? "" : ` style="${own.join(";")}"`;
  });
}
