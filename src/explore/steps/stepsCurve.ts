import type { Annotation, Data, Layout } from "plotly.js-dist";
import type { Figure } from "../../figures/figure.js";
import { scoreLine } from "../../figures/marks.js";
import { subtitleOf } from "../../figures/subtitle.js";
import {
  axis,
  baseConfig,
  baseLayout,
  colors,
  createTheme,
  type FigureOptions,
  label,
  scoreAxis,
  type Theme,
} from "../../figures/theme.js";
import type { RunResult } from "../../run/types.js";
import { type Row, summaryRows } from "../../tables/tables.js";
import { bySteps, shareStopped, stepsField, stepsKey, stepsOf } from "./tables.js";

const names = ["rewrite", "rephrase", "locality", "average"] as const;
/** Parts of the plot area: the curves, and under them the share of edits that stopped early. */
const CURVES = [0.3, 1] as const;
const STOPPED = [0, 0.19] as const;

/**
 * Rewrite, rephrase, locality and Avg over the step limit, with 95% bootstrap intervals over records; under them the share
 * of edits whose loss had settled by then. The axis is logarithmic: the first steps do most.
 * @param runs that differ in the step limit alone, e.g. of `exploreSteps`
 * @throws {RefusedInput} as `bySteps`
 */
export function stepsCurve(runs: readonly RunResult[], options: FigureOptions = {}): Figure {
  const ordered = bySteps(runs);
  const theme = createTheme(options.medium);
  const rows = summaryRows(ordered, { allow: stepsField(ordered) });
  const steps = ordered.map(stepsOf);
  const key = stepsKey(ordered[0] as RunResult);
  return {
    data: [...names.map((name) => curve(name, { rows, steps, key, theme })), stopped(ordered, theme)],
    layout: {
      ...baseLayout({ ...options, heightInches: 2.6, subtitle: subtitleOf(ordered) }),
      ...axes(ordered[0] as RunResult, { steps, key, theme }),
      annotations: [stoppedLabel(theme)],
    },
    config: baseConfig,
  };
}

interface Curve {
  rows: readonly Row[];
  steps: readonly number[];
  /** The option that limits them. */
  key: string;
  theme: Theme;
}

function curve(name: (typeof names)[number], { rows, steps, key, theme }: Curve): Data {
  const isAverage = name === "average";
  return scoreLine(
    name,
    {
      uid: `steps-${name}`,
      x: steps,
      rows,
      text: steps.map((limit) => `${key} = ${limit}`),
      sizes: { line: isAverage ? 1.5 : 1.1, mark: 4.5, interval: { thickness: 0.8, width: 1.5 } },
      dash: isAverage ? "dot" : "solid",
    },
    theme,
  );
}

function stopped(runs: readonly RunResult[], theme: Theme): Data {
  return {
    type: "scatter",
    mode: "lines+markers",
    uid: "steps-stopped",
    name: "stopped early",
    showlegend: false,
    x: runs.map(stepsOf),
    y: runs.map(shareStopped),
    yaxis: "y2",
    fill: "tozeroy",
    fillcolor: colors.grid,
    line: { color: colors.muted, width: theme.px(1) },
    marker: { color: colors.muted, size: theme.px(3) },
    cliponaxis: false,
    text: runs.map((run) => `${stepsKey(run)} = ${stepsOf(run)}`),
    hovertemplate: "%{text}: %{y:.0%} of the edits stopped early",
  };
}

function stoppedLabel(theme: Theme): Partial<Annotation> {
  return label("edits that stopped early", {
    xref: "paper",
    x: 0,
    xanchor: "left",
    yref: "paper",
    y: STOPPED[1],
    yanchor: "bottom",
    xshift: theme.px(3),
    font: theme.smallText,
  });
}

function axes(
  run: RunResult,
  { steps, key, theme }: Pick<Curve, "steps" | "key" | "theme">,
): Pick<Partial<Layout>, "xaxis" | "yaxis" | "yaxis2"> {
  const ends = [Math.log10(Math.min(...steps)), Math.log10(Math.max(...steps))] as const;
  const air = Math.max(0.04 * (ends[1] - ends[0]), 0.04);
  return {
    xaxis: axis(`Steps per edit ${key}`, theme, {
      type: "log",
      range: [ends[0] - air, ends[1] + air],
      tickmode: "array",
      tickvals: [...steps],
      ticktext: steps.map(String),
      anchor: "y2",
    }),
    yaxis: scoreAxis(run, theme, { domain: [...CURVES] }),
    yaxis2: axis("", theme, {
      domain: [...STOPPED],
      range: [0, 1.02],
      tickmode: "array",
      tickvals: [0, 1],
      ticktext: ["0%", "100%"],
      anchor: "x",
    }),
  };
}
