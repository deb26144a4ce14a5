import type { Annotation, Data, LayoutAxis, Shape, YAxisName } from "plotly.js-dist";
import { RefusedInput } from "../../core/errors.js";
import type { EditMethod } from "../../edit/contract.js";
import type { Options } from "../../edit/option-table.js";
import { MAIN } from "../../edit/overlay.js";
import { methodNamed } from "../../edit/registry.js";
import type { Figure } from "../../figures/figure.js";
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
  type Theme,
} from "../../figures/theme.js";
import type { ScoredProbe, ScoredRun } from "../../run/types.js";
import { probesOf } from "../../tables/values.js";
import { inferenceOf, type RunInference, requireRouter } from "./router.js";

const kinds = ["rewrite", "rephrase", "locality"] as const;
type Kind = (typeof kinds)[number];

/** Bins per unit of the axis, or nearly so: a whole number below the threshold, so that no bin holds both sides of it. */
const BINS = 12;
/** Furthest end of the axis, in units. Values beyond share the last bin: one outlier must not flatten the rest. */
const LAST_EDGE = 3;
/** Heights in inches: of the band above a panel, which holds its name, and of what stands below the last one. */
const STACK = { band: 0.2, panel: 0.46, foot: 0.33 };

export interface RoutingHistogramOptions extends FigureOptions {
  /** Margins, or values of the router's inference-only option at which probes turn. Default "margin". */
  unit?: "margin" | "option";
}

/**
 * Histogram of margins, one panel per kind of probe: how near each probe is to being answered by an edit. Below 1 the
 * untouched model answers (pale), from 1 on an edit (full colour). Or of the values of the router's option at which
 * probes turn, on either side of the run's own. Of several variants the one nearest to answering counts.
 * @param method the run's
 * @throws {RefusedInput} for a method whose edits always answer, a run without readings and, by option, a router that has
 *   none at inference only
 */
export function routingHistogram(
  run: ScoredRun,
  options: RoutingHistogramOptions = {},
  method = methodNamed(run.protocol.method),
): Figure {
  const scale = scaleOf(run, options.unit ?? "margin", method);
  const probes = new Map(kinds.map((kind) => [kind, readProbes(run, kind, scale)]));
  const shown = kinds.filter((kind) => probes.get(kind)?.length);
  if (shown.length === 0) {
    throw new RefusedInput("no probe of the run was decided by a router", {
      where: `scores of the ${run.protocol.method} run`,
      found: "no readings",
      expected: "probes that were read after an edit",
    });
  }
  const theme = createTheme(options.medium);
  const { places, heightInches, margins } = stacked(shown.length, STACK);
  const panels = shown.map((kind, i) => ({
    kind,
    ...(places[i] as (typeof places)[number]),
    probes: probes.get(kind) ?? [],
  }));
  const furthest = Math.max(...panels.flatMap((panel) => panel.probes.map(({ place }) => place))) / scale.one;
  const lastEdge = scale.one * Math.min(LAST_EDGE, Math.max(1.5, Math.floor(furthest * 2) / 2 + 0.5));
  const axes = panels.map(({ suffix, ends }): [string, Partial<LayoutAxis>] => {
    const place = { domain: [...ends] as [number, number], anchor: "x" as const };
    return [`yaxis${suffix}`, axis("", theme, { ...place, rangemode: "tozero", tickformat: ".0%", nticks: 3 })];
  });
  const subtitle = subtitleOf([run]);
  return {
    data: panels.map((panel) => bars(panel, edgesOf(scale, lastEdge), { scale, theme })),
    layout: {
      ...baseLayout({ ...options, heightInches, subtitle, margins, legend: false }),
      bargap: 0,
      xaxis: xAxis(lastEdge, panels.at(-1)?.suffix ?? "", { scale, theme }),
      ...Object.fromEntries(axes),
      shapes: [thresholdLine(scale.threshold, theme)],
      annotations: panels.map((panel) => panelLabel(panel, panel.ends[1], theme)),
    },
    config: baseConfig,
  };
}

interface Scale {
  /** The router's option; null for margins. */
  option: RunInference | null;
  /** Position of the threshold on the axis. */
  threshold: number;
  /** Unit of the axis, a power of ten. */
  one: number;
}

function scaleOf(run: ScoredRun, unit: "margin" | "option", method: EditMethod): Scale {
  requireRouter(method);
  const option = unit === "option" ? inferenceOf(run.protocol, method) : null;
  const threshold = option?.own ?? 1;
  return { option, threshold, one: 10 ** Math.max(0, Math.ceil(Math.log10(threshold / 2))) };
}

