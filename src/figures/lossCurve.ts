import type { Data, LayoutAxis, ScatterData } from "plotly.js-dist";
import { RefusedInput } from "../core/errors.js";
import { methodNamed } from "../edit/registry.js";
import type { EditStep, EditTrace } from "../edit/trace.js";
import type { Figure } from "./figure.js";
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
} from "./theme.js";

export interface LossCurveOptions extends FigureOptions {
  /** Name of the method that made the edit, which has its words for the terms of the loss. Default: their own names. */
  method?: string;
  /** Name of the model that was edited, for the subtitle. */
  model?: string;
}

/** The loss of one edit over its steps and each of its terms, where there are several, with a word where it stopped early. */
export function lossCurve(trace: EditTrace, options: LossCurveOptions = {}): Figure {
  const last = lastStep(trace);
  const theme = createTheme(options.medium);
  const { terms = {} } = options.method === undefined ? {} : methodNamed(options.method);
  const lines = namesIn(trace, "terms").map((term, i) => {
    const part = { name: terms[term] ?? term, of: (s: EditStep) => s.terms[term] ?? 0, ...lookOfLine(i) };
    return line(trace, part, theme);
  });
  const total = { name: "total", of: (s: EditStep) => s.loss, color: colors.ink, dash: "solid" } as const;
  return {
    // One term is the whole loss.
    data: [...(lines.length === 1 ? [] : [line(trace, total, theme, { width: 1, opacity: 0.55 })]), ...lines],
    layout: {
      ...baseLayout({ ...options, heightInches: 2, subtitle: editSubtitle(trace, options) }),
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

/** Parts of the subtitle of one edit: its method, its steps, and the model where it is named. */
export function editSubtitle(
  { steps }: EditTrace,
  { method, model }: Pick<LossCurveOptions, "method" | "model">,
): string[] {
  const count = `${steps.length} ${steps.length === 1 ? "step" : "steps"}`;
  return [...(method === undefined ? [] : [methodNamed(method).title]), "one edit", count, ...(model ? [model] : [])];
}

/** Names of what the steps of an edit tell, in order. */
export function namesIn({ steps }: EditTrace, field: "terms" | "numbers"): string[] {
  return [...new Set(steps.flatMap((step) => Object.keys(step[field])))];
}

const looks = [
  { color: colors.blue, dash: "solid" },
  { color: colors.vermilion, dash: "dash" },
  { color: colors.green, dash: "dot" },
  { color: colors.purple, dash: "dashdot" },
] as const;

/** Colour and dash of one line among a few. */
export function lookOfLine(index: number): (typeof looks)[number] {
  return looks[index % looks.length] as (typeof looks)[number];
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
  dash: (typeof looks)[number]["dash"];
}

interface Stroke {
  color: string;
  dash: (typeof looks)[number]["dash"];
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
