import type { ErrorBar } from "plotly.js-dist";
import type { Row } from "../tables/tables.js";
import type { Theme } from "./theme.js";

/** Lengths of an interval's line and caps, in CSS pixels at print size. */
export interface IntervalSizes {
  thickness: number;
  width: number;
}

/**
 * Means of a score and their 95% intervals as a trace of plotly takes them; nothing where there is no mean.
 * @param rows those of `summaryFrame`
 */
export function meansOf(
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
