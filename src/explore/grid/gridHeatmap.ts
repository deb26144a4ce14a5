import type { Annotation, Data, Shape } from "plotly.js-dist";
import { RefusedInput } from "../../core/errors.js";
import type { Figure } from "../../figures/figure.js";
import {
  axis,
  baseConfig,
  baseLayout,
  COLUMN_INCHES,
  colors,
  createTheme,
  type FigureOptions,
  label,
  PIXELS_PER_INCH,
  type Theme,
} from "../../figures/theme.js";
import { scoreHeads } from "../../tables/format.js";
import { bestCells, type Grid, type GridAxis, type GridCell, type Place } from "./grids.js";

/** One hue from pale to dark: its order survives colour blindness and grey print. */
const SCALE = ["#E3EDF5", "#A9CBE3", "#4F97C7", "#0B5E97", "#06304F"];
/** From this place on the scale, letters on a cell are white. */
const DARK = 0.5;
/** In CSS pixels at print size: around the cells, the heights of a row and of all, and the least width of a numbered cell. */
const MARGINS = { left: 40, right: 52, top: 30, bottom: 32 };
const ROW = { least: 10, usual: 18, marked: 21 };
const LABEL_WIDTH = 19;
const CELLS = { least: 76, most: 170 };
/** The mark of cells where the router decided nothing, and what it says. They are grey: no colour speaks well of them. */
const OFF = { mark: "off", meaning: "grey: the router is off, an edit always answers" };
/** Most letters of all ticks of the x axis together, and of ticks on the y axis. */
const TICKS = { letters: 46, rows: 17 };

/**
 * A measure over two settings as coloured cells, with their numbers where they fit. The best cell (several where equal)
 * has a solid frame, the run's own settings a dashed one. Where the router decided nothing, a cell is grey and marked
 * "off". Cells are shapes, so that they stay sharp in print.
 * @throws {RefusedInput} for a grid in which nothing was measured
 */
export function gridHeatmap(grid: Grid, options: FigureOptions = {}): Figure {
  const theme = createTheme(options.medium);
  const cells = measuredCells(grid);
  const scale = scaleOf(cells);
  const [columns, rows] = [grid.x.values.length, grid.y.values.length];
  const anyOff = cells.some(({ isOff }) => isOff);
  const wanted = (anyOff ? ROW.marked : ROW.usual) * rows;
  const height = Math.min(Math.max(wanted, CELLS.least), Math.max(ROW.least * rows, CELLS.most));
  const heightInches = (height + MARGINS.top + MARGINS.bottom) / PIXELS_PER_INCH;
  const cellWidth = (COLUMN_INCHES * PIXELS_PER_INCH - MARGINS.left - MARGINS.right) / columns;
  const subtitle = [...grid.about, ...(anyOff ? [OFF.meaning] : [])];
  const layout = baseLayout({ ...options, heightInches, subtitle, margins: MARGINS });
  const lookOf = (cell: Cell): Look => {
    const share = shareOf(cell, scale);
    if (cell.isOff) return { fill: colors.grid, ink: colors.muted };
    return { fill: colorAt(share), ink: share < DARK ? colors.ink : colors.paper };
  };
  return {
    data: [marks(grid, { cells, scale, theme }), ...frameNames(grid, theme)],
    layout: {
      ...layout,
      margin: { ...layout.margin, autoexpand: false }, // the colour bar has its place already
      xaxis: cellAxis(grid.x, theme, Math.ceil(lettersOf(grid.x) / TICKS.letters)),
      yaxis: cellAxis(grid.y, theme, Math.ceil(rows / TICKS.rows)),
      shapes: [...cells.map((cell) => square(cell, { fillcolor: lookOf(cell).fill })), ...frames(grid, theme)],
      annotations:
        cellWidth < LABEL_WIDTH
          ? []
          : cells.map((cell) => number(cell, { ink: lookOf(cell).ink, hasRoom: height >= ROW.marked * rows, theme })),
    },
    config: baseConfig,
  };
}

type Cell = Place & GridCell;

/** Colours of a cell, and of its number. */
interface Look {
  fill: string;
  ink: string;
}

function measuredCells({ cells, measure }: Grid): Cell[] {
  const measured = cells.flatMap((row, y) => row.flatMap((cell, x) => (cell === null ? [] : [{ x, y, ...cell }])));
  if (measured.length > 0) return measured;
  throw new RefusedInput("a grid without numbers cannot be drawn", {
    where: `${measure} of the grid`,
    found: "no cell with a number",
    expected: "at least one",
  });
}

/** Narrower ranges of means are widened to this: colours shall not make much of little. */
const LEAST_RANGE = 0.1;

/** Ends of the colour scale: the range of the means, of cells that have a colour where any has. */
interface Scale {
  low: number;
  high: number;
}

function scaleOf(cells: readonly Cell[]): Scale {
  const on = cells.filter(({ isOff }) => !isOff);
  const means = (on.length > 0 ? on : cells).map(({ mean }) => mean);
  const [low, high] = [Math.min(...means), Math.max(...means)];
  return { low: Math.min(low, high - LEAST_RANGE), high };
}

function shareOf({ mean }: Cell, { low, high }: Scale): number {
  return (mean - low) / (high - low);
}

