import type { Annotation, Data, LayoutAxis } from "plotly.js-dist";
import { RefusedInput } from "../../core/errors.js";
import type { Figure } from "../figure.js";
import { type PublishedRow, twoOfOneT } from "../published.js";
import {
  axis,
  baseConfig,
  baseLayout,
  createTheme,
  type FigureOptions,
  gridLines,
  label,
  metricStyles,
  type Theme,
} from "../theme.js";

const names = ["rewrite", "rephrase", "locality"] as const;
const MOST_COLUMNS = 3;
/** Height of one panel with the name of its method above it, in inches. */
const PANEL_INCHES = 0.9;
/** Parts of a panel's place that stay free: for the name above it, and beside it. */
const GAP = { above: 0.28, beside: 0.1 };
/** Room under the panels for ticks and their common title, in CSS pixels at print size. */
const BELOW = 36;

/** Panels in rows and columns. */
interface Grid {
  columns: number;
  rows: number;
}

/** A method's panel: its place, counted from the top left, and the names of its axes. */
interface Panel {
  column: number;
  row: number;
  /** "" of the first panel, "2" of the second: how plotly counts axes. */
  ending: string;
  isBottom: boolean;
}

/**
 * Published rewrite, rephrase and locality over T, one small panel per method in the order of the table. A dash in the
 * source is a gap. Tables print no intervals, so none are drawn.
 * @param rows of one source, model and data set
 * @throws {RefusedInput} for no rows, rows of unlike kind, an unknown T, and two of one method and T.
 */
export function publishedOverT(rows: readonly PublishedRow[], options: FigureOptions = {}): Figure {
  requireOneTable(rows);
  const theme = createTheme(options.medium);
  const methods = [...new Set(rows.map((row) => row.method))];
  const Ts = [...new Set(rows.map((row) => row.T as number))].sort((a, b) => a - b);
  const columns = Math.min(methods.length, MOST_COLUMNS);
  const grid: Grid = { columns, rows: Math.ceil(methods.length / columns) };
  const panels = methods.map((_, i): Panel => {
    const isBottom = i + columns >= methods.length;
    return { column: i % columns, row: Math.floor(i / columns), ending: i === 0 ? "" : String(i + 1), isBottom };
  });
  return {
    data: methods.flatMap((method, i) => {
      const own = rows.filter((row) => row.method === method);
      return names.map((name) => curve(name, { method, own, Ts, panel: panels[i] as Panel, theme }));
    }),
    layout: {
      ...baseLayout({ ...options, heightInches: 0.6 + grid.rows * PANEL_INCHES, margins: { bottom: BELOW } }),
      ...Object.assign({}, ...panels.map((panel) => axesOf(panel, { Ts, grid, theme }))),
      annotations: [...panels.map((panel, i) => nameOf(methods[i] as string, { panel, grid, theme })), xTitle(theme)],
    },
    config: baseConfig,
  };
}

interface Curve {
  method: string;
  own: readonly PublishedRow[];
  Ts: readonly number[];
  panel: Panel;
  theme: Theme;
}

function curve(name: (typeof names)[number], { method, own, Ts, panel, theme }: Curve): Data {
  const { color, symbol } = metricStyles[name];
  const scores = Ts.map((T) => own.find((row) => row.T === T)?.scores[name] ?? null);
  return {
    type: "scatter",
    mode: "lines+markers",
    uid: `published-${method.replaceAll(/\W/g, "_")}-${name}`, // plotly makes a selector of it
    name,
    legendgroup: name,
    showlegend: panel.ending === "", // once for all panels
    xaxis: `x${panel.ending}` as "x",
    yaxis: `y${panel.ending}` as "y",
    x: Ts.map((_, place) => place),
    y: scores,
    line: { color, width: theme.px(1) },
    marker: { color, symbol, size: theme.px(4) },
    cliponaxis: false,
    text: Ts.map((T) => `${method}, T = ${T}`),
    hovertemplate: "%{text}: %{y:.3f}",
  };
}

/** Both axes of a panel. Only the outer panels say what their ticks are. */
function axesOf(panel: Panel, { Ts, grid, theme }: { Ts: readonly number[]; grid: Grid; theme: Theme }) {
  const { column, row, ending, isBottom } = panel;
  const width = 1 / (grid.columns - GAP.beside); // of a panel with the gap to the next; none stands behind the last
  const top = 1 - row / grid.rows;
  const x: Partial<LayoutAxis> = {
    domain: [column * width, (column + 1 - GAP.beside) * width],
    anchor: `y${ending}` as "y",
    tickmode: "array",
    tickvals: Ts.map((_, place) => place),
    ticktext: Ts.map((T) => (isBottom ? shortNumber(T) : "")),
    range: [-0.35, Ts.length - 0.65],
  };
  const y: Partial<LayoutAxis> = {
    ...gridLines(theme),
    domain: [top - 1 / grid.rows, top - GAP.above / grid.rows],
    anchor: `x${ending}` as "x",
    range: [-0.02, 1.04],
    tickmode: "array",
    tickvals: [0, 0.5, 1],
    ticktext: ["0.0", "0.5", "1.0"].map((text) => (column === 0 ? text : "")),
  };
  const isMiddle = column === 0 && row === Math.floor((grid.rows - 1) / 2);
  return { [`xaxis${ending}`]: axis("", theme, x), [`yaxis${ending}`]: axis(isMiddle ? "Score" : "", theme, y) };
}

function nameOf(method: string, { panel, grid, theme }: { panel: Panel; grid: Grid; theme: Theme }) {
  return label(method, {
    xref: `x${panel.ending} domain` as "x domain",
    x: 0.5,
    xanchor: "center",
    yref: "paper",
    y: 1 - (panel.row + GAP.above) / grid.rows,
    yanchor: "bottom",
    yshift: theme.px(1),
    font: theme.text,
  });
}

/** One title under all panels. */
function xTitle(theme: Theme): Partial<Annotation> {
  return label("Edits between rollbacks T", {
    xref: "paper",
    x: 0.5,
    xanchor: "center",
    yref: "paper",
    y: 0,
    yshift: theme.px(-BELOW),
    yanchor: "bottom",
    font: theme.text,
  });
}

/** 1000 as "1k": four digits under a narrow panel touch each other. */
function shortNumber(T: number): string {
  return T >= 1000 && T % 100 === 0 ? `${T / 1000}k` : String(T);
}

function requireOneTable(rows: readonly PublishedRow[]): void {
  const [first] = rows;
  if (first === undefined) {
    throw new RefusedInput("there is no published row to draw", {
      where: "rows",
      found: "0",
      expected: "at least one",
    });
  }
  const seen = new Set<string>();
  for (const row of rows) {
    const { source, model, data, method, T } = row;
    const table = `${data} on ${model}, ${source}`;
    const wanted = `${first.data} on ${first.model}, ${first.source}`;
    if (table !== wanted || T === "unknown") {
      throw new RefusedInput("published rows of unlike kind cannot stand in one figure", {
        where: method,
        found: `${table}, T = ${T}`,
        expected: `${wanted}, T a number`,
      });
    }
    const place = JSON.stringify([method, T]);
    if (seen.has(place)) throw twoOfOneT(row);
    seen.add(place);
  }
}
