import type { DataFrame } from "danfojs-node";
import { mean } from "../core/stats.js";
import { methodNamed } from "../edit/registry.js";
import { type CauseName, causeOf, causes, laterEditsIn, learnedIn, ofEdits } from "../run/causes.js";
import { probesOf } from "../run/measures.js";
import type { StudyRow } from "../run/study.js";
import type { RunSummary } from "../run/summary.js";
import type { RunResult, ScoredRecord } from "../run/types.js";
import { frameOf, type Row } from "../tables/tables.js";
import { requireRows } from "./rows.js";

/** Edited questions and their rephrases that a run does not have right, by what went wrong. */
export interface RunCauses {
  /** Title of the run's row. */
  method: string;
  T: number | "all";
  /** Share of the questions that are right. */
  right: number;
  /** Shares of the questions, largest first; causes that none has are left out. */
  wrong: { cause: CauseName; share: number }[];
}

/**
 * Causes of what is not right of rewrites and rephrases, run by run, in the order of the rows; by teacher forcing, whose
 * rules they are.
 * @throws {RefusedInput} for rows that may not be compared
 */
export function causesOverT(rows: readonly StudyRow<RunSummary | RunResult>[]): RunCauses[] {
  requireRows(rows);
  return rows.flatMap(({ title, runs }) => runs.map((run) => ({ method: title, T: run.protocol.T, ...causesIn(run) })));
}

/** The same as a table: a row per method and T, or per method at one T; a column per cause. */
export function causesOverTFrame(rows: readonly StudyRow<RunSummary | RunResult>[], at?: RunCauses["T"]): DataFrame {
  const all = causesOverT(rows).filter(({ T }) => at === undefined || T === at);
  const names = (Object.keys(causes) as CauseName[]).filter((name) => all.some(({ wrong }) => has(wrong, name)));
  const shareOf = (wrong: RunCauses["wrong"], name: CauseName) => wrong.find(({ cause }) => cause === name)?.share ?? 0;
  const lines = all.map(({ method, T, right, wrong }): Row => {
    const shares = names.map((name) => [name, shareOf(wrong, name)] as const);
    return { method, T: String(T), right, ...Object.fromEntries(shares) };
  });
  return frameOf(lines, "causes");
}

const has = (wrong: RunCauses["wrong"], name: CauseName) => wrong.some(({ cause }) => cause === name);

function causesIn(run: RunSummary | RunResult): Pick<RunCauses, "right" | "wrong"> {
  const { router } = methodNamed(run.protocol.method);
  const laterEdits = laterEditsIn(run);
  const learned = learnedIn(run);
  const scores: readonly ScoredRecord[] = run.scores;
  const found = scores.flatMap((score) => {
    const { record, rewrite } = score;
    const shared = {
      rewrite,
      learned: learned.get(record) ?? null,
      laterEdits: laterEdits.get(record) ?? 0,
      router,
    };
    return (["rewrite", "rephrase"] as const).flatMap((kind) =>
      probesOf(score, kind).map((probe) => {
        return causeOf(probe, { kind, readings: ofEdits(probe.readings), ...shared });
      }),
    );
  });
  const shareOf = (cause: CauseName | null) => mean(found.map((one) => Number(one === cause)));
  const wrong = (Object.keys(causes) as CauseName[])
    .map((cause) => ({ cause, share: shareOf(cause) }))
    .filter(({ share }) => share > 0)
    .sort((a, b) => b.share - a.share);
  return { right: shareOf(null), wrong };
}
