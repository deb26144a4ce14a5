import type { Annotation, Layout, LayoutAxis } from "plotly.js-dist";
import type { Row } from "../tables/tables.js";
import type { Figure } from "./figure.js";
import { scoreLine } from "./marks.js";
import {
  axis,
  baseConfig,
  baseLayout,
  createTheme,
  type FigureOptions,
  gridLines,
  label,
  PIXELS_PER_INCH,
  type Theme,
} from "./theme.js";

const MOST_COLUMNS = 3;
/** Height of one panel with its name above it, in inches. */
const PANEL_INCHES = 0.9;
/** Parts of a panel's place that stay free: for the name above it, and beside it. */
const GAP = { above: 0.28, beside: 0.1 };
/** Width of the gap between two halves, in panels. */
const HALVES_APART = 0.25;

/** A small panel of a figure: its place, counted from the top left, and the ending of its axes' names. */
export interface Panel {
  name: string;
  column: number;
  row: number;
  /** "" of the first panel, "2" of the second: how plotly counts axes. */
  ending: string;
  isBottom: boolean;
}

/** Small panels of shares from 0 to 1 over the same few places, in rows and columns. */
export interface Panels {
  all: readonly Panel[];
  /** Of the whole figure. */
  heightInches: number;
  /** Room under the panels for ticks and their common title, in CSS pixels at print size. */
  below: number;
  layout(theme: Theme): Pick<Partial<Layout>, "annotations">;
}

/**
 * Lays panels out, one for each name; "" leaves a place free, though not the first.
 * @param over texts of the places on each panel's horizontal axis, "<br>" between lines, and their common title; names of
 *   the left and the right half of the columns, where these stand apart
 */
export function layPanels(
  names: readonly string[],
  over: { ticks: readonly string[]; title: string; columns?: number; halves?: readonly [string, string] },
): Panels {
  const columns = Math.min(names.length, over.columns ?? MOST_COLUMNS);
  const rows = Math.ceil(names.length / columns);
  const grid = { columns, rows, halves: over.halves };
  const lines = Math.max(...over.ticks.map((text) => text.split("<br>").length));
  const below = 27 + 9 * lines;
  const all = names.flatMap((name, i): Panel[] => {
    if (name === "") return [];
    const isBottom = (names[i + columns] ?? "") === "";
    return [
      { name, column: i % columns, row: Math.floor(i / columns), ending: i === 0 ? "" : String(i + 1), isBottom },
    ];
  });
  return {
    all,
    heightInches: 0.6 + (9 * (lines - 1)) / 96 + rows * PANEL_INCHES,
    below,
    layout: (theme) => ({
      ...Object.assign({}, ...all.map((panel) => axesOf(panel, { grid, ticks: over.ticks, theme }))),
      annotations: [
        ...all.map((panel) => nameOf(panel, grid, theme)),
        ...halvesOf(grid, theme),
        titleOf(over.title, below, theme),
      ],
    }),
  };
}

/** Scores of a panel: a row of `summaryFrame` for each place on its horizontal axis. */
export interface PanelRows {
  name: string;
  rows: readonly Row[];
}

const scoreNames = ["rewrite", "rephrase", "locality"] as const;
/** Distance between the marks of one place, in steps of the axis: their intervals must not lie over one another. */
const APART = 0.1;

/** Rewrite, rephrase and locality with 95% bootstrap intervals over records, over the same few places in small panels. */
export function scoresInPanels(
  groups: readonly PanelRows[],
  {
    uid,
    subtitle,
    ...over
  }: { uid: string; subtitle: readonly string[]; ticks: readonly string[]; title: string; columns?: number },
  options: FigureOptions,
): Figure {
  const theme = createTheme(options.medium);
  const panels = layPanels(
    groups.map(({ name }) => name),
    over,
  );
  return {
    data: panels.all.flatMap((panel, i) => {
      const { rows } = groups[i] as PanelRows;
      return scoreNames.map((name, place) =>
        scoreLine(
          name,
          {
            uid: `${uid}-${panel.ending || "1"}-${name}`,
            x: rows.map((_, at) => at + (place - 1) * APART),
            rows,
            text: rows.map(() => panel.name),
            sizes: { line: 1, mark: 4, interval: { thickness: 0.8, width: 1.5 } },
            ending: panel.ending,
          },
          theme,
        ),
      );
    }),
    layout: {
      ...baseLayout({ ...options, heightInches: panels.heightInches, subtitle, margins: { bottom: panels.below } }),
      ...panels.layout(theme),
    },
    config: baseConfig,
  };
}

