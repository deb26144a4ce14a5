import type { Annotation, Data } from "plotly.js-dist";
import { RefusedInput } from "../core/errors.js";
import type { Guide } from "../edit/contract.js";
import type { Options } from "../edit/option-table.js";
import { methodNamed } from "../edit/registry.js";
import type { EditTrace } from "../edit/trace.js";
import type { Figure } from "./figure.js";
import {
  editSubtitle,
  type LossCurveOptions,
  lastStep,
  lookOfLine,
  namesIn,
  stepAxis,
  stepRange,
  strokes,
} from "./lossCurve.js";
import { endName } from "./marks.js";
import {
  axis,
  baseConfig,
  baseLayout,
  colors,
  createTheme,
  gridLines,
  levelLine,
  spread,
  type Theme,
} from "./theme.js";

/** `method` has its words for the numbers, too. */
export interface RoutingDistancesOptions extends LossCurveOptions {
  /** Its options: with them, the levels that the numbers are held against are drawn. */
  options?: Options;
}

/**
 * The numbers that the steps of one edit measured beside the loss, such as routing activations, one line each.
 * @throws {RefusedInput} for an edit that measured none
 */
export function routingDistances(trace: EditTrace, options: RoutingDistancesOptions = {}): Figure {
  const last = lastStep(trace);
  const theme = createTheme(options.medium);
  const { measured } = options.method === undefined ? {} : methodNamed(options.method);
  const curves = measuredIn(trace).map((number, i) => ({
    name: measured?.names[number] ?? number,
    value: last.numbers[number] ?? 0,
    y: trace.steps.map(({ numbers }) => numbers[number] ?? null),
    ...lookOfLine(i),
  }));
  const levels = (options.options && measured ? measured.guides(options.options, trace.numbers) : []).map(levelOf);
  const values = [...trace.steps.flatMap(({ numbers }) => Object.values(numbers)), ...levels.map(({ value }) => value)];
  const [bottom, top] = [Math.min(0, ...values) * 1.06, Math.max(0, ...values) * 1.06 || 1];
  const subtitle = editSubtitle(trace, options);
  const layout = baseLayout({ ...options, heightInches: 2, subtitle, margins: { right: 74, top: 8 }, legend: false });
  return {
    data: curves.map(
      ({ name, y, color, dash }): Data => ({
        type: "scatter",
        ...strokes(trace.steps.length, theme, { color, dash, width: theme.px(1.7) }),
        uid: `distance-${name}`,
        name,
        x: trace.steps.map((s) => s.step),
        y,
        hovertemplate: "step %{x}: %{y:.4g}",
      }),
    ),
    layout: {
      ...layout,
      xaxis: stepAxis(trace, theme),
      yaxis: axis(measured?.title ?? "Measured", theme, { ...gridLines(theme), nticks: 6, range: [bottom, top] }),
      shapes: levels.map(({ value, color, dash }) =>
        levelLine(value, stepRange(trace), { color, dash, width: theme.px(0.9) }),
      ),
      annotations: rightLabels([...curves, ...levels], { bottom, top, plotHeight: plotHeight(layout), theme }),
    },
    config: baseConfig,
  };
}

function measuredIn(trace: EditTrace): string[] {
  const names = namesIn(trace, "numbers");
  if (names.length > 0) return names;
  throw new RefusedInput("an edit that measured nothing beside its loss has no such figure", {
    where: `trace of record ${trace.record}`,
    found: "no numbers at its steps",
    expected: "an edit by a method whose steps measure some; lossCurve draws any edit",
  });
}

function levelOf({ name, value, kind }: Guide) {
  return kind === "threshold"
    ? { name: `${name} ${short(value)}`, value, color: colors.ink, dash: "solid" as const }
    : { name: `${name} = ${short(value)}`, value, color: colors.muted, dash: "dot" as const };
}

/** Names at the right end of their lines, kept from lying over one another. */
function rightLabels(
  ends: readonly { name: string; value: number; color: string }[],
  frame: { bottom: number; top: number; plotHeight: number; theme: Theme },
): Partial<Annotation>[] {
  const { bottom, top, plotHeight, theme } = frame;
  const lineHeight = theme.pt(7.5) * 1.15;
  const heights = spread(
    ends.map((end) => ((end.value - bottom) / (top - bottom)) * plotHeight),
    lineHeight,
  );
  return ends.map((end, i) =>
    endName(end.name, {
      yref: "paper",
      y: (heights[i] as number) / plotHeight,
      align: "left",
      color: end.color,
      theme,
    }),
  );
}

function plotHeight({ height = 0, margin }: ReturnType<typeof baseLayout>): number {
  return height - (margin?.t ?? 0) - (margin?.b ?? 0);
}

function short(value: number): string {
  return String(Number(value.toPrecision(3)));
}
