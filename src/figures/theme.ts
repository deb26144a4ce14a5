import type { Annotation, Config, Font, Layout, LayoutAxis, Shape } from "plotly.js-dist";
import { TEACHER_FORCED } from "../eval/metrics.js";
import type { ScoredRun } from "../run/types.js";
import { isShare, metricOf } from "../run/under-metric.js";

type ShapeLine = NonNullable<Shape["line"]>;

/** CSS pixels per inch: a layout of 312 px is 3.25 in wide in print. */
export const PIXELS_PER_INCH = 96;
/** Width of one column of a two-column paper. */
export const COLUMN_INCHES = 3.25;
/** Width of a figure that spans both columns. */
export const PAGE_INCHES = 6.75;
/** The one typeface of all figures, in the faces that @fontsource/source-sans-3 ships. */
export const FONT_NAME = "Source Sans 3";

/** Medium on which a figure is seen: every length is multiplied by its unit. */
export type Medium = "print" | "screen";
const units = { print: 1, screen: 1.8 } satisfies Record<Medium, number>; // screen: 562 px, a notebook's output area

/** Options that every figure function takes beside its data. */
export interface FigureOptions {
  /** Default "print": 3.25 in wide, text of 7 to 8 pt. */
  medium?: Medium;
  /** A heading inside the picture. None by default: papers put it in the caption. */
  title?: string;
}

/** Colours of Okabe and Ito (2008), told apart with any common colour blindness, and greys for what is not data. */
export const colors = {
  blue: "#0072B2",
  vermilion: "#D55E00",
  green: "#009E73",
  purple: "#CC79A7",
  ink: "#1F2328",
  muted: "#59636E",
  grid: "#E6E8EB",
  paper: "#FFFFFF",
} as const;

/** The same colour, mark and pale tint for the same metric in every figure; the mark tells them apart without colour. */
export const metricStyles = {
  rewrite: { color: colors.blue, tint: "#B3D4E8", symbol: "circle" },
  rephrase: { color: colors.vermilion, tint: "#F3CDB0", symbol: "square" },
  locality: { color: colors.green, tint: "#B0E0D3", symbol: "diamond" },
  average: { color: colors.ink, tint: "#C9CDD2", symbol: "triangle-up" },
} as const;

/** No mode bar advertising and no upload button, whoever shows the figure. */
export const baseConfig: Partial<Config> = { displaylogo: false, showSendToCloud: false };

/** Lengths of one medium, in pixels. */
export interface Theme {
  /** Pixels of the medium for a length in CSS pixels at print size. */
  px(length: number): number;
  /** Pixels of the medium for a type size in points at print size. */
  pt(points: number): number;
  text: Font;
  smallText: Font;
}

export function createTheme(medium: Medium = "print"): Theme {
  const px = (length: number) => Math.round(length * units[medium] * 100) / 100;
  const pt = (points: number) => px((points * PIXELS_PER_INCH) / 72);
  return { px, pt, text: { size: pt(8), color: colors.ink }, smallText: { size: pt(7), color: colors.muted } };
}

export interface LayoutOptions extends FigureOptions {
  heightInches: number;
  /** Default: one column. */
  widthInches?: number;
  /** Parts of a small grey text at the top, such as those of `subtitleOf`; lines break between them. */
  subtitle?: readonly string[];
  /** Room around the plot area, in CSS pixels at print size. */
  margins?: { left?: number; right?: number; top?: number; bottom?: number };
  /** Default true: a row of names above the plot area. */
  legend?: boolean;
}

/** Letters of a line of the subtitle: so many small ones fit into the width. */
const SUBTITLE_LETTERS = 72;
/** Heights in CSS pixels at print size: of the title, of a line under it, and of a line where there is none. */
const HEADING = { title: 18, under: 16, line: 12.5 };
/** Distances of the first baseline from the top, of the title and of a line where there is none. */
const BASELINE = { title: 13.5, line: 11.5 };

/** Size, fonts, margins and legend that all figures share; a figure adds its axes. */
export function baseLayout(options: LayoutOptions): Partial<Layout> {
  const { heightInches, widthInches = COLUMN_INCHES, margins = {}, title, subtitle = [], legend = true } = options;
  const theme = createTheme(options.medium);
  const { px, pt, text } = theme;
  const lines = brokenInto((SUBTITLE_LETTERS * widthInches) / COLUMN_INCHES, subtitle);
  const heading = title === undefined ? HEADING.line * lines.length : HEADING.title + HEADING.under * lines.length;
  const full = heightInches * PIXELS_PER_INCH + heading;
  return {
    width: px(widthInches * PIXELS_PER_INCH),
    height: px(full),
    font: { ...text, family: `"${FONT_NAME}", Helvetica, Arial, sans-serif` },
    paper_bgcolor: colors.paper,
    plot_bgcolor: colors.paper,
    margin: {
      l: px(margins.left ?? 36),
      r: px(margins.right ?? 8),
      t: px((margins.top ?? 20) + heading),
      b: px(margins.bottom ?? 32),
      pad: 0,
    },
    ...(heading === 0 ? {} : { title: headingOf(title, lines, { full, theme }) }),
    showlegend: legend,
    ...(legend ? { legend: legendAt(1 - heading / full, pt(7.5)) } : {}),
  };
}

