import { RefusedInput } from "../core/errors.js";
import type { ScoredRun } from "../run/types.js";
import { requireAlike } from "../tables/protocols.js";
import { summaryRows } from "../tables/tables.js";
import type { Figure } from "./figure.js";
import { scoreLine } from "./marks.js";
import { subtitleOf } from "./subtitle.js";
import { axis, baseConfig, baseLayout, createTheme, type FigureOptions, scoreAxis } from "./theme.js";

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
  const rows = summaryRows(ordered, { allow: ["T"] });
  const lines = names.map((name, i) =>
    scoreLine(
      name,
      {
        uid: `t-rollback-${name}`,
        x: rows.map((_, place) => place + (i - 1) * APART),
        rows,
        text: rows.map((row) => `T = ${row.T}`),
        sizes: { line: 1.1, mark: 5.5, interval: { thickness: 0.9, width: 2 } },
      },
      theme,
    ),
  );
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
