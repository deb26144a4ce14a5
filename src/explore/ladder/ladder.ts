import { LADDER } from "../../eval/metrics.js";
import type { Figure } from "../../figures/figure.js";
import { scoresInPanels } from "../../figures/panels.js";
import { subtitleOf } from "../../figures/subtitle.js";
import type { FigureOptions } from "../../figures/theme.js";
import type { RunResult, ScoredRun } from "../../run/types.js";
import { ladderRows } from "./tables.js";

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
  const rows = ladderRows(runs);
  const subtitle = subtitleOf(runs);
  const ticks = LADDER.map((name) => RUNGS[name] as string);
  const names = panelNames(runs);
  const groups = names.map((name, i) => ({ name, rows: rows.slice(i * LADDER.length, (i + 1) * LADDER.length) }));
  return scoresInPanels(
    groups,
    { uid: "ladder", subtitle, ticks, title: "Less and less help (marks side by side)", columns: 2 },
    options,
  );
}

/** Names of the panels: the fields in which the runs differ, in few words. */
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