interface Grid {
  columns: number;
  rows: number;
  halves: readonly [string, string] | undefined;
}

/** Left end of a column and the end of its panel, as parts of the width. */
function spanOf(column: number, { columns, halves }: Grid): [number, number] {
  const apart = halves === undefined ? 0 : HALVES_APART;
  const width = 1 / (columns + apart - GAP.beside); // of a panel with the gap to the next; none stands behind the last
  const left = column + (column >= columns / 2 ? apart : 0);
  return [left * width, (left + 1 - GAP.beside) * width];
}

/** Both axes of a panel. Only the outer panels say what their ticks are. */
function axesOf(panel: Panel, { grid, ticks, theme }: { grid: Grid; ticks: readonly string[]; theme: Theme }) {
  const { column, row, ending, isBottom } = panel;
  const isFirst = column === 0 || (grid.halves !== undefined && column === grid.columns / 2);
  const top = 1 - row / grid.rows;
  const x: Partial<LayoutAxis> = {
    domain: spanOf(column, grid),
    anchor: `y${ending}` as "y",
    tickmode: "array",
    tickvals: ticks.map((_, place) => place),
    ticktext: ticks.map((text) => (isBottom ? text : "")),
    range: [-0.35, ticks.length - 0.65],
  };
  const y: Partial<LayoutAxis> = {
    ...gridLines(theme),
    domain: [top - 1 / grid.rows, top - GAP.above / grid.rows],
    anchor: `x${ending}` as "x",
    range: [-0.02, 1.04],
    tickmode: "array",
    tickvals: [0, 0.5, 1],
    ticktext: ["0.0", "0.5", "1.0"].map((text) => (isFirst ? text : "")),
  };
  const isMiddle = column === 0 && row === Math.floor((grid.rows - 1) / 2);
  return {
    [`xaxis${ending}`]: axis("", theme, x),
    [`yaxis${ending}`]: axis(isMiddle ? "Score" : "", theme, y),
  };
}

function nameOf(panel: Panel, grid: Grid, theme: Theme): Partial<Annotation> {
  return label(panel.name, {
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

/** A name over each half of the columns. */
function halvesOf(grid: Grid, theme: Theme): Partial<Annotation>[] {
  return (grid.halves ?? []).map((name, half) => {
    const first = (half * grid.columns) / 2;
    const x = (spanOf(first, grid)[0] + spanOf(first + grid.columns / 2 - 1, grid)[1]) / 2;
    const place = { xref: "paper", x, xanchor: "center", yref: "paper", y: 1, yanchor: "bottom" } as const;
    return label(`<b>${name}</b>`, { ...place, yshift: theme.px(-8), font: theme.text });
  });
}

/** One title under all panels. */
function titleOf(title: string, below: number, theme: Theme): Partial<Annotation> {
  return label(title, {
    xref: "paper",
    x: 0.5,
    xanchor: "center",
    yref: "paper",
    y: 0,
    yshift: theme.px(-below),
    yanchor: "bottom",
    font: theme.text,
  });
}

/** Heights in inches of panels that stand over one another: of the band over each, of a panel, and of the foot. */
export interface Stack {
  band: number;
  panel: number;
  foot: number;
}

/** Panels over one another, the first on top; its band is part of the top margin. */
export function stacked(count: number, { band, panel, foot }: Stack) {
  const plot = count * (band + panel) - band;
  const places = Array.from({ length: count }, (_, i) => {
    const top = 1 - (i * (band + panel)) / plot;
    return { suffix: i === 0 ? "" : `${i + 1}`, ends: [Math.max(0, top - panel / plot), top] as const };
  });
  const margins = { top: band * PIXELS_PER_INCH, bottom: foot * PIXELS_PER_INCH };
  return { plot, places, heightInches: band + plot + foot, margins };
}
