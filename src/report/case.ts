import { LabFailure, RefusedInput } from "../core/errors.js";
import type { EditMethod, Router } from "../edit/contract.js";
import { methodNamed } from "../edit/registry.js";
import type { EditTrace } from "../edit/trace.js";
import type { ProbeScore, RecordScore } from "../eval/types.js";
import { causeOf, isLearned, lastLossOf, laterEditsIn, ofEdits } from "../run/causes.js";
import { probeKinds, probesOf } from "../run/measures.js";
import type { RunResult } from "../run/types.js";
import type { Case, CaseEdit, CaseKind, CaseProbe, CaseReading, CaseToken, Outcome } from "./app/types.js";
import { whyOf } from "./causes.js";

/**
 * Everything a run knows about one record: what was wanted, answered before the edit and now, token by token, which
 * variant answered and what each of the others would have said, how the edit went, and why a probe is not right.
 * @param record 0-based position in the file of records
 * @param method the run's
 * @throws {RefusedInput} when the run has not scored the record
 */
export function caseOf(run: RunResult, record: number, method = methodNamed(run.protocol.method)): Case {
  const score = run.scores.find((each) => each.record === record);
  if (score) return buildCase(score, contextOf(run, method));
  throw new RefusedInput("a record that was not scored", {
    where: run.folder ?? "the run",
    found: record,
    expected: `one of its ${run.scores.length} scored records, counted from 0`,
  });
}

/** `caseOf` for every scored record, in the run's order. */
export function casesOf(run: RunResult, method = methodNamed(run.protocol.method)): Case[] {
  const context = contextOf(run, method);
  return run.scores.map((score) => buildCase(score, context));
}

/** Lookups of a run that every record needs. */
interface Context {
  method: Pick<EditMethod, "router" | "targetTerm">;
  tokens: ReadonlyMap<number, string>;
  edits: ReadonlyMap<number, EditTrace>;
  /** Edits made in the block after a record's own, before the record was scored. */
  laterEdits: ReadonlyMap<number, number>;
}

function contextOf(run: RunResult, method: EditMethod): Context {
  const { tokens, edits } = run;
  return { method, tokens, edits: new Map(edits.map((edit) => [edit.record, edit])), laterEdits: laterEditsIn(run) };
}

function buildCase(score: RecordScore, context: Context): Case {
  const { record, block, subject, rewrite } = score;
  const edit = context.edits.get(record);
  const lastLoss = lastLossOf(edit, context.method.targetTerm);
  const shared = {
    rewrite,
    lastLoss,
    learned: isLearned(lastLoss, rewrite.target.length),
    laterEdits: context.laterEdits.get(record) ?? 0,
    router: context.method.router,
    tokens: context.tokens,
  };
  const probes = probeKinds.flatMap((kind) => probesOf(score, kind).map((probe) => buildProbe(kind, probe, shared)));
  return { record, block, subject, probes, edit: edit ? editOf(edit) : null };
}

interface Shared {
  rewrite: ProbeScore;
  lastLoss: number | null;
  learned: boolean | null;
  laterEdits: number;
  router: Router | undefined;
  tokens: ReadonlyMap<number, string>;
}

function buildProbe(kind: CaseKind, probe: ProbeScore, { tokens, ...shared }: Shared): CaseProbe {
  const text = textOf(tokens);
  const names = Object.keys(shared.router?.numbers ?? {});
  const readings = ofEdits(probe.readings)
    .map(({ variant, margin, numbers, predicted, score }): CaseReading => {
      const values = names.map((name) => numbers[name] as number);
      return { variant, margin, numbers: values, predicted: predicted?.map(text) ?? null, score };
    })
    .sort((a, b) => b.margin - a.margin);
  const cause = causeOf(probe, { kind, readings, ...shared });
  return {
    kind,
    prompt: probe.prompt,
    answer: probe.answer,
    score: probe.score,
    preScore: probe.preScore,
    outcome: outcomeOf(probe),
    tokens: tokensOf(kind === "locality" ? probe.pre : probe.target, probe, text),
    route: probe.route,
    readings,
    cause,
    why: cause === null ? "" : whyOf(probe, { cause, kind, readings, ...shared }),
  };
}

function outcomeOf({ exact, score }: ProbeScore): Outcome {
  if (exact) return "right";
  return score > 0 ? "partly right" : "wrong";
}

function tokensOf(wanted: readonly number[], { pre, post }: ProbeScore, text: (id: number) => string): CaseToken[] {
  return wanted.map((id, i) => ({
    wanted: text(id),
    before: text(pre[i] as number),
    now: text(post[i] as number),
    wasRight: id === pre[i],
    right: id === post[i],
  }));
}

function textOf(tokens: ReadonlyMap<number, string>): (id: number) => string {
  return (id) => {
    const text = tokens.get(id);
    if (text === undefined) throw new LabFailure(`the run has no text for token ${id}`);
    return text;
  };
}

function editOf({ steps, stoppedEarly, numbers, seconds }: EditTrace): CaseEdit {
  return { steps: steps.map(({ terms }) => terms), stoppedEarly, numbers, seconds: seconds.frozen + seconds.steps };
}
