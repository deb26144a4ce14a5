import { lossCharts, routingBar, shortNumber } from "./charts.js";
import { type Html, html, nothing } from "./html.js";
import type { Case, CaseEdit, CaseKind, CaseMemory, CaseProbe, Outcome } from "./types.js";

export const kindNames: Record<CaseKind, string> = {
  rewrite: "Rewrite",
  rephrase: "Rephrase",
  locality: "Locality",
  portability: "Portability",
};

const outcomeStyles: Record<Outcome, { style: string; mark: string }> = {
  right: { style: "good", mark: "✓" },
  "partly right": { style: "part", mark: "◐" },
  wrong: { style: "bad", mark: "✗" },
};

/** One record in full. The same for a notebook and for a report: classes alone say how things look. */
export function caseView(one: Case): Html {
  const [rewrite] = one.probes;
  return html`<article class="case">
<p class="over">Record ${one.record} · block ${one.block} · ${one.subject}</p>
<h2 class="title">${rewrite?.prompt ?? ""} <span class="arrow">→</span> ${rewrite?.answer ?? ""}</h2>
${one.probes.map(probeView)}
${one.edit === null ? nothing : editView(one.edit)}
</article>`;
}

function probeView(probe: CaseProbe): Html {
  return html`<section class="probe">
<h3 class="head">${kindNames[probe.kind]} ${outcomeView(probe)}${probe.cause === null ? nothing : html` <span class="cause">${probe.cause}</span>`}</h3>
${probe.kind === "rewrite" ? nothing : html`<p class="asked">${probe.prompt} <span class="arrow">→</span> ${probe.answer}</p>`}
${probe.why === "" ? nothing : html`<p class="why">${sentenceCase(probe.why)}</p>`}
${tokensView(probe)}
${routingView(probe)}
</section>`;
}

/** How much of a probe is right, as a mark, a word and a number. */
export function outcomeView({ outcome, score }: CaseProbe): Html {
  const { style, mark } = outcomeStyles[outcome];
  const share = outcome === "partly right" ? ` ${Math.round(score * 100)} %` : "";
  return html`<span class="badge ${style}">${mark} ${outcome}${share}</span>`;
}

function tokensView({ kind, tokens }: CaseProbe): Html {
  const cell = (text: string, right: boolean) =>
    html`<td class="${right ? "good" : "bad"} token">${right ? "✓" : "✗"} ${visible(text)}</td>`;
  const wanted = html`<tr><th class="side" scope="row">wanted</th>${tokens.map((token) => html`<td class="token">${visible(token.wanted)}</td>`)}</tr>`;
  const before =
    kind === "locality"
      ? tokens.map((token) => html`<td class="token">${visible(token.before)}</td>`)
      : tokens.map((token) => cell(token.before, token.wasRight));
  return html`<div class="wide"><table class="tokens"><tbody>${kind === "locality" ? nothing : wanted}
<tr><th class="side" scope="row">before</th>${before}</tr>
<tr><th class="side" scope="row">now</th>${tokens.map((token) => cell(token.now, token.right))}</tr></tbody></table></div>`;
}

/** Spaces and line ends as something to see: most tokens begin with one. */
function visible(text: string): string {
  return text === "" ? "∅" : text.replaceAll(" ", "␣").replaceAll("\n", "⏎");
}

const SHOWN_MEMORIES = 5;

function routingView(probe: CaseProbe): Html {
  const { route, memories } = probe;
  if (memories.length === 0) return html`<p class="note">No memory held an edit: the untouched model answered.</p>`;
  const scale = Math.max(...memories.flatMap(({ delta, threshold }) => [delta, threshold]));
  const isShown = ({ memory }: CaseMemory, i: number) => i < SHOWN_MEMORIES || memory === route;
  const row = (memory: CaseMemory) => memoryRow(memory, scale, memory.memory === route);
  const shown = memories.filter(isShown).map(row);
  const rest = memories.filter((memory, i) => !isShown(memory, i)).map(row);
  const more =
    rest.length === 0
      ? nothing
      : html`<details><summary>${rest.length} more ${rest.length === 1 ? "memory" : "memories"}</summary>${memoryTable(rest)}</details>`;
  return html`${memoryTable([...shown, mainRow(probe)])}${more}`;
}

const memoryHeads = [
  ["Memory", "side"],
  ["Δ", "number raw"],
  ["Threshold", "number raw"],
  ["Δ / threshold", "number"],
  ["", "picture"],
  ["Would answer", "side"],
  ["Score", "number"],
] as const;

function memoryTable(rows: readonly Html[]): Html {
  const heads = memoryHeads.map(([head, style]) => html`<th scope="col" class="${style}">${head}</th>`);
  return html`<div class="wide"><table class="memories"><thead><tr>${heads}</tr></thead><tbody>${rows}</tbody></table></div>`;
}

function memoryRow(memory: CaseMemory, scale: number, answered: boolean): Html {
  const { delta, threshold, score, predicted } = memory;
  const margin = threshold > 0 ? `${shortNumber(delta / threshold)} ×` : "–";
  return html`<tr class="${answered ? "answered" : "silent"}"><th class="side" scope="row">${memory.memory}${answered ? html` <span class="tag">answered</span>` : nothing}</th><td class="number raw">${shortNumber(delta)}</td><td class="number raw">${shortNumber(threshold)}</td><td class="number">${margin}</td><td class="picture">${routingBar(memory, scale, answered)}</td>${answerCells(predicted, score)}</tr>`;
}

function mainRow({ route, tokens, preScore }: CaseProbe): Html {
  const answered = route === "main";
  const said = tokens.map(({ before }) => before);
  return html`<tr class="${answered ? "answered" : "silent"}"><th class="side" scope="row">untouched${answered ? html` <span class="tag">answered</span>` : nothing}</th><td class="raw"></td><td class="raw"></td><td></td><td class="picture"></td>${answerCells(said, preScore ?? 1)}</tr>`;
}

function answerCells(predicted: readonly string[], score: number): Html {
  return html`<td>${predicted.join("").trim()}</td><td class="number">${score === 1 ? "1 ✓" : shortNumber(score)}</td>`;
}

function editView(edit: CaseEdit): Html {
  const { steps, stoppedEarly, seconds } = edit;
  const last = steps.at(-1);
  const end = last ? `, fine-tuning loss ${shortNumber(last.ft)} at the last` : "";
  return html`<section class="probe">
<h3 class="head">The edit</h3>
<p class="note">${steps.length} ${steps.length === 1 ? "step" : "steps"}${stoppedEarly ? ", stopped early" : ""}, ${shortNumber(seconds)} s${end}.</p>
<div class="losses">${lossCharts(edit)}</div>
</section>`;
}

function sentenceCase(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
