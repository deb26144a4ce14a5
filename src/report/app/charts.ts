import { type Html, html } from "./html.js";
import type { CaseEdit, CaseReading, MethodWords } from "./types.js";

const BAR_WIDTH = 160;
const BAR_HEIGHT = 14;

/** A margin as a bar, with a line across it where answering begins, at 1. `scale`, at least 1, is the full width. */
export function marginBar({ margin }: CaseReading, scale: number, answered: boolean): Html {
  const x = (value: number) => round((BAR_WIDTH - 2) * Math.min(value / scale, 1));
  const said = `margin ${marginText(margin)}, 1 is needed`;
  const line = x(1) + 1;
  return html`<svg class="bar" role="img" aria-label="${said}" width="${BAR_WIDTH}" height="${BAR_HEIGHT}" viewBox="0 0 ${BAR_WIDTH} ${BAR_HEIGHT}"><rect class="${answered ? "ink-blue" : "ink-pale"}" x="0" y="3" width="${x(margin)}" height="8" rx="2"></rect><line class="ink-line" x1="${line}" x2="${line}" y1="0" y2="${BAR_HEIGHT}"></line></svg>`;
}

const WIDTH = 226;
const HEIGHT = 150;
const MARGIN = { left: 38, right: 12, top: 28, bottom: 34 };

const lineStyles = ["blue", "vermilion", "green", "purple"] as const;
type LineStyle = (typeof lineStyles)[number];

/** The terms of an edit's loss over its steps, each on a scale of its own: one may start ten times as high as another. */
export function lossCharts({ steps }: CaseEdit, { terms }: MethodWords): Html {
  const charts = termsOf(steps).map((term, i) => {
    const losses = steps.map((step) => step[term] ?? 0);
    return lossChart(terms[term] ?? term, losses, lineStyles[i % lineStyles.length] as LineStyle);
  });
  return html`${charts}`;
}

/** The terms that the losses of some steps have, in order. A step that lacks one has it at 0. */
export function termsOf(steps: CaseEdit["steps"]): string[] {
  return [...new Set(steps.flatMap((step) => Object.keys(step)))];
}

function lossChart(name: string, losses: readonly number[], style: LineStyle): Html {
  const [first, last] = [losses[0] ?? 0, losses.at(-1) ?? 0];
  const top = niceCeiling(Math.max(...losses));
  const end = WIDTH - MARGIN.right;
  const x = (i: number) => round(MARGIN.left + (i / Math.max(losses.length - 1, 1)) * (end - MARGIN.left));
  const y = (loss: number) => round(HEIGHT - MARGIN.bottom - (loss / top) * (HEIGHT - MARGIN.top - MARGIN.bottom));
  const levels = [0, top / 2, top].map(
    (loss) => html`<line class="grid" x1="${MARGIN.left}" x2="${end}" y1="${y(loss)}" y2="${y(loss)}"></line>
<text class="tick" text-anchor="end" x="${MARGIN.left - 6}" y="${y(loss) + 4}">${shortNumber(loss)}</text>`,
  );
  const ticks = [...new Set([0, losses.length - 1])].map(
    (i) => html`<text class="tick" text-anchor="middle" x="${x(i)}" y="${HEIGHT - 18}">${i + 1}</text>`,
  );
  const points = losses.map((loss, i) => `${x(i)},${y(loss)}`).join(" ");
  const marks = losses.map(
    (loss, i) => html`<circle class="ink-${style}" cx="${x(i)}" cy="${y(loss)}" r="2.5"></circle>`,
  );
  const said = `${name} loss over ${losses.length} steps: from ${shortNumber(first)} to ${shortNumber(last)}`;
  return html`<svg class="loss" role="img" aria-label="${said}" width="${WIDTH}" height="${HEIGHT}" viewBox="0 0 ${WIDTH} ${HEIGHT}">
<text class="text-${style}" x="${MARGIN.left}" y="14">${name}</text>${levels}${ticks}
<text class="tick" text-anchor="middle" x="${(MARGIN.left + end) / 2}" y="${HEIGHT - 3}">step</text>
<polyline class="line-${style}" points="${points}"></polyline>${marks}</svg>`;
}

/** 1, 2 or 5 times a power of ten, at or above a value. */
function niceCeiling(value: number): number {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1e-6)));
  return ([1, 2, 5, 10].find((factor) => factor * power >= value) as number) * power;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

/** The overlay's largest margin, which no page can import. */
export const ANSWERS_ALL = 1e9;

/** A margin in three digits, without an end where everything is answered. */
export function marginText(margin: number): string {
  return margin >= ANSWERS_ALL ? "∞" : shortNumber(margin);
}

/** Three digits. */
export function shortNumber(value: number): string {
  if (Math.abs(value) >= 100) return value.toFixed(0);
  return String(Number(value.toPrecision(3)));
}
