import type { Annotation, Data, LayoutAxis, Shape, XAxisName, YAxisName } from "plotly.js-dist";
import { RefusedInput } from "../../core/errors.js";
import type { Figure } from "../../figures/figure.js";
import { endName } from "../../figures/marks.js";
import { requireOneOrTwo } from "../../figures/oneOrTwo.js";
import { stacked } from "../../figures/panels.js";
import { subtitleOf } from "../../figures/subtitle.js";
import {
  axis,
  baseConfig,
  baseLayout,
  colors,
  createTheme,
  type FigureOptions,
  label,
  metricStyles,
  scoreAxis,
  spread,
  type Theme,
} from "../../figures/theme.js";
import type { RouterExploration } from "./exploreRouter.js";
import { type CurveMeasure, curveMeasures } from "./routerScores.js";
import { runNames } from "./tables.js";

/** Heights in inches; the band names the marked values in rows. */
const STACK = { band: 0.38, panel: 1.45, foot: 0.36 };
const ROW = 0.13;
/** The axis of scores, and how far apart the names of lines stand on it. */
const SCORES: [number, number] = [-0.02, 1.04];
const NAME_GAP = 0.09;

/**
 * Rewrite, rephrase, locality and Avg over the router's inference-only option with bands of 95% bootstrap intervals over
 * records, one panel per run. A full line marks the run's own value, a broken one the middle of the best by Avg, and the grey
 * ground where resampled sets of records have theirs.
 * @param explorations one, or two of the same option, which share its axis
 * @throws {RefusedInput} for another number of them, and for two of unlike options
 */
export function routerCurves(explorations: readonly RouterExploration[], options: FigureOptions = {}): Figure {
  requireOneOrTwo(explorations);
  requireOneOption(explorations);
  const theme = createTheme(options.medium);
  const runs = explorations.map(({ run }) => run);
  const names = runNames(runs);
  const { plot, places, heightInches, margins } = stacked(explorations.length, STACK);
  const panels = explorations.map(
    (exploration, i): Panel => ({
      exploration,
      name: names[i] as string,
      ...(places[i] as (typeof places)[number]),
      row: ROW / plot,
      theme,
    }),
  );
  const subtitle = subtitleOf(runs);
  return {
    data: panels.flatMap((panel) => [
      ...curveMeasures.flatMap((name) => band(name, panel)), // under all lines
      ...curveMeasures.map((name) => line(name, panel)),
    ]),
    layout: {
      ...baseLayout({ ...options, heightInches, subtitle, margins: { ...margins, right: 44 }, legend: false }),
      ...Object.fromEntries(panels.flatMap((panel, i) => axesOf(panel, i === panels.length - 1))),
      shapes: panels.flatMap(marks),
      annotations: panels.flatMap((panel) => [...labels(panel), ...lineNames(panel)]),
    },
    config: baseConfig,
  };
}

function requireOneOption(explorations: readonly RouterExploration[]): void {
  const keys = [...new Set(explorations.map(({ option }) => option.key))];
  if (keys.length === 1) return;
  throw new RefusedInput("two runs of unlike options share no axis", {
    where: "explorations",
    found: keys.join(" and "),
    expected: "one option",
    hint: "a figure for each",
  });
}

interface Panel {
  exploration: RouterExploration;
  name: string;
  /** Number of the panel's axes in plotly's names: "", "2". */
  suffix: string;
  /** Bottom and top of the panel, as shares of the plot area. */
  ends: readonly [number, number];
  /** Height of a row of text above it, in the same measure. */
  row: number;
  theme: Theme;
}

/** Settings that the lines of a panel share. */
function along({ exploration, suffix }: Panel) {
  const x = exploration.points.map(({ value }) => value);
  const axes = { xaxis: `x${suffix}` as XAxisName, yaxis: `y${suffix}` as YAxisName };
  return { type: "scatter", mode: "lines", x, ...axes } as const;
}

function band(name: CurveMeasure, panel: Panel): Data[] {
  const { color, tint } = metricStyles[name];
  const edge = { ...along(panel), line: { width: 0, color }, hoverinfo: "skip" } as const;
  const ends = (end: "low" | "high") => panel.exploration.points.map((point) => point[name][end]);
  const uid = `router-${name}${panel.suffix}`;
  return [
    { ...edge, uid: `${uid}-low`, y: ends("low") },
    { ...edge, uid: `${uid}-high`, y: ends("high"), fill: "tonexty", fillcolor: `${tint}99` },
  ];
}

