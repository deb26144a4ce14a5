import type { Annotation, Dash, Data, ErrorBar } from "plotly.js-dist";
import type { Row } from "../tables/tables.js";
import { label, metricStyles, type Theme } from "./theme.js";

/* The marks that figures are made of. */

/** Points of one score: their places, and rows of `summaryFrame` with intervals, or plain numbers. */
export interface ScorePoints {
  uid: string;
  x: readonly number[];
  rows?: readonly Row[];
  y?: (number | null)[];
  /** Words for each point under the pointer. */
  text: string[];
  /** In CSS pixels at print size. */
  sizes: { line: number; mark: number; interval?: IntervalSizes };
  dash?: Dash;
  /** Ending of the names of a small panel's axes; "" of the first, which alone is in the legend. */
  ending?: string;
}

/** One score as points on a line in its colour and symbol, with 95% intervals where there are some. */
export function scoreLine(score: keyof typeof metricStyles, points: ScorePoints, theme: Theme): Data {
  const { color, symbol } = metricStyles[score];
  const { uid, x, rows, y = [], text, sizes, dash, ending } = points;
  const inPanel =
    ending === undefined ? {} : { legendgroup: score, showlegend: ending === "", ...axesNamed({ ending }) };
  return {
    type: "scatter",
    mode: "lines+markers",
    uid,
    name: score === "average" ? "Avg" : score,
    ...inPanel,
    x: [...x],
    ...(rows && sizes.interval ? meansOf(rows, score, { color, sizes: sizes.interval, theme }) : { y }),
    line: { color, width: theme.px(sizes.line), ...(dash && { dash }) },
    marker: { color, symbol, size: theme.px(sizes.mark) },
    ...(ending === undefined ? {} : { cliponaxis: false }),
    text,
    hovertemplate: "%{text}: %{y:.3f}",
  };
}

/** Names of a panel's axes, as traces give them. */
function axesNamed({ ending }: { ending: string }): { xaxis: "x"; yaxis: "y" } {
  return { xaxis: `x${ending}` as "x", yaxis: `y${ending}` as "y" };
}

/** Lengths of an interval's line and caps, in CSS pixels at print size. */
interface IntervalSizes {
  thickness: number;
  width: number;
}

/**
 * Means of a score and their 95% intervals as a trace of plotly takes them; nothing where there is no mean.
 * @param rows those of `summaryFrame`
 */
function meansOf(
  rows: readonly Row[],
  name: string,
  { color, sizes, theme }: { color: string; sizes: IntervalSizes; theme: Theme },
): { y: (number | null)[]; error_y: ErrorBar } {
  const column = (ending: string) => rows.map((row) => (row[`${name}${ending}`] ?? null) as number | null);
  const y = column("");
  const arms = (ending: string) =>
    column(ending).map((end, place) => {
      const mean = y[place] ?? null;
      return end === null || mean === null ? 0 : Math.abs(end - mean);
    });
  return {
    y,
    error_y: {
      type: "data",
      symmetric: false,
      array: arms("High"),
      arrayminus: arms("Low"),
      color,
      thickness: theme.px(sizes.thickness),
      width: theme.px(sizes.width),
    },
  };
}

/** The name of a line at its right end, outside of the plot area. */
export function endName(
  text: string,
  { yref, y, align, color, theme }: EndPlace & { color: string; theme: Theme },
): Partial<Annotation> {
  return label(text, {
    xref: "paper",
    x: 1,
    xanchor: "left",
    xshift: theme.px(4),
    yref,
    y,
    yanchor: "middle",
    ...(align && { align }),
    font: { size: theme.pt(7.5), color },
  });
}

type EndPlace = Pick<Annotation, "yref" | "y"> & Partial<Pick<Annotation, "align">>;
