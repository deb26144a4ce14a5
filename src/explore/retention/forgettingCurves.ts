import type { Figure } from "../../figures/figure.js";
import { scoreLine } from "../../figures/marks.js";
import { subtitleOf } from "../../figures/subtitle.js";
import { axis, baseConfig, baseLayout, createTheme, type FigureOptions, scoreAxis } from "../../figures/theme.js";
import type { RunResult } from "../../run/types.js";
import { forgettingRows, retained } from "./retention.js";

/**
 * Rewrite, rephrase and locality over the number of later edits, with 95% bootstrap intervals over records: how an edit is
 * forgotten.
 * @param run with checkpoints
 * @throws {RefusedInput} for one without
 */
export function forgettingCurves(run: RunResult, options: FigureOptions = {}): Figure {
  const theme = createTheme(options.medium);
  const rows = forgettingRows(run);
  const ages = rows.map(({ age }) => age as number);
  const last = Math.max(...ages);
  const data = retained.map((name) => {
    const sizes = { line: 1.1, mark: 4.5, interval: { thickness: 0.8, width: 1.5 } };
    const text = ages.map((age) => `${age} later edits`);
    return scoreLine(name, { uid: `forgetting-${name}`, x: ages, rows, text, sizes }, theme);
  });
  return {
    data,
    layout: {
      ...baseLayout({ ...options, heightInches: 2.1, subtitle: subtitleOf([run]) }),
      xaxis: axis("Edits made after a record's own", theme, { range: [-0.03 * last, 1.03 * last] }),
      yaxis: scoreAxis(run, theme),
    },
    config: baseConfig,
  };
}
