import type { Guide } from "../edit/contract.js";
import { shortNumber } from "../report/app/charts.js";
import { type Html, html } from "../report/app/html.js";

/** A number over the steps of an edit. */
export interface Curve {
  name: string;
  values: readonly number[];
}

const WIDTH = 460;
const HEIGHT = 230;
const MARGIN = { left: 44, right: 116, top: 30, bottom: 36 };
const COLOURS = ["blue", "vermilion", "green", "purple"] as const;
/** Least distance of two names at the right, in pixels. */
const LINE = 15;

/** Curves on one scale, each named at its end, with the levels they are held against. @param options `most`: steps of the axis */
export function curveChart(
  title: string,
  curves: readonly Curve[],
  { most, levels }: { most: number; levels: readonly Guide[] },
): Html {
  const values = [...curves.flatMap((curve) => curve.values), ...levels.map(({ value }) => value)];
  const top = Math.max(...values, 1e-6) * 1.05;
  const end = WIDTH - MARGIN.right;
  const x = (i: number) => MARGIN.left + (i / Math.max(most - 1, 1)) * (end - MARGIN.left);
  const y = (value: number) => HEIGHT - MARGIN.bottom - (value / top) * (HEIGHT - MARGIN.top - MARGIN.bottom);
  const at = (value: number) => value.toFixed(1);
  const grid = [0, top / 2, top].map(
    (value) => html`<line class="grid" x1="${MARGIN.left}" x2="${end}" y1="${at(y(value))}" y2="${at(y(value))}"></line>
<text class="tick" text-anchor="end" x="${MARGIN.left - 6}" y="${at(y(value) + 4)}">${shortNumber(value)}</text>`,
  );
  const guides = levels.map(
    ({ value }) =>
      html`<line class="level" x1="${MARGIN.left}" x2="${end}" y1="${at(y(value))}" y2="${at(y(value))}"></line>`,
  );
  const lines = curves.map(({ values: own }, i) => {
    const colour = COLOURS[i % COLOURS.length] as string;
    const points = own.map((value, step) => `${at(x(step))},${at(y(value))}`).join(" ");
    const marks = own.map(
      (value, step) => html`<circle class="ink-${colour}" cx="${at(x(step))}" cy="${at(y(value))}" r="2.5"></circle>`,
    );
    return html`<polyline class="line-${colour}" points="${points}"></polyline>${marks}`;
  });
  const names = spread([
    ...curves.map(({ name, values: own }, i) => ({
      name,
      y: y(own.at(-1) ?? 0),
      style: `text-${COLOURS[i % COLOURS.length]}`,
    })),
    ...levels.map(({ name, value }) => ({ name: `${name} ${shortNumber(value)}`, y: y(value), style: "tick" })),
  ]).map((label) => html`<text class="${label.style}" x="${end + 8}" y="${at(label.y + 4)}">${label.name}</text>`);
  const steps = curves[0]?.values.length ?? 0;
  const said = curves.map(({ name, values: own }) => `${name} ${shortNumber(own.at(-1) ?? 0)}`).join(", ");
  return html`<svg class="loss" role="img" aria-label="${title} after ${steps} steps: ${said}" width="${WIDTH}" height="${HEIGHT}" viewBox="0 0 ${WIDTH} ${HEIGHT}">
<text class="tick" x="${MARGIN.left}" y="16">${title}</text>${grid}${guides}
<text class="tick" text-anchor="middle" x="${MARGIN.left}" y="${HEIGHT - 18}">1</text>
<text class="tick" text-anchor="middle" x="${end}" y="${HEIGHT - 18}">${most}</text>
<text class="tick" text-anchor="middle" x="${(MARGIN.left + end) / 2}" y="${HEIGHT - 4}">step</text>${lines}${names}</svg>`;
}

/** Names moved apart, from the top down, so that none lies on another. */
function spread<L extends { y: number }>(labels: readonly L[]): L[] {
  let free = Number.NEGATIVE_INFINITY;
  const moved = [...labels]
    .sort((a, b) => a.y - b.y)
    .map((label) => {
      const y = Math.max(label.y, free);
      free = y + LINE;
      return { ...label, y };
    });
  const over = Math.max(0, (moved.at(-1)?.y ?? 0) - (HEIGHT - MARGIN.bottom));
  return moved.map((label, i) => ({ ...label, y: Math.min(label.y, Math.max(label.y - over, MARGIN.top + i * LINE)) }));
}
