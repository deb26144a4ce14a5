import type { Annotation, Data, LayoutAxis, Shape, YAxisName } from "plotly.js-dist";
import { RefusedInput } from "../../core/errors.js";
import { routerOf } from "../../explore/router.js";
import type { ScoredProbe, ScoredRun } from "../../run/types.js";
import type { Figure } from "../figure.js";
import {
  axis,
  baseConfig,
  baseLayout,
  colors,
  createTheme,
  type FigureOptions,
  label,
  metricStyles,
  PIXELS_PER_INCH,
  type Theme,
} from "../theme.js";
import { probesOf } from "../values.js";

const kinds = ["rewrite", "rephrase", "locality"] as const;
type Kind = (typeof kinds)[number];

/** Bins per unit, or nearly so: a whole number below the threshold, so that no bin holds both sides of it. */
const BINS = 12;
/** Distances beyond this many units share the last bin, so that one outlier does not flatten the rest. */
const LAST_EDGE = 3;
/** Heights in inches: of the band above a panel, which holds its name, and of what stands below the last one. */
const BAND = 0.2;
const PANEL = 0.46;
const FOOT = 0.33;

export interface RoutingHistogramOptions extends FigureOptions {
  /** What activations are shares of. Relative to min_act the axis is that of act_ratio. Default "threshold". */
  unit?: "threshold" | "min_act";
}

/**
 * How far the routing activation of each probe is from its threshold: a histogram of Delta / threshold, one panel per
 * kind of probe. Below 1 the untouched model answers (pale), from 1 on a memory (full colour); of Delta / min_act, below
 * and from the run's act_ratio on. Of several memories the one nearest to taking over counts. A ratio is drawn because
 * every block has a threshold of its own.
 * @throws {RefusedInput} when no probe was read against a memory, or a threshold or min_act is not above 0.
 */
export function routingHistogram(run: ScoredRun, options: RoutingHistogramOptions = {}): Figure {
  const scale = scaleOf(run, options.unit ?? "threshold");
  const probes = new Map(kinds.map((kind) => [kind, readProbes(run, kind, scale)]));
  const shown = kinds.filter((kind) => probes.get(kind)?.length);
  if (shown.length === 0) {
    throw new RefusedInput("no probe of the run was read against a memory", {
      where: `scores of the ${run.protocol.method} run`,
      found: "no routing activations",
      expected: "a method with a router, such as wise",
    });
  }
  const theme = createTheme(options.medium);
  const panels = shown.map((kind, i) => ({ kind, suffix: i === 0 ? "" : `${i + 1}`, probes: probes.get(kind) ?? [] }));
  const ratios = panels.flatMap((panel) => panel.probes.map(({ ratio }) => ratio));
  const lastEdge = Math.min(LAST_EDGE, Math.max(1.5, Math.floor(Math.max(...ratios) * 2) / 2 + 0.5));
  const plot = panels.length * (BAND + PANEL) - BAND; // the first band is the top margin
  const tops = panels.map((_, i) => 1 - (i * (BAND + PANEL)) / plot);
  const axes = panels.map((panel, i): [string, Partial<LayoutAxis>] => {
    const top = tops[i] as number;
    const place = { domain: [Math.max(0, top - PANEL / plot), top] as [number, number], anchor: "x" as const };
    return [`yaxis${panel.suffix}`, axis("", theme, { ...place, rangemode: "tozero", tickformat: ".0%", nticks: 3 })];
  });
  const margins = { top: BAND * PIXELS_PER_INCH, bottom: FOOT * PIXELS_PER_INCH };
  return {
    data: panels.map((panel) => bars(panel, lastEdge, { scale, theme })),
    layout: {
      ...baseLayout({ ...options, heightInches: BAND + plot + FOOT, margins, legend: false }),
      bargap: 0,
      xaxis: xAxis(lastEdge, panels.at(-1)?.suffix ?? "", { scale, theme }),
      ...Object.fromEntries(axes),
      shapes: [thresholdLine(scale.threshold, theme)],
      annotations: panels.map((panel, i) => panelLabel(panel, tops[i] as number, theme)),
    },
    config: baseConfig,
  };
}

interface Scale {
  unit: "threshold" | "min_act";
  /** Where the threshold stands, and the width of a bin. */
  threshold: number;
  bin: number;
}

