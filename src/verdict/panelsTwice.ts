import type { Figure } from "../figures/figure.js";
import { scoreLine } from "../figures/marks.js";
import { layPanels } from "../figures/panels.js";
import { subtitleOf } from "../figures/subtitle.js";
import { baseConfig, baseLayout, createTheme, type FigureOptions, PAGE_INCHES } from "../figures/theme.js";
import { marked, type PublishedRow } from "../published/published.js";
import { shortNumber } from "../published/publishedOverT.js";
import type { StudyRow } from "../run/study.js";
import { intervalColumns, type Row } from "../tables/tables.js";
import { onBothSides, publishedAt, runAt } from "./rows.js";

const NAMES = ["rewrite", "rephrase", "locality"] as const;
/** Panels in a row of either half. */
const COLUMNS = 3;

/**
 * The same small panels twice: rewrite, rephrase and locality over T, a panel per method; on the left as measured, with
 * 95% bootstrap intervals over records, on the right as published, without. What one side lacks is a gap.
 * @param published rows of one table and model; of the methods that both sides have
 * @throws {RefusedInput} as `onBothSides`
 */
export function panelsTwice(
  rows: readonly StudyRow[],
  published: readonly PublishedRow[],
  options: FigureOptions = {},
): Figure {
  const { ours, theirs } = onBothSides(rows, published);
  const [first] = theirs;
  const Ts = [...new Set(theirs.map(({ T }) => T as number))].sort((a, b) => a - b);
  const theme = createTheme(options.medium);
  const names = inHalves(ours.map(({ title }) => title));
  const panels = layPanels(names, {
    ticks: Ts.map(shortNumber),
    title: "Edits between rollbacks T",
    columns: 2 * COLUMNS,
    halves: ["measured here", "published"],
  });
  const runs = ours.flatMap((row) => row.runs);
  const model = `measured: ${subtitleOf(runs).join(", ")}`;
  const source = `published: ${theirs.length} rows of ${first.model}, ${marked(first.source, first)}`;
  return {
    data: panels.all.flatMap((panel) => {
      const row = ours.find(({ title }) => title === panel.name) as StudyRow;
      const isMeasured = panel.column < COLUMNS;
      const points = isMeasured ? measuredPoints(row, Ts) : publishedPoints(row, Ts, theirs);
      return NAMES.map((name) =>
        scoreLine(
          name,
          {
            uid: `twice-${panel.ending || "1"}-${name}`,
            x: Ts.map((_, place) => place),
            rows: points,
            text: Ts.map((T) => `${panel.name}, T = ${T}`),
            sizes: { line: 1, mark: 4, interval: { thickness: 0.8, width: 1.5 } },
            ending: panel.ending,
          },
          theme,
        ),
      );
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

/** The scores of a run at each T, with their intervals; none where there is no run. */
function measuredPoints(row: StudyRow, Ts: readonly number[]): Row[] {
  return Ts.map((T) => {
    const run = runAt(row, T);
    return run === undefined ? {} : Object.assign({}, ...NAMES.map((name) => intervalColumns(run, name)));
  });
}

function publishedPoints(row: StudyRow, Ts: readonly number[], published: readonly PublishedRow[]): Row[] {
  return Ts.map((T) => ({ ...publishedAt(row, T, published)?.scores }));
}