/** Edges of the bins, rising from 0: the threshold is one of them. Below it they are alike, and beyond it nearly so. */
function edgesOf({ threshold, one }: Scale, lastEdge: number): number[] {
  const below = Math.ceil((threshold / one) * BINS);
  const width = below > 1 ? threshold / below : one / BINS;
  const beyond = Math.ceil((lastEdge - threshold) / width);
  return [
    ...Array.from({ length: below }, (_, bin) => (bin * threshold) / below),
    ...Array.from({ length: beyond + 1 }, (_, bin) => threshold + bin * width),
  ];
}

/** A probe that a router decided on. */
interface ReadProbe {
  /** On the axis. */
  place: number;
  toEdit: boolean;
}

interface Panel {
  kind: Kind;
  /** Number of the panel's y axis in plotly's names: "", "2", "3". */
  suffix: string;
  probes: readonly ReadProbe[];
}

function readProbes(run: ScoredRun, kind: Kind, { option }: Scale): ReadProbe[] {
  const { options } = run.protocol;
  return run.scores.flatMap((record) =>
    probesOf(record, kind)
      .filter(({ readings }) => readings.length > 0)
      .map(({ readings, route }) => ({
        place: placeOf(readings, option, options),
        toEdit: route !== MAIN,
      })),
  );
}

function placeOf(readings: ScoredProbe["readings"], option: RunInference | null, options: Options): number {
  return option === null ? Math.max(...readings.map(({ margin }) => margin)) : option.turn(readings, options);
}

function bars(
  { kind, suffix, probes }: Panel,
  edges: readonly number[],
  { scale, theme }: { scale: Scale; theme: Theme },
): Data {
  const isAbove = scale.option?.answers === "above"; // what turns up to the threshold is then answered by an edit
  const starts = edges.slice(0, -1);
  const counts = starts.map(() => 0);
  for (const { place } of probes) {
    const bin = Math.max(
      0,
      starts.findLastIndex((start) => (isAbove ? place > start : place >= start)),
    );
    counts[bin] = (counts[bin] ?? 0) + 1;
  }
  const { color, tint } = metricStyles[kind];
  const isEdit = (start: number) => start >= scale.threshold !== isAbove;
  return {
    type: "bar",
    uid: `routing-${kind}`,
    name: kind,
    x: starts.map((start, bin) => (start + (edges[bin + 1] as number)) / 2),
    y: counts.map((count) => count / probes.length),
    width: starts.map((start, bin) => (edges[bin + 1] as number) - start),
    yaxis: `y${suffix}` as YAxisName,
    marker: {
      color: starts.map((start) => (isEdit(start) ? color : tint)),
      line: { color: colors.paper, width: theme.px(0.5) },
    },
    customdata: counts,
    hovertemplate: "%{x:.2f}: %{customdata} probes",
  };
}

function xAxis(
  lastEdge: number,
  lowest: string,
  { scale, theme }: { scale: Scale; theme: Theme },
): Partial<LayoutAxis> {
  const half = scale.one / 2;
  const ticks = Array.from({ length: Math.round(lastEdge / half) + 1 }, (_, i) => i * half);
  return axis(titleOf(scale.option), theme, {
    range: [0, lastEdge],
    tickmode: "array",
    tickvals: ticks,
    ticktext: ticks.map((tick) => (tick === LAST_EDGE * scale.one ? `${tick}+` : String(tick))),
    anchor: `y${lowest}` as YAxisName,
  });
}

function titleOf(option: RunInference | null): string {
  if (option === null) return "Margin: from 1 on an edit answers";
  return `${option.key} ${option.answers === "below" ? "up to" : "from"} which an edit answers`;
}

function thresholdLine(threshold: number, theme: Theme): Partial<Shape> {
  const line = { color: colors.ink, width: theme.px(0.9) };
  return { type: "line", xref: "x", x0: threshold, x1: threshold, yref: "paper", y0: 0, y1: 1, line };
}

function panelLabel({ kind, probes }: Panel, top: number, theme: Theme): Partial<Annotation> {
  const share = probes.filter(({ toEdit }) => toEdit).length / probes.length;
  return label(`${kind}: ${(100 * share).toFixed(0)}% to an edit`, {
    xref: "paper",
    x: 1,
    xanchor: "right",
    yref: "paper",
    y: top,
    yanchor: "bottom",
    font: { size: theme.pt(7.5), color: metricStyles[kind].color },
  });
}
