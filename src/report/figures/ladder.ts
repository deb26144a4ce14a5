import type { Data } from "plotly.js-dist";
import { LADDER } from "../../eval/metrics.js";
import type { RunResult, ScoredRun } from "../../run/types.js";
import type { Figure } from "../figure.js";
import { ladderFrame } from "../ladder.js";
import { type Row, rowsOf } from "../tables.js";
import { baseConfig, baseLayout, createTheme, type FigureOptions, metricStyles, type Theme } from "../theme.js";
import { axesNamed, layPanels, type Panel } from "./panels.js";

const names = ["rewrite", "rephrase", "locality"] as const;

/** The rungs in few words. */
const RUNGS: Readonly<Record<string, string>> = {
  "teacher-forced": "teacher<br>forced",
  autoregressive: "free,<br>tokens",
  "em-gold-length": "free,<br>cut",
  "free-em": "free,<br>whole",
};

/**
 * The ladder of runs, a small panel each: rewrite, rephrase and locality with 95% bootstrap intervals over records, by
 * teacher forcing; then of free answers of the expected length, token by token and as a whole; then of free answers that
 * end by themselves.
 * @param runs made for the metrics of the ladder
 * @throws {RefusedInput} as `ladderFrame`
 */
export function ladder(runs: readonly (ScoredRun | RunResult)[], options: FigureOptions = {}): Figure {
  const theme = createTheme(options.medium);
  const rows = rowsOf(ladderFrame(runs));
  const ticks = LADDER.map((name) => RUNGS[name] as string);
  const panels = layPanels(panelNames(runs), { ticks, title: "Less and less help", columns: 2 });
  return {
    data: panels.all.flatMap((panel, i) => {
      const own = rows.slice(i * LADDER.length, (i + 1) * LADDER.length);
      return names.map((name, place) => curve(name, { own, panel, shift: (place - 1) * APART, theme }));
    }),
    layout: {
      ...baseLayout({ ...options, heightInches: panels.heightInches, margins: { bottom: panels.below } }),
      ...panels.layout(theme),
    },
    config: baseConfig,
  };
}

/** Distance between the marks of one rung, in steps of the axis: their intervals must not lie over one another. */
const APART = 0.1;

/** What tells the runs apart, in few words. */
function panelNames(runs: readonly (ScoredRun | RunResult)[]): string[] {
  const texts = runs.map(({ protocol: { method, T, when, targetStop } }) => [
    method,
    `T = ${T}`,
    when,
    targetStop === "none" ? "no stop" : `stop ${targetStop}`,
  ]);
  const differs = (texts[0] ?? []).map((_, part) => new Set(texts.map((own) => own[part])).size > 1);
  return texts.map((own) => own.filter((_, part) => differs[part] || part === 1).join(", "));
}

function curve(
  name: (typeof names)[number],
  { own, panel, shift, theme }: { own: readonly Row[]; panel: Panel; shift: number; theme: Theme },
): Data {
  const { color, symbol } = metricStyles[name];
  const column = (ending: string) => own.map((row) => row[`${name}${ending}`] as number | null);
  const [means, low, high] = [column(""), column("Low"), column("High")];
  const arm = (end: number | null | undefined, mean: number | null | undefined) =>
    end == null || mean == null ? 0 : Math.abs(end - mean);
  return {
    type: "scatter",
    mode: "lines+markers",
    uid: `ladder-${panel.ending || "1"}-${name}`,
    name,
    legendgroup: name,
    showlegend: panel.ending === "", // once for all panels
    ...axesNamed(panel),
    x: own.map((_, place) => place + shift),
    y: means,
    error_y: {
      type: "data",
      symmetric: false,
      array: high.map((end, place) => arm(end, means[place])),
      arrayminus: low.map((end, place) => arm(end, means[place])),
      color,
      thickness: theme.px(0.8),
      width: theme.px(1.5),
    },
    line: { color, width: theme.px(1) },
    marker: { color, symbol, size: theme.px(4) },
    cliponaxis: false,
    text: own.map((row) => `${panel.name}, ${row.rung}`),
    hovertemplate: "%{text}: %{y:.3f}",
  };
}
