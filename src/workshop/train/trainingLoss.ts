import type { Data } from "plotly.js-dist";
import { RefusedInput } from "../../core/errors.js";
import { mean } from "../../core/stats.js";
import type { Figure } from "../../figures/figure.js";
import { strokes } from "../../figures/lossCurve.js";
import {
  axis,
  baseConfig,
  baseLayout,
  colors,
  createTheme,
  type FigureOptions,
  gridLines,
  type Theme,
} from "../../figures/theme.js";
import type { StepReport } from "./trainer.js";

/** Steps that a point of a line is the mean of: one batch says little about the next. */
const WINDOW = 20;

/** Length of the axis as a multiple of the last step, so that its number has room. */
const AIR = 1.03;

const parts = [
  { name: "all tokens", of: ({ loss }: StepReport) => loss, color: colors.blue, dash: "dash" },
  { name: "answers", of: ({ answerLoss }: StepReport) => answerLoss, color: colors.vermilion, dash: "solid" },
] as const;

/**
 * The losses of a training over its steps, in nats a token: each point is the mean of the 20 steps up to it, or of as many
 * as there are.
 * @throws {RefusedInput} for a training without steps
 */
export function trainingLoss(curve: readonly StepReport[], options: FigureOptions = {}): Figure {
  if (curve.length === 0) {
    throw new RefusedInput("a training without steps cannot be drawn", {
      where: "the loss curve",
      found: "0 steps",
      expected: "at least one step",
    });
  }
  const theme = createTheme(options.medium);
  return {
    data: parts.map((part) => line(curve, part, theme)),
    layout: {
      ...baseLayout({ ...options, heightInches: 2 }),
      xaxis: axis("Training step", theme, { range: [0, AIR * (curve.at(-1) as StepReport).step] }),
      yaxis: axis("Loss (nats a token)", theme, { ...gridLines(theme), rangemode: "tozero", nticks: 6 }),
    },
    config: baseConfig,
  };
}

function line(curve: readonly StepReport[], part: (typeof parts)[number], theme: Theme): Data {
  return {
    type: "scatter",
    ...strokes(curve.length, theme, { color: part.color, dash: part.dash, width: theme.px(1.5) }),
    uid: `training-loss-${part.name}`,
    name: part.name,
    x: curve.map(({ step }) => step),
    y: curve.map((_, i) => mean(curve.slice(Math.max(0, i + 1 - WINDOW), i + 1).map(part.of))),
    hovertemplate: "step %{x}: %{y:.3f}",
  };
}
