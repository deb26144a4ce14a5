import type { Annotation, Data } from "plotly.js-dist";
import type { EditStep, EditTrace } from "../../edit/trace.js";
import type { Figure } from "../figure.js";
import {
  axis,
  baseConfig,
  baseLayout,
  colors,
  createTheme,
  type FigureOptions,
  gridLines,
  label,
  levelLine,
  spread,
  type Theme,
} from "../theme.js";
import { lastStep, stepAxis, stepRange, strokes } from "./lossCurve.js";

/** The lines that the distances of an edit are pushed across, in the unit of the distances. */
export interface RoutingLevels {
  /** Bound that the irrelevant prompt should stay under (wise: act_margin[0]). */
  alpha?: number;
  /** Bound that the edit prompt should rise above (wise: act_margin[1]). */
  beta?: number;
  /** With it, the router's threshold of this edit is drawn: its min_act times this. */
  actRatio?: number;
}

export interface RoutingDistancesOptions extends FigureOptions, RoutingLevels {}

/** Routing activation Delta of the edit prompt and of the irrelevant prompt over the steps of one edit. */
export function routingDistances(trace: EditTrace, options: RoutingDistancesOptions = {}): Figure {
  const last = lastStep(trace);
  const theme = createTheme(options.medium);
  const levels = levelsOf(trace, options);
  const highest = Math.max(...trace.steps.flatMap((s) => [s.inScope, s.outOfScope]), ...levels.map((l) => l.value));
  const top = highest * 1.06 || 1;
  const layout = baseLayout({ ...options, heightInches: 2, margins: { right: 74, top: 8 }, legend: false });
  const curves = [
    { name: "edit prompt", value: last.inScope, of: (s: EditStep) => s.inScope, color: colors.blue, dash: "solid" },
    {
      name: "irrelevant",
      value: last.outOfScope,
      of: (s: EditStep) => s.outOfScope,
      color: colors.vermilion,
      dash: "dash",
    },
  ] as const;
  return {
    data: curves.map(
      (curve): Data => ({
        type: "scatter",
        ...strokes(trace.steps.length, theme, { color: curve.color, dash: curve.dash, width: theme.px(1.7) }),
        uid: `distance-${curve.name}`,
        name: curve.name,
        x: trace.steps.map((s) => s.step),
        y: trace.steps.map(curve.of),
        hovertemplate: "step %{x}: %{y:.4g}",
      }),
    ),
    layout: {
      ...layout,
      xaxis: stepAxis(trace, theme),
      yaxis: axis("Routing activation Δ", theme, { ...gridLines(theme), nticks: 6, range: [0, top] }),
      shapes: levels.map(({ value, color, dash }) =>
        levelLine(value, stepRange(trace), { color, dash, width: theme.px(0.9) }),
      ),
      annotations: rightLabels([...curves, ...levels], { top, plotHeight: plotHeight(layout), theme }),
    },
    config: baseConfig,
  };
}

interface Level {
  name: string;
  value: number;
  color: string;
  dash: "solid" | "dot";
}

function levelsOf(trace: EditTrace, { alpha, beta, actRatio }: RoutingLevels): Level[] {
  const bound = (name: string, value: number): Level => ({
    name: `${name} = ${short(value)}`,
    value,
    color: colors.muted,
    dash: "dot",
  });
  const levels: Level[] = [];
  if (alpha !== undefined) levels.push(bound("α", alpha));
  if (beta !== undefined) levels.push(bound("β", beta));
  if (actRatio !== undefined) {
    const value = trace.minAct * actRatio;
    levels.push({ name: `threshold ${short(value)}`, value, color: colors.ink, dash: "solid" });
  }
  return levels;
}

/** Names at the right end of their lines, kept from lying over one another. */
function rightLabels(
  ends: readonly { name: string; value: number; color: string }[],
  frame: { top: number; plotHeight: number; theme: Theme },
): Partial<Annotation>[] {
  const { top, plotHeight, theme } = frame;
  const lineHeight = theme.pt(7.5) * 1.15;
  const heights = spread(
    ends.map((end) => (end.value / top) * plotHeight),
    lineHeight,
  );
  return ends.map((end, i) =>
    label(end.name, {
      xref: "paper",
      x: 1,
      xanchor: "left",
      xshift: theme.px(4),
      yref: "paper",
      y: (heights[i] as number) / plotHeight,
      yanchor: "middle",
      align: "left",
      font: { size: theme.pt(7.5), color: end.color },
    }),
  );
}

function plotHeight({ height = 0, margin }: ReturnType<typeof baseLayout>): number {
  return height - (margin?.t ?? 0) - (margin?.b ?? 0);
}

function short(value: number): string {
  return String(Number(value.toPrecision(3)));
}
