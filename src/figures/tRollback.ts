import type { Data } from "plotly.js-dist";
import { RefusedInput } from "../core/errors.js";
import type { ScoredRun } from "../run/types.js";
import { requireAlike } from "../tables/protocols.js";
import { rowsOf, summaryFrame } from "../tables/tables.js";
import type { Figure } from "./figure.js";
import { meansOf } from "./intervals.js";
import { subtitleOf } from "./subtitle.js";
import { axis, baseConfig, baseLayout, createTheme, type FigureOptions, metricStyles, scoreAxis } from "./theme.js";

const names = ["rewrite", "rephrase", "locality"] as const;
/** Distance between the marks of one T, in steps of the axis: their intervals must not lie over one another. */
const APART = 0.09;

/**
 * Rewrite, rephrase and locality over T, with 95% bootstrap intervals over records. "all" stands last.
 * @throws {RefusedInput} when the runs differ in anything but T, or two have the same T.
 */
export function tRollback(runs: readonly ScoredRun[], options: FigureOptions = {}): Figure {
  requireAlike(runs, ["T"]);
  const ordered = [...runs].sort((a, b) => order(a) - order(b));
  const twice = ordered.find((run, i) => i > 0 && order(run) === order(ordered[i - 1] as ScoredRun));
  if (twice) {
    throw new RefusedInput("two runs of one T cannot share a place on the axis", {
      where: "runs",
      found: `T = ${twice.protocol.T} twice`,
      expected: "one run per T",
    });
  }
  const theme = createTheme(options.medium);
  const rows = rowsOf(summaryFrame(ordered, { allow: ["T"] }));
  const lines = names.map((name, i): Data => {
    const style = metricStyles[name];
    return {
      type: "scatter",
      mode: "lines+markers",
      uid: `t-rollback-${name}`,
      name,
      x: rows.map((_, place) => place + (i - 1) * APART),
      ...meansOf(rows, name, { color: style.color, sizes: { thickness: 0.9, width: 2 }, theme }),
      line: { color: style.color, width: theme.px(1.1) },
      marker: { color: style.color, symbol: style.symbol, size: theme.px(5.5) },
      text: rows.map((row) => `T = ${row.T}`),
      hovertemplate: "%{text}: %{y:.3f}",
    };
  });
  return {
    data: lines,
    layout: {
      ...baseLayout({ ...options, heightInches: 2.1, subtitle: subtitleOf(ordered) }),
      xaxis: axis("Edits between rollbacks T (marks side by side)", theme, {
        tickmode: "array",
        tickvals: rows.map((_, place) => place),
        ticktext: rows.map((row) => String(row.T)),
        range: [-0.4, rows.length - 0.6],
      }),
      yaxis: scoreAxis(ordered[0] as ScoredRun, theme),
    },
    config: baseConfig,
  };
}

function order(run: ScoredRun): number {
  return run.protocol.T === "all" ? Number.POSITIVE_INFINITY : run.protocol.T;
}
