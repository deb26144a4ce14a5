import type { Data } from "plotly.js-dist";
import { RefusedInput } from "../core/errors.js";
import type { Figure } from "../figures/figure.js";
import { scoreLine } from "../figures/marks.js";
import { layPanels, type Panel } from "../figures/panels.js";
import { baseConfig, baseLayout, createTheme, type FigureOptions, type Theme } from "../figures/theme.js";
import { marked, type PublishedRow, twoOfOneT } from "./published.js";

const names = ["rewrite", "rephrase", "locality"] as const;

/**
 * Published rewrite, rephrase and locality over T, one small panel per method in the order of the table. A dash in the
 * source is a gap. Tables print no intervals, so none are drawn. The subtitle names the source, and marks one of low confidence.
 * @param rows of one source, model and data set
 * @throws {RefusedInput} for no rows, rows of unlike kind, an unknown T, and two of one method and T.
 */
export function publishedOverT(rows: readonly PublishedRow[], options: FigureOptions = {}): Figure {
  const first = requireOneTable(rows);
  const theme = createTheme(options.medium);
  const doubtful = rows.find((row) => row.confidence !== undefined) ?? first;
  const subtitle = [`published: ${marked(first.source, doubtful)}`, first.model, first.data];
  const methods = [...new Set(rows.map((row) => row.method))];
  const Ts = [...new Set(rows.map((row) => row.T as number))].sort((a, b) => a - b);
  const panels = layPanels(methods, { ticks: Ts.map(shortNumber), title: "Edits between rollbacks T" });
  return {
    data: methods.flatMap((method, i) => {
      const own = rows.filter((row) => row.method === method);
      return names.map((name) => curve(name, { method, own, Ts, panel: panels.all[i] as Panel, theme }));
    }),
    layout: {
      ...baseLayout({ ...options, heightInches: panels.heightInches, subtitle, margins: { bottom: panels.below } }),
      ...panels.layout(theme),
    },
    config: baseConfig,
  };
}

interface Curve {
  method: string;
  own: readonly PublishedRow[];
  Ts: readonly number[];
  panel: Panel;
  theme: Theme;
}

function curve(name: (typeof names)[number], { method, own, Ts, panel, theme }: Curve): Data {
  return scoreLine(
    name,
    {
      uid: `published-${method.replaceAll(/\W/g, "_")}-${name}`, // plotly makes a selector of it
      x: Ts.map((_, place) => place),
      y: Ts.map((T) => own.find((row) => row.T === T)?.scores[name] ?? null),
      text: Ts.map((T) => `${method}, T = ${T}`),
      sizes: { line: 1, mark: 4 },
      ending: panel.ending,
    },
    theme,
  );
}

/** 1000 as "1k": four digits under a narrow panel touch each other. */
export function shortNumber(T: number): string {
  return T >= 1000 && T % 100 === 0 ? `${T / 1000}k` : String(T);
}

/** @returns the first row @throws {RefusedInput} for no rows, rows of unlike kind, an unknown T, and two of one method and T */
export function requireOneTable(rows: readonly PublishedRow[]): PublishedRow {
  const [first] = rows;
  if (first === undefined) {
    throw new RefusedInput("there is no published row to draw", {
      where: "rows",
      found: "0",
      expected: "at least one",
    });
  }
  const seen = new Set<string>();
  for (const row of rows) {
    const { source, model, data, method, T } = row;
    const table = `${data} on ${model}, ${source}`;
    const wanted = `${first.data} on ${first.model}, ${first.source}`;
    if (table !== wanted || T === "unknown") {
      throw new RefusedInput("published rows of unlike kind cannot stand in one figure", {
        where: method,
        found: `${table}, T = ${T}`,
        expected: `${wanted}, T a number`,
      });
    }
    const place = JSON.stringify([method, T]);
    if (seen.has(place)) throw twoOfOneT(row);
    seen.add(place);
  }
  return first;
}