/** The colour at a share of the scale, linear between its neighbours. */
function colorAt(share: number): string {
  const place = share * (SCALE.length - 1);
  const below = Math.min(Math.floor(place), SCALE.length - 2);
  const [from, to] = [SCALE[below], SCALE[below + 1]] as [string, string];
  const channels = [1, 3, 5].map((at) => {
    const [a, b] = [from, to].map((hex) => Number.parseInt(hex.slice(at, at + 2), 16)) as [number, number];
    return Math.round(a + (b - a) * (place - below));
  });
  return `rgb(${channels.join(",")})`;
}

/** A mark in every cell that is not seen: it carries the colour bar, and tells the numbers under the pointer. */
function marks(grid: Grid, { cells, scale, theme }: { cells: readonly Cell[]; scale: Scale; theme: Theme }): Data {
  const name = (scoreHeads as Partial<Record<string, string>>)[grid.measure] ?? grid.measure;
  return {
    type: "scatter",
    mode: "markers",
    uid: "grid-cells",
    name,
    showlegend: false,
    x: cells.map(({ x }) => x),
    y: cells.map(({ y }) => y),
    marker: {
      opacity: 0,
      color: cells.map(({ mean }) => mean),
      cmin: scale.low,
      cmax: scale.high,
      colorscale: SCALE.map((color, i): [number, string] => [i / (SCALE.length - 1), color]),
      showscale: true,
      colorbar: {
        title: { text: name, font: theme.text, side: "right" },
        thickness: theme.px(7),
        len: 1,
        xpad: theme.px(4),
        ypad: 0,
        outlinewidth: 0,
        nticks: 6,
        tickformat: ".2f",
        tickfont: theme.smallText,
        ticks: "outside",
        ticklen: theme.px(2),
        tickcolor: colors.muted,
        tickwidth: theme.px(0.7),
      },
    },
    text: cells.map(({ x, y, mean, low, high, isOff }) => {
      const at = `${grid.x.title} ${grid.x.values[x]}, ${grid.y.title} ${grid.y.values[y]}`;
      return `${at}: ${mean.toFixed(3)} [${low.toFixed(3)}, ${high.toFixed(3)}]${isOff ? `, ${OFF.mark}` : ""}`;
    }),
    hovertemplate: "%{text}<extra></extra>",
  };
}

/** Half of a cell's side. Whole cells touch, so that no paper shows between them. */
const HALF = 0.5;
/** Half of the side of a frame, which stands inside its cell. */
const FRAME = 0.45;

function square({ x, y }: Place, look: Partial<Shape>, half = HALF): Partial<Shape> {
  return {
    type: "rect",
    xref: "x",
    yref: "y",
    x0: x - half,
    x1: x + half,
    y0: y - half,
    y1: y + half,
    line: { width: 0 },
    layer: "below",
    ...look,
  };
}

function frameLooks(theme: Theme) {
  return {
    best: { color: colors.vermilion, width: theme.px(1.6), dash: "solid" },
    own: { color: colors.ink, width: theme.px(1.4), dash: "dot" },
  } as const;
}

/** Frames within their cells. Under the dashes lies paper, or the frame of the best: they are seen on every colour. */
function frames(grid: Grid, theme: Theme): Partial<Shape>[] {
  const { best, own } = frameLooks(theme);
  const frame = (place: Place, line: Shape["line"]) => square(place, { line, layer: "above" }, FRAME);
  const around = bestCells(grid).map((place) => frame(place, best));
  if (grid.own === null) return around;
  const paper = { ...own, color: colors.paper, dash: "solid" } as const;
  return [frame(grid.own, paper), ...around, frame(grid.own, own)];
}

/** Legend entries of the frames: lines without points. */
function frameNames(grid: Grid, theme: Theme): Data[] {
  const { best, own } = frameLooks(theme);
  const equal = bestCells(grid).length;
  const named = [
    ...(equal === 0 ? [] : [{ uid: "grid-best", name: equal === 1 ? "best" : `best (${equal} equal)`, line: best }]),
    ...(grid.own === null ? [] : [{ uid: "grid-own", name: "the run's own", line: own }]),
  ];
  return named.map((each): Data => ({ type: "scatter", mode: "lines", x: [null], y: [null], ...each }));
}

/** The number of a cell; where the router was off, over the mark, or the mark alone where two lines have no room. */
function number(
  { x, y, mean, isOff }: Cell,
  { ink, hasRoom, theme }: { ink: string; hasRoom: boolean; theme: Theme },
): Partial<Annotation> {
  const written = mean.toFixed(2);
  const text = isOff ? [...(hasRoom ? [written] : []), OFF.mark].join("<br>") : written;
  return label(text, { x, y, xref: "x", yref: "y", font: { size: theme.pt(isOff ? 6 : 6.5), color: ink } });
}

function lettersOf({ values }: GridAxis): number {
  return values.reduce<number>((letters, value) => letters + String(value).length + 1, 0);
}

/** An axis of cells, with the name of every `every`-th. */
function cellAxis({ title, values }: GridAxis, theme: Theme, every: number) {
  const named = values.flatMap((value, place) => (place % every === 0 ? [{ value, place }] : []));
  return axis(title, theme, {
    tickmode: "array",
    tickvals: named.map(({ place }) => place),
    ticktext: named.map(({ value }) => String(value)),
    range: [-HALF, values.length - HALF],
  });
}