function scaleOf(run: ScoredRun, unit: Scale["unit"]): Scale {
  const threshold = unit === "threshold" ? 1 : routerOf(run.protocol).own;
  return { unit, threshold, bin: threshold === 0 ? 1 / BINS : threshold / Math.ceil(threshold * BINS) };
}

/** A probe that was read against a memory. */
interface ReadProbe {
  /** Delta in units of the memory nearest to taking over, or furthest past it. */
  ratio: number;
  toMemory: boolean;
}

interface Panel {
  kind: Kind;
  /** Number of the panel's y axis in plotly's names: "", "2", "3". */
  suffix: string;
  probes: readonly ReadProbe[];
}

function readProbes(run: ScoredRun, kind: Kind, { unit }: Scale): ReadProbe[] {
  return run.scores.flatMap((record) =>
    probesOf(record, kind)
      .filter(({ readings }) => readings.length > 0)
      .map(({ readings, route }) => ({
        ratio: Math.max(...readings.map((reading) => ratioOf(reading, unit, `${kind} of record ${record.record}`))),
        toMemory: route !== "main",
      })),
  );
}

function ratioOf(
  { memory, delta, minAct, threshold }: ScoredProbe["readings"][number],
  unit: Scale["unit"],
  where: string,
): number {
  const one = unit === "threshold" ? threshold : minAct;
  if (one > 0) return delta / one;
  throw new RefusedInput(`a ${unit} of 0 or less has no ratio to draw`, {
    where: `reading of ${memory}, ${where}`,
    found: one,
    expected: unit === "threshold" ? "a threshold above 0 (an act_ratio above 0)" : "a min_act above 0",
  });
}

function bars(
  { kind, suffix, probes }: Panel,
  lastEdge: number,
  { scale, theme }: { scale: Scale; theme: Theme },
): Data {
  const below = Math.round(scale.threshold / scale.bin);
  const counts = Array.from({ length: Math.ceil(lastEdge / scale.bin) }, () => 0);
  for (const { ratio } of probes) {
    // Of two numbers that differ by rounding alone, one must not fall on the other side of the threshold.
    const bin =
      ratio >= scale.threshold
        ? Math.max(below, Math.floor(ratio / scale.bin))
        : Math.min(below - 1, Math.floor(ratio / scale.bin));
    const shown = Math.min(bin, counts.length - 1);
    counts[shown] = (counts[shown] ?? 0) + 1;
  }
  const { color, tint } = metricStyles[kind];
  return {
    type: "bar",
    uid: `routing-${kind}`,
    name: kind,
    x: counts.map((_, bin) => (bin + 0.5) * scale.bin),
    y: counts.map((count) => count / probes.length),
    width: scale.bin,
    yaxis: `y${suffix}` as YAxisName,
    marker: {
      color: counts.map((_, bin) => (bin < below ? tint : color)),
      line: { color: colors.paper, width: theme.px(0.5) },
    },
    customdata: counts,
    hovertemplate: `%{x:.2f} of ${scale.unit}: %{customdata} probes`,
  };
}

function xAxis(
  lastEdge: number,
  lowest: string,
  { scale, theme }: { scale: Scale; theme: Theme },
): Partial<LayoutAxis> {
  const ticks = Array.from({ length: Math.round(lastEdge * 2) + 1 }, (_, i) => i / 2);
  return axis(`Routing activation Δ / ${scale.unit}`, theme, {
    range: [0, lastEdge],
    tickmode: "array",
    tickvals: ticks,
    ticktext: ticks.map((tick) => (tick === LAST_EDGE ? `${tick}+` : String(tick))),
    anchor: `y${lowest}` as YAxisName,
  });
}

function thresholdLine(threshold: number, theme: Theme): Partial<Shape> {
  const line = { color: colors.ink, width: theme.px(0.9) };
  return { type: "line", xref: "x", x0: threshold, x1: threshold, yref: "paper", y0: 0, y1: 1, line };
}

function panelLabel({ kind, probes }: Panel, top: number, theme: Theme): Partial<Annotation> {
  const share = probes.filter(({ toMemory }) => toMemory).length / probes.length;
  return label(`${kind}: ${(100 * share).toFixed(0)}% to a memory`, {
    xref: "paper",
    x: 1,
    xanchor: "right",
    yref: "paper",
    y: top,
    yanchor: "bottom",
    font: { size: theme.pt(7.5), color: metricStyles[kind].color },
  });
}