function line(name: CurveMeasure, panel: Panel): Data {
  const shown = name === "average" ? "Avg" : name;
  return {
    ...along(panel),
    uid: `router-${name}${panel.suffix}`,
    name: shown,
    y: panel.exploration.points.map((point) => point[name].mean),
    line: {
      color: metricStyles[name].color,
      width: panel.theme.px(name === "average" ? 1.5 : 1.1),
      dash: name === "average" ? "dot" : "solid",
    },
    hovertemplate: `${panel.exploration.option.key} %{x}: ${shown} %{y:.3f}`,
  };
}

function axesOf({ exploration, suffix, ends, theme }: Panel, isLowest: boolean): [string, Partial<LayoutAxis>][] {
  const { points } = exploration;
  const range: [number, number] = [points[0]?.value ?? 0, points.at(-1)?.value ?? 0];
  const x = axis(isLowest ? exploration.option.key : "", theme, {
    range,
    anchor: `y${suffix}` as YAxisName,
    ...(isLowest ? {} : { showticklabels: false, tickfont: undefined }),
  });
  const y = scoreAxis(exploration.run, theme, { domain: [...ends], range: SCORES, anchor: `x${suffix}` as XAxisName });
  return [
    [`xaxis${suffix}`, x],
    [`yaxis${suffix}`, y],
  ];
}

function marks({ exploration: { own, best }, suffix, ends, row, theme }: Panel): Partial<Shape>[] {
  const place = { xref: `x${suffix}` as XAxisName, yref: "paper", y0: ends[0] } as const;
  const upright = (x: number, y1: number, dash: "solid" | "dash"): Partial<Shape> => {
    return { ...place, type: "line", x0: x, x1: x, y1, line: { color: colors.ink, width: theme.px(0.9), dash } };
  };
  const ground = { ...place, type: "rect", x0: best.low, x1: best.high, y1: ends[1], layer: "below" } as const;
  return [
    { ...ground, fillcolor: colors.grid, line: { width: 0 } },
    upright(own.value, ends[1] + row * 1.8, "solid"), // up to its words, in the row above those of the best
    upright(best.value, ends[1] + row * 0.8, "dash"),
  ];
}

/** The name of the run, and the marked values beside their lines, in two rows: they may stand close together. */
function labels({ exploration, name, suffix, ends, row, theme }: Panel): Partial<Annotation>[] {
  const { own, best, points } = exploration;
  const middle = ((points[0]?.value ?? 0) + (points.at(-1)?.value ?? 0)) / 2;
  const above = (rows: number) => ({ yref: "paper", y: ends[1] + rows * row, yanchor: "bottom" }) as const;
  const beside = (x: number, text: string, rows: number) => {
    const side =
      x > middle
        ? ({ xanchor: "right", xshift: -theme.px(2) } as const)
        : ({ xanchor: "left", xshift: theme.px(2) } as const);
    return label(text, {
      ...above(rows),
      ...side,
      xref: `x${suffix}` as XAxisName,
      x,
      font: theme.smallText,
      bgcolor: colors.paper,
    });
  };
  const stretch = best.from === best.to ? `${best.value}` : `${best.from} to ${best.to}`;
  const heading = own.value > middle ? ({ x: 0, xanchor: "left" } as const) : ({ x: 1, xanchor: "right" } as const);
  return [
    label(name, { ...above(1), ...heading, xref: "paper", font: { ...theme.text, size: theme.pt(7.5) } }),
    beside(own.value, `run's own ${own.value}`, 1),
    beside(best.value, `best ${stretch}`, 0),
  ];
}

/** Names of the lines at their ends, apart where the lines are not. */
function lineNames({ exploration, suffix, theme }: Panel): Partial<Annotation>[] {
  const last = exploration.points.at(-1);
  const places = spread(
    curveMeasures.map((name) => last?.[name].mean ?? 0),
    NAME_GAP,
  );
  return curveMeasures.map((name, i) =>
    endName(name === "average" ? "Avg" : name, {
      yref: `y${suffix}` as YAxisName,
      y: places[i] as number,
      color: metricStyles[name].color,
      theme,
    }),
  );
}
