import type { Annotation, Data, LayoutAxis } from "plotly.js-dist";
import type { Figure } from "../../figures/figure.js";
import { requireOneOrTwo } from "../../figures/oneOrTwo.js";
import { subtitleOf } from "../../figures/subtitle.js";
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
  PIXELS_PER_INCH,
  type Theme,
} from "../../figures/theme.js";
import type { RouterExploration } from "./exploreRouter.js";
import { runNames } from "./tables.js";

/** Inches of the legend for one run. */
const LEGEND_ROW = 0.17;

const styles = [
  { color: colors.blue, dash: "solid", symbol: "circle" },
  { color: colors.vermilion, dash: "dash", symbol: "square" },
] as const;

/**
 * The router's ROC over all values of its inference-only option: the share of rewrites and rephrases that an edit answers
 * over the share of unrelated prompts that one answers, with AUC in the legend. The mark is the run's own value.
 * @param explorations one or two
 */
export function routerRocCurve(explorations: readonly RouterExploration[], options: FigureOptions = {}): Figure {
  requireOneOrTwo(explorations);
  const theme = createTheme(options.medium);
  const runs = explorations.map(({ run }) => run);
  const names = runNames(runs);
  const share: Partial<LayoutAxis> = { range: [-0.01, 1.02], dtick: 0.2, tickformat: ".0%", ...gridLines(theme) };
  const legend = LEGEND_ROW * explorations.length;
  return {
    data: explorations.flatMap((exploration, i) => curveAndMark(exploration, { name: names[i] as string, i, theme })),
    layout: {
      ...baseLayout({
        ...options,
        heightInches: 2.35 + legend,
        subtitle: subtitleOf(runs),
        margins: { left: 44, right: 14, top: (0.06 + legend) * PIXELS_PER_INCH },
      }),
      xaxis: axis("Unrelated prompts to an edit", theme, share),
      yaxis: axis("Rewrites and rephrases to an edit", theme, share),
      shapes: [{ ...levelLine(0, [0, 1], { color: colors.muted, width: theme.px(0.7), dash: "dot" }), y1: 1 }],
      annotations: [ownLabel(explorations, theme)],
    },
    config: baseConfig,
  };
}

function curveAndMark(
  { roc, own, option: { key } }: RouterExploration,
  { name, i, theme }: { name: string; i: number; theme: Theme },
): Data[] {
  const { color, dash, symbol } = styles[i] as (typeof styles)[number];
  const { both } = roc.auc;
  const auc = both ? `AUC ${both.mean.toFixed(4)} [${both.low.toFixed(4)}, ${both.high.toFixed(4)}]` : "";
  return [
    {
      type: "scatter",
      mode: "lines",
      uid: `roc-${i}`,
      name: `${name}: ${auc}`,
      x: roc.points.map(({ outOfScope }) => outOfScope),
      y: roc.points.map(({ inScope }) => inScope),
      line: { color, width: theme.px(1.3), dash },
      text: roc.points.map(({ value }) => `${key} ${value.toPrecision(3)}`),
      hovertemplate: "%{text}: %{y:.3f} of edited, %{x:.3f} of unrelated",
    },
    {
      type: "scatter",
      mode: "markers",
      uid: `roc-own-${i}`,
      name: `${key} ${own.value}`,
      showlegend: false,
      x: [roc.own.outOfScope],
      y: [roc.own.inScope],
      marker: { color, symbol, size: theme.px(7), line: { color: colors.paper, width: theme.px(1) } },
      cliponaxis: false,
      hovertemplate: "%{y:.3f} of edited, %{x:.3f} of unrelated",
    },
  ];
}

/** Label of the marks, in the corner where no good router has its curve. */
function ownLabel(explorations: readonly RouterExploration[], theme: Theme): Partial<Annotation> {
  const values = [...new Set(explorations.map(({ own, option }) => `${option.key} ${own.value}`))];
  return label(`marks: ${values.join(" and ")}`, {
    xref: "x",
    x: 0.98,
    xanchor: "right",
    yref: "y",
    y: 0.04,
    yanchor: "bottom",
    font: theme.smallText,
  });
}
