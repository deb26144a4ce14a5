import type { Data } from "plotly.js-dist";
import { RefusedInput } from "../core/errors.js";
import type { Figure } from "../report/figure.js";
import { meansOf } from "../report/figures/intervals.js";
import { axesNamed, layPanels, type Panel } from "../report/figures/panels.js";
import { marked, type PublishedRow } from "../report/published.js";
import { subtitleOf } from "../report/subtitle.js";
import { type Row, rowsOf, summaryFrame } from "../report/tables.js";
import {
  baseConfig,
  baseLayout,
  createTheme,
  type FigureOptions,
  metricStyles,
  PAGE_INCHES,
  type Theme,
} from "../report/theme.js";
import type { StudyRow } from "../run/study.js";
import { publishedOf, requireRows, runAt } from "./rows.js";

const NAMES = ["rewrite", "rephrase", "locality"] as const;
/** Panels in a row of either half. */
const COLUMNS = 3;

/**
 * The same small panels twice: rewrite, rephrase and locality over T, a panel per method; on the left as measured, with
 * 95% bootstrap intervals over records, on the right as published, without. What one side lacks is a gap.
 * @param published rows of one table and model; of the methods that both sides have
 * @throws {RefusedInput} for rows that may not be compared, or no method in common
 */
export function panelsTwice(
  rows: readonly StudyRow[],
  published: readonly PublishedRow[],
  options: FigureOptions = {},
): Figure {
  requireRows(rows);
  const theirs = publishedOf(rows, published);
  const ours = rows.filter(({ title }) => theirs.some(({ method }) => method.toLowerCase() === title.toLowerCase()));
  const [first] = theirs;
  if (first === undefined) {
    throw new RefusedInput("no method is on both sides", {
      where: "rows",
      found: rows.map(({ title }) => title).join(", ") || "none",
      expected: [...new Set(published.map(({ method }) => method))].join(", "),
    });
  }
  const Ts = [...new Set(theirs.flatMap(({ T }) => (T === "unknown" ? [] : [T])))].sort((a, b) => a - b);
  const theme = createTheme(options.medium);
  const names = inHalves(ours.map(({ title }) => title));
  const panels = layPanels(names, {
    ticks: Ts.map((T) => (T >= 1000 ? `${T / 1000}k` : String(T))),
    title: "Edits between rollbacks T",
    columns: 2 * COLUMNS,
    halves: ["measured here", "published"],
  });
  const runs = ours.flatMap((row) => row.runs);
  const model = `measured: ${subtitleOf(runs).join(", ")}`;
  const source = `published: ${theirs.length} rows of ${first.model}, ${marked(first.source, first)}`;
  return {
    data: panels.all.flatMap((panel) => {
      if (panel.name === "") return [];
      const row = ours.find(({ title }) => title === panel.name) as StudyRow;
      const isMeasured = panel.column < COLUMNS;
      const points = isMeasured ? measuredPoints(row, Ts) : publishedPoints(row, Ts, theirs);
      return NAMES.map((name) => curve(name, { points, panel, Ts, theme }));
    }),
    layout: {
      ...baseLayout({
        ...options,
        widthInches: PAGE_INCHES,
        heightInches: panels.heightInches,
        subtitle: [model, source],
        margins: { bottom: panels.below },
      }),
      ...panels.layout(theme),
    },
    config: baseConfig,
  };
}

/** Names of panels, row by row: three of a half, and the same three of the other. "" where a row has no third. */
function inHalves(names: readonly string[]): string[] {
  const rows = Math.ceil(names.length / COLUMNS);
  return Array.from({ length: rows }, (_, row) =>
    Array.from({ length: 2 * COLUMNS }, (__, column) => names[row * COLUMNS + (column % COLUMNS)] ?? ""),
  ).flat();
}

/** A row of a summary for each T; an empty one where there is no run. */
function measuredPoints(row: StudyRow, Ts: readonly number[]): Row[] {
  return Ts.map((T) => {
    const run = runAt(row, T);
    return run === undefined ? {} : (rowsOf(summaryFrame([run]))[0] as Row);
  });
}

function publishedPoints({ title }: StudyRow, Ts: readonly number[], rows: readonly PublishedRow[]): Row[] {
  const own = rows.filter(({ method }) => method.toLowerCase() === title.toLowerCase());
  return Ts.map((T) => ({ ...own.find((row) => row.T === T)?.scores }));
}

interface Curve {
  points: readonly Row[];
  panel: Panel;
  Ts: readonly number[];
  theme: Theme;
}

function curve(name: (typeof NAMES)[number], { points, panel, Ts, theme }: Curve): Data {
  const { color, symbol } = metricStyles[name];
  return {
    type: "scatter",
    mode: "lines+markers",
    uid: `twice-${panel.ending || "1"}-${name}`,
    name,
    legendgroup: name,
    showlegend: panel.ending === "", // once for all panels
    ...axesNamed(panel),
    x: Ts.map((_, place) => place),
    ...meansOf(points, name, { color, sizes: { thickness: 0.8, width: 1.5 }, theme }),
    line: { color, width: theme.px(1) },
    marker: { color, symbol, size: theme.px(4) },
    cliponaxis: false,
    text: Ts.map((T) => `${panel.name}, T = ${T}`),
    hovertemplate: "%{text}: %{y:.3f}",
  };
}