/**
 * An axis, without grid lines unless they are asked for. Its title is an object: plotly drops one given as a string
 * without a word.
 */
export function axis(title: string, theme: Theme, extra: Partial<LayoutAxis> = {}): Partial<LayoutAxis> {
  const { px, text, smallText } = theme;
  return {
    title: { text: title, font: text, standoff: px(4) },
    tickfont: smallText,
    ticks: "outside",
    ticklen: px(3),
    tickcolor: colors.muted,
    tickwidth: px(0.7),
    showline: true,
    linecolor: colors.muted,
    linewidth: px(0.7),
    showgrid: false,
    zeroline: false,
    ...extra,
  };
}

/** The axis of the scores of a run: shares from 0 to 1, or the numbers of its metric. */
export function scoreAxis(run: ScoredRun, theme: Theme, extra: Partial<LayoutAxis> = {}): Partial<LayoutAxis> {
  const metric = metricOf(run);
  const title = metric === TEACHER_FORCED ? "Score" : metric.title.charAt(0).toUpperCase() + metric.title.slice(1);
  const shares: Partial<LayoutAxis> = { range: [-0.02, 1.04], dtick: 0.2, tickformat: ".1f" };
  const scale: Partial<LayoutAxis> = isShare(metric) ? shares : { nticks: 6 };
  return axis(title, theme, { ...gridLines(theme), ...scale, ...extra });
}

/** Pale lines at the ticks of an axis. */
export function gridLines(theme: Theme): Partial<LayoutAxis> {
  return { showgrid: true, gridcolor: colors.grid, gridwidth: theme.px(0.6) };
}

/** A line at a height of the y axis, under the data, over a range of the x axis. */
export function levelLine(y: number, [from, to]: readonly [number, number], line: Partial<ShapeLine>): Partial<Shape> {
  return { type: "line", xref: "x", x0: from, x1: to, yref: "y", y0: y, y1: y, line, layer: "between" };
}

/** Distance between ticks that stand on whole numbers: 1, 2 or 5 times a power of ten, for five to ten ticks or so. */
export function wholeTicks(span: number): number {
  const wanted = Math.max(span / 8, 1);
  const power = 10 ** Math.floor(Math.log10(wanted));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= wanted) as number;
}

/** A word without an arrow. */
export function label(text: string, place: Partial<Annotation>): Partial<Annotation> {
  return { text, showarrow: false, borderpad: 0, ...place };
}

/**
 * Moves positions on one axis apart, by as little as that needs, until neighbours are `gap` apart. Order is kept.
 * Labels of lines that lie close together stay readable this way.
 */
export function spread(positions: readonly number[], gap: number): number[] {
  const order = positions.map((_, i) => i).sort((a, b) => at(positions, a) - at(positions, b));
  const groups: { sum: number; size: number }[] = [];
  for (const [rank, i] of order.entries()) {
    // In coordinates less rank * gap, "at least a gap apart" is "in order": pool neighbours that are not (isotonic fit).
    let group = { sum: at(positions, i) - rank * gap, size: 1 };
    for (let last = groups.at(-1); last && last.sum / last.size > group.sum / group.size; last = groups.at(-1)) {
      group = { sum: group.sum + last.sum, size: group.size + last.size };
      groups.pop();
    }
    groups.push(group);
  }
  const placed = groups.flatMap(({ sum, size }) => Array.from({ length: size }, () => sum / size));
  const moved = [...positions];
  order.forEach((i, rank) => {
    moved[i] = at(placed, rank) + rank * gap;
  });
  return moved;
}

function at(values: readonly number[], index: number): number {
  return values[index] as number;
}

/** Parts with dots between them, in lines of at most so many letters; a longer part has a line of its own. */
function brokenInto(letters: number, parts: readonly string[]): string[] {
  const lines: string[] = [];
  for (const part of parts) {
    const longer = `${lines.at(-1)} · ${part}`;
    if (lines.length > 0 && longer.length <= letters) lines[lines.length - 1] = longer;
    else lines.push(part);
  }
  return lines;
}

/** The title and the lines under it, as one text in the upper left corner of a picture of a height at print size. */
function headingOf(
  title: string | undefined,
  lines: readonly string[],
  { full, theme: { px, pt, smallText } }: { full: number; theme: Theme },
) {
  const look = `font-size: ${smallText.size}px; font-weight: 400; color: ${smallText.color}`;
  const under = lines.map((line) => `<span style="${look}">${line}</span>`);
  return {
    ...(title === undefined
      ? { text: lines.join("<br>"), font: smallText }
      : { text: [title, ...under].join("<br>"), font: { size: pt(9), weight: 600, color: colors.ink } }),
    x: 0,
    xref: "container",
    xanchor: "left",
    // By the first baseline: from the top plotly places a text of one line only.
    y: 1 - (title === undefined ? BASELINE.line : BASELINE.title) / full,
    yref: "container",
    yanchor: "bottom",
    pad: { l: px(5) },
  } satisfies Partial<Layout["title"]>;
}

/** A row of names hung from a height of the whole picture. */
function legendAt(y: number, size: number): Partial<Layout["legend"]> {
  return { orientation: "h", x: 0, xanchor: "left", yref: "container", y, yanchor: "top", font: { size } };
}
