import { marginBar } from "../report/app/charts.js";
import { type Html, html, nothing } from "../report/app/html.js";
import { type Curve, curveChart } from "./charts.js";
import type { AnswerView, Chosen, Dot, StepView, TableView } from "./messages.js";

/** A question with its answers before the edits and now. */
export interface Asked {
  question: string;
  before: AnswerView | null;
  now: AnswerView | null;
}

/** Margins beyond this are drawn as this. */
const WIDEST_MARGIN = 3;

export function answersTable(asked: readonly Asked[], edited: boolean): Html {
  if (asked.length === 0) return nothing;
  const rows = asked.map(({ question, before, now }) => {
    const untouched = before?.text ?? "…";
    const text = now?.text ?? "…";
    const changed = edited && before !== null && now !== null && text !== untouched;
    const after = edited
      ? html`<td data-head="now"><span class="${changed ? "changed" : "same"}">${text}</span></td><td data-head="from">${now === null ? "…" : now.by}${seen(now)}</td>`
      : nothing;
    return html`<tr><th scope="row">${question}</th><td data-head="${edited ? "before" : "answer"}">${untouched}</td>${after}</tr>`;
  });
  const heads = edited
    ? html`<th scope="col">Before the edit</th><th scope="col">Now</th><th scope="col">Answered by</th>`
    : html`<th scope="col">Answer of the untouched model</th>`;
  return html`<table class="answers"><thead><tr><th scope="col">Question</th>${heads}</tr></thead><tbody>${rows}</tbody></table>`;
}

/** Readings of the router for a question. */
function seen(answer: AnswerView | null): Html {
  const readings = answer?.readings ?? [];
  return html`${readings.map((reading) => {
    const { called, margin, numbers } = reading;
    const bar = marginBar({ variant: called, margin, numbers: [], score: null } as never, WIDEST_MARGIN, margin >= 1);
    return html`<span class="seen">${bar}${readings.length > 1 ? `${called}: ` : ""}${numbers}</span>`;
  })}`;
}

/** The loss, its terms and the numbers beside them, step by step. */
export function curves(steps: readonly StepView[], chosen: Chosen): Html {
  const { measured } = chosen;
  const last = steps.at(-1);
  if (last === undefined) return nothing;
  const most = Math.max(last.limit ?? 0, steps.length);
  const names = [...new Set(steps.flatMap((step) => Object.keys(step.terms)))];
  const terms = names.map((name) => ({
    name: chosen.terms[name] ?? name,
    values: steps.map((step) => step.terms[name] ?? 0),
  }));
  const whole: Curve = { name: "loss", values: steps.map(({ loss }) => loss) };
  const lines = names.length < 2 ? [whole] : [...terms, whole]; // the sum last, over its parts
  const loss = curveChart("Loss", lines, { most, levels: [] });
  if (measured === null) return html`${loss}`;
  const numbers = Object.keys(last.numbers).filter((name) => name in measured.names);
  const distances = numbers.map((name) => ({
    name: measured.names[name] as string,
    values: steps.map((step) => step.numbers[name] ?? 0),
  }));
  return html`${loss}${curveChart(measured.title, distances, { most, levels: last.guides })}`;
}

const MEASURES = [
  { key: "rewrite", name: "Reliability", meaning: "the edited question" },
  { key: "rephrase", name: "Generalization", meaning: "in other words" },
  { key: "locality", name: "Locality", meaning: "unrelated, unchanged" },
  { key: "average", name: "Average", meaning: "mean of the three" },
] as const;

export function scoresTable({ rows }: TableView): Html {
  if (rows.length === 0) return nothing;
  const heads = MEASURES.map(
    ({ name, meaning }) => html`<th scope="col" class="number" title="${meaning}">${name}</th>`,
  );
  const lines = rows.map(
    (row) =>
      html`<tr><th scope="row">T = ${row.T}</th>${MEASURES.map(({ key }) => html`<td class="number">${share(row[key])}</td>`)}</tr>`,
  );
  return html`<table class="grid-table scores"><thead><tr><th scope="col">${rows[0]?.records ?? 0} records</th>${heads}</tr></thead><tbody>${lines}</tbody></table>`;
}

const share = (value: number | null) => (value === null ? "–" : value.toFixed(3));

const KINDS = { rewrite: "edited question", rephrase: "in other words", locality: "unrelated" } as const;
const STRIP = { width: 720, row: 34, left: 140, right: 16, top: 8, bottom: 30 };

/** Every logged probe at the value where its answer turns, with the value that holds now. */
export function strip(dots: readonly Dot[], { value, most, key }: { value: number; most: number; key: string }): Html {
  const { width, row, left, right, top, bottom } = STRIP;
  const kinds = Object.keys(KINDS) as Dot["kind"][];
  const height = top + kinds.length * row + bottom;
  const x = (at: number) => left + (Math.max(0, Math.min(at, most)) / most) * (width - left - right);
  const rails = kinds.map((kind, i) => {
    const y = top + (i + 0.5) * row;
    const own = dots.filter((dot) => dot.kind === kind);
    const marks = own.map(
      ({ turn, edited }) =>
        html`<circle class="dot ${edited ? "edited" : ""}" cx="${x(turn).toFixed(1)}" cy="${y}" r="6"></circle>`,
    );
    return html`<text x="0" y="${y + 5}">${KINDS[kind]}</text><line class="rail" x1="${left}" x2="${width - right}" y1="${y}" y2="${y}"></line>${marks}`;
  });
  const ticks = [0, most / 2, most].map(
    (at) => html`<text text-anchor="middle" x="${x(at)}" y="${height - 8}">${Number(at.toPrecision(3))}</text>`,
  );
  const answered = kinds.map((kind) => {
    const own = dots.filter((dot) => dot.kind === kind);
    return `${KINDS[kind]}: ${own.filter(({ edited }) => edited).length} of ${own.length}`;
  });
  const said = `${key} = ${value}. Probes that a memory answers: ${answered.join("; ")}`;
  return html`<svg class="strip" role="img" aria-label="${said}" viewBox="0 0 ${width} ${height}">${rails}<line class="at" x1="${x(value).toFixed(1)}" x2="${x(value).toFixed(1)}" y1="0" y2="${height - bottom + 4}"></line>${ticks}</svg>
<p class="note">${said}. A dot is a probe of the largest T, at the ${key} where its answer turns; filled, a memory answers it.</p>`;
}
