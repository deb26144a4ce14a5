import type { Data, LayoutAxis, ScatterData } from "plotly.js-dist";
import { RefusedInput } from "../../core/errors.js";
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
  type Theme,
  wholeTicks,
} from "../theme.js";

/** The losses of one edit over its steps, in nats for the fine-tuning part, with a word where it stopped early. */
export function lossCurve(trace: EditTrace, options: FigureOptions = {}): Figure {
  const last = lastStep(trace);
  const theme = createTheme(options.medium);
  const parts = [
    { name: "fine-tuning", of: (s: EditStep) => s.ft, color: colors.blue, dash: "solid" },
    { name: "routing", of: (s: EditStep) => s.act, color: colors.vermilion, dash: "dash" },
    { name: "replay", of: (s: EditStep) => s.replay, color: colors.green, dash: "dot" },
  ] as const;
  const shown = parts.filter((part) => part.name !== "replay" || trace.steps.some((s) => s.replay !== 0));
  const lines = shown.map((part) => line(trace, part, theme));
  const total = { name: "total", of: (s: EditStep) => s.loss, color: colors.ink, dash: "solid" } as const;
  return {
    data: [line(trace, total, theme, { width: 1, opacity: 0.55 }), ...lines],
    layout: {
      ...baseLayout({ ...options, heightInches: 2 }),
      xaxis: stepAxis(trace, theme),
      yaxis: axis("Loss", theme, { ...gridLines(theme), rangemode: "tozero", nticks: 6 }),
      annotations: trace.stoppedEarly
        ? [
            label(`stopped early, step ${last.step}`, {
              x: last.step,
              xref: "x",
              xanchor: "right",
              y: 0.06,
              yref: "paper",
              yanchor: "bottom",
              yshift: theme.px(4),
              font: theme.smallText,
            }),
          ]
        : [],
    },
    config: baseConfig,
  };
}

/** @throws {RefusedInput} for a trace without steps: there is nothing to draw. */
export function lastStep(trace: EditTrace): EditStep {
  const last = trace.steps.at(-1);
  if (last === undefined) {
    throw new RefusedInput("an edit without steps cannot be drawn", {
      where: `trace of record ${trace.record}`,
      found: "0 steps",
      expected: "at least one step",
    });
  }
  return last;
}

/** First and last step with a little air, so that the end points are not cut. */
export function stepRange(trace: EditTrace): [number, number] {
  const first = (trace.steps[0] as EditStep).step;
  const last = lastStep(trace).step;
  const air = Math.max((last - first) * 0.02, 0.3);
  return [first - air, last + air];
}

/** The steps as an axis with ticks on whole numbers. */
export function stepAxis(trace: EditTrace, theme: Theme): Partial<LayoutAxis> {
  const range = stepRange(trace);
  return axis("Step", theme, { dtick: wholeTicks(range[1] - range[0]), tick0: 0, range });
}

interface Part {
  name: string;
  of: (step: EditStep) => number;
  color: string;
  dash: "solid" | "dash" | "dot";
}

interface Stroke {
  color: string;
  dash: "solid" | "dash" | "dot";
  width: number;
}

function line(trace: EditTrace, part: Part, theme: Theme, look = { width: 1.7, opacity: 1 }): Data {
  return {
    type: "scatter",
    ...strokes(trace.steps.length, theme, { color: part.color, dash: part.dash, width: theme.px(look.width) }),
    uid: `loss-${part.name}`,
    name: part.name,
    x: trace.steps.map((s) => s.step),
    y: trace.steps.map(part.of),
    opacity: look.opacity,
    hovertemplate: "step %{x}: %{y:.4g}",
  };
}

/** A line over so many steps; a single step has none, so it gets a mark. */
export function strokes(steps: number, theme: Theme, stroke: Stroke): Partial<ScatterData> {
  if (steps === 1) return { mode: "markers", marker: { color: stroke.color, size: theme.px(5) } };
  return { mode: "lines", line: stroke };
}
