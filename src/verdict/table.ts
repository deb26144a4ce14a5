import type { DataFrame } from "danfojs-node";
import { mean } from "../core/stats.js";
import { type MeasureName, valuesOf } from "../run/measures.js";
import type { StudyRow } from "../run/study.js";
import type { ScoredRun } from "../run/types.js";
import { isShare, metricOf } from "../run/under-metric.js";
import { escapeLatex, requireLabel } from "../tables/latex.js";
import { caption } from "../tables/protocols.js";
import { frameOf, intervalOf, type Row } from "../tables/tables.js";
import { edgesOf, requireRows, runAt } from "./rows.js";
import { bestOf } from "./tests.js";

/** Scores of a cell as the paper heads them, in its order. */
const HEADS = { rewrite: "Rel.", rephrase: "Gen.", locality: "Loc.", average: "Avg." } as const;
type Score = keyof typeof HEADS;
/** The paper prints two decimals. */
const DIGITS = 2;

/** Notes of rows as one text, "WISE: ...": the first line under every table that shows them. */
export function noteOn(rows: readonly StudyRow[]): string {
  return rows.flatMap(({ title, note }) => (note === undefined ? [] : [`${title}: ${note}.`])).join(" ");
}

/**
 * The paper's table from runs: a row per method, a column per T, in each cell rewrite / rephrase / locality / average
 * by the metric of the runs. "-": no run.
 * @throws {RefusedInput} for rows that may not be compared
 */
export function methodsOverT(rows: readonly StudyRow[]): DataFrame {
  requireRows(rows);
  const lines = rows.map((row): Row => {
    const cell = (run: ScoredRun | undefined) =>
      run === undefined
        ? "-"
        : scoresOf(rows)
            .map((name) => meanText(run, name))
            .join(" / ");
    const cells = edgesOf(rows).map((T) => [`T = ${T}`, cell(runAt(row, T))] as const);
    return { method: row.title, ...Object.fromEntries(cells) };
  });
  return frameOf(lines, "methods");
}

/**
 * The paper's table as LaTeX: a row per method, four columns per T. The best of a column is bold, and so is what a paired
 * permutation test at 0.05 (Holm's method over the column) cannot tell from it. Small behind each mean: half the width of
 * its 95% bootstrap interval. The options of the methods stand in comments above it. The document needs \usepackage{booktabs} and \usepackage{graphicx}.
 * @throws {RefusedInput} for rows that may not be compared, or a label that \ref cannot name
 */
export function methodsLatex(rows: readonly StudyRow[], { label }: { label: string }): string {
  requireRows(rows);
  requireLabel(label);
  const Ts = edgesOf(rows);
  const scores = scoresOf(rows);
  const columns = Ts.flatMap((T) => scores.map((name) => ({ T, name, best: bestOf(rows, T, name, betterOf(rows)) })));
  const body = rows.map((row) => {
    const cells = columns.map(({ T, name, best }) => latexCell(runAt(row, T), name, best.has(row.title)));
    return `    ${[escapeLatex(row.title), ...cells].join(" & ")} \\\\`;
  });
  const heads = Ts.map((T) => `\\multicolumn{${scores.length}}{c}{$T = ${T}$}`);
  const rules = Ts.map((_, i) => `\\cmidrule(lr){${2 + i * scores.length}-${1 + (i + 1) * scores.length}}`);
  const [protocol, ...options] = caption(rows.flatMap(({ runs }) => runs)).split("\n");
  const text = [noteOn(rows), protocol].join("\n").trim();
  return `${[
    "% needs \\usepackage{booktabs} and \\usepackage{graphicx}",
    ...options.map((line) => `% ${line}`),
    "\\begin{table*}[t]",
    "  \\centering",
    `  \\caption{${escapeLatex(text)}}`,
    `  \\label{${label}}`,
    "  \\resizebox{\\textwidth}{!}{%",
    `  \\begin{tabular}{l${"r".repeat(columns.length)}}`,
    "    \\toprule",
    `    & ${heads.join(" & ")} \\\\`,
    `    ${rules.join(" ")}`,
    `    Method & ${columns.map(({ name }) => HEADS[name]).join(" & ")} \\\\`,
    "    \\midrule",
    ...body,
    "    \\bottomrule",
    "  \\end{tabular}}",
    "\\end{table*}",
  ].join("\n")}\n`;
}

/** An average of rewrite, rephrase and locality is one of shares. */
function scoresOf(rows: readonly StudyRow[]): Score[] {
  const share = rows.every(({ runs }) => runs.every((run) => isShare(metricOf(run))));
  return (Object.keys(HEADS) as Score[]).filter((name) => name !== "average" || share);
}

function betterOf(rows: readonly StudyRow[]): "higher" | "lower" {
  const [first] = rows.flatMap(({ runs }) => runs);
  return first === undefined || metricOf(first).better === "higher" ? "higher" : "lower";
}

function meanText(run: ScoredRun, name: MeasureName): string {
  const values = valuesOf(run.scores, name);
  return values.length === 0 ? "-" : mean(values).toFixed(DIGITS);
}

function latexCell(run: ScoredRun | undefined, name: MeasureName, isBest: boolean): string {
  const found = run === undefined ? null : intervalOf(run, name);
  if (found === null) return "--";
  const { mean, low, high } = found;
  const number = mean.toFixed(DIGITS);
  return `${isBest ? `\\textbf{${number}}` : number}{\\tiny $\\pm${((high - low) / 2).toFixed(DIGITS)}$}`;
}
