import { ANSWERS_ALL, lossCharts, marginBar, marginText, shortNumber } from "./charts.js";
import { type Html, html, nothing } from "./html.js";
import type { Case, CaseEdit, CaseKind, CaseProbe, CaseReading, MethodWords, Outcome } from "./types.js";

export const kindNames: Record<CaseKind, string> = {
  rewrite: "Rewrite",
  unedited: "Unedited",
  ood: "OOD text",
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
export function caseView(one: Case, words: MethodWords): Html {
  const [rewrite] = one.probes;
  return html`<article class="case">
<p class="over">Record ${one.record} · block ${one.block} · ${one.subject}</p>
<h2 class="title">${rewrite?.prompt ?? ""} <span class="arrow">→</span> ${rewrite?.answer ?? ""}</h2>
${one.probes.map((probe) => probeView(probe, words))}
${one.edit === null ? nothing : editView(one.edit, words)}
</article>`;
}

function probeView(probe: CaseProbe, { numbers }: MethodWords): Html {
  return html`<section class="probe">
<h3 class="head">${kindNames[probe.kind]} ${outcomeView(probe)}${probe.cause === null ? nothing : html` <span class="cause">${probe.cause}</span>`}</h3>
${probe.kind === "rewrite" ? nothing : html`<p class="asked">${probe.prompt} <span class="arrow">→</span> ${probe.answer}</p>`}
${probe.why === "" ? nothing : html`<p class="why">${sentenceCase(probe.why)}</p>`}
${tokensView(probe)}
${numbers === null ? nothing : routingView(probe, numbers)}
</section>`;
}

/** Badge that shows how much of a probe is right: a mark, a word and a number. */
function outcomeView({ outcome, score }: CaseProbe): Html {
  const { style, mark } = outcomeStyles[outcome];
  const share = outcome === "partly right" ? ` ${Math.round(score * 100)} %` : "";
  return html`<span class="badge ${style}">${mark} ${outcome}${share}</span>`;
}

function tokensView({ kind, tokens }: CaseProbe): Html {
  const cell = (text: string, right: boolean) =>
    html`<td class="${right ? "good" : "bad"} token">${right ? "✓" : "✗"} ${visible(text)}</td>`;
  const wanted = html`<tr><th class="name" scope="row">wanted</th>${tokens.map((token) => html`<td class="token">${visible(token.wanted)}</td>`)}</tr>`;
  const before =
    kind === "locality"
      ? tokens.map((token) => html`<td class="token">${visible(token.before)}</td>`)
      : tokens.map((token) => cell(token.before, token.wasRight));
  return html`<div class="wide"><table class="tokens"><tbody>${kind === "locality" ? nothing : wanted}
<tr><th class="name" scope="row">before</th>${before}</tr>
<tr><th class="name" scope="row">now</th>${tokens.map((token) => cell(token.now, token.right))}</tr></tbody></table></div>`;
}

/** Spaces and line ends as something to see: most tokens begin with one. */
function visible(text: string): string {
  return text === "" ? "∅" : text.replaceAll(" ", "␣").replaceAll("\n", "⏎");
}

const SHOWN_READINGS = 5;

type NumberWords = NonNullable<MethodWords["numbers"]>;

/** The variants that could have answered, closest first, and the untouched model. */
function routingView(probe: CaseProbe, numbers: NumberWords): Html {
  const { route, readings } = probe;
  if (readings.length === 0) return html`<p class="note">Nothing held an edit: the untouched model answered.</p>`;
  const able = readings.filter(({ predicted }) => predicted !== null);
  const scale = Math.max(1, ...able.map(({ margin }) => (margin < ANSWERS_ALL ? margin : 2))); // 2 is well beyond the line
  const isShown = ({ variant }: CaseReading, i: number) => i < SHOWN_READINGS || variant === route;
  const row = (reading: CaseReading) => readingRow(reading, scale, reading.variant === route);
  const rest = able.filter((reading, i) => !isShown(reading, i)).map(row);
  const more = html`<details><summary>${rest.length} more</summary>${readingTable(rest, numbers)}</details>`;
  const never = readings.length - able.length;
  return html`${readingTable([...able.filter(isShown).map(row), mainRow(probe, numbers)], numbers)}${rest.length === 0 ? nothing : more}${never === 0 ? nothing : html`<p class="note">${never} more can never answer.</p>`}`;
}

function readingTable(rows: readonly Html[], numbers: NumberWords): Html {
  const head = (text: string, style: string) => html`<th scope="col" class="${style}">${text}</th>`;
  const numberHeads = numbers.map(
    ({ symbol, meaning }) => html`<th scope="col" class="number raw" title="${meaning}">${symbol}</th>`,
  );
  return html`<div class="wide"><table class="readings"><thead><tr>${head("Variant", "name")}${numberHeads}${head("Margin", "number")}${head("", "picture")}${head("Would answer", "name")}${head("Score", "number")}</tr></thead><tbody>${rows}</tbody></table></div>`;
}

function readingRow(reading: CaseReading, scale: number, answered: boolean): Html {
  const { variant, margin, numbers, score, predicted } = reading;
  const cells = numbers.map((value) => html`<td class="number raw">${shortNumber(value)}</td>`);
  return html`<tr class="${answered ? "answered" : "silent"}">${nameCell(variant, answered)}${cells}<td class="number">${marginText(margin)}</td><td class="picture">${marginBar(reading, scale, answered)}</td>${answerCells(predicted ?? [], score ?? 0)}</tr>`;
}

function mainRow({ route, tokens, preScore }: CaseProbe, numbers: NumberWords): Html {
  const answered = route === "main";
  const said = tokens.map(({ before }) => before);
  const cells = numbers.map(() => html`<td class="raw"></td>`);
  return html`<tr class="${answered ? "answered" : "silent"}">${nameCell("untouched", answered)}${cells}<td></td><td class="picture"></td>${answerCells(said, preScore ?? 1)}</tr>`;
}

function nameCell(name: string, answered: boolean): Html {
  return html`<th class="name" scope="row">${name}${answered ? html` <span class="tag">answered</span>` : nothing}</th>`;
}

function answerCells(predicted: readonly string[], score: number): Html {
  return html`<td>${predicted.join("").trim()}</td><td class="number">${score === 1 ? "1 ✓" : shortNumber(score)}</td>`;
}

function editView(edit: CaseEdit, words: MethodWords): Html {
  const { steps, stoppedEarly, seconds, numbers } = edit;
  const { terms, targetTerm } = words;
  const last = steps.at(-1)?.[targetTerm];
  const end = last === undefined ? "" : `, ${terms[targetTerm] ?? targetTerm} loss ${shortNumber(last)} at the last`;
  const left = leftText(numbers);
  return html`<section class="probe">
<h3 class="head">The edit</h3>
<p class="note">${steps.length} ${steps.length === 1 ? "step" : "steps"}${stoppedEarly ? ", stopped early" : ""}, ${shortNumber(seconds)} s${end}.</p>
${left === "" ? nothing : html`<p class="note">It left ${left}.</p>`}
<div class="losses">${lossCharts(edit, words)}</div>
</section>`;
}

/** Values that an edit left, as text with their names in the method; "" for none. */
export function leftText(numbers: CaseEdit["numbers"]): string {
  return Object.entries(numbers)
    .map(([name, value]) => `${name} ${typeof value === "number" ? shortNumber(value) : value}`)
    .join(", ");
}

function sentenceCase(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
