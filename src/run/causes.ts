import type { Router } from "../edit/contract.js";
import { MAIN } from "../edit/overlay.js";
import { methodNamed } from "../edit/registry.js";
import type { EditTrace } from "../edit/trace.js";
import type { ProbeKind } from "../eval/score.js";
import type { RunSummary } from "./summary.js";
import type { Protocol, RunResult, ScoredProbe, ScoredRecord } from "./types.js";

/** Causes of probes that are not right, in the order in which the rules look: the first that applies is the cause. */
export const causes = {
  "over-edited": "An edit answered and changed what was right, or had to stay, in the untouched model.",
  "not routed": "The untouched model answered, although an edit would have been right.",
  "wrong edit": "An edit answered, although another one would have been right.",
  "not carried over": "The edits have the edited question right, but not this one.",
  forgotten:
    "The edit was learned, but then later edits of its block were written over it, or what held it was made over.",
  "not learned": "No edit has the answer, and the record's own never learned it.",
  "forgotten or not learned":
    "No edit has the answer. The method logs no loss, so nothing says whether one had it once.",
} as const;
export type CauseName = keyof typeof causes;

const routed: readonly CauseName[] = ["not routed", "wrong edit"];

/** The causes that probes of a method can have: only a router leaves a question to the wrong variant. */
export function causeNames(router: Router | undefined): CauseName[] {
  return (Object.keys(causes) as CauseName[]).filter((name) => router !== undefined || !routed.includes(name));
}

type Reading = Pick<ScoredProbe["readings"][number], "variant" | "score">;

/** Facts that the rules look at besides the probe itself. */
export interface Circumstances {
  kind: ProbeKind;
  /** Variants that hold an edit, and what each would have scored. */
  readings: readonly Reading[];
  /** The record's own edited question. */
  rewrite: ScoredProbe;
  /** The edit had its answer when it was made; null where no loss was logged. */
  learned: boolean | null;
  /** Edits made in the block after the record's own, before it was scored. */
  laterEdits: number;
  router: Router | undefined;
}

/** Readings by variants that hold an edit: one that holds none has a margin of 0 to everything, for it changes nothing. */
export function ofEdits<R extends { margin: number }>(readings: readonly R[]): R[] {
  return readings.filter(({ margin }) => margin > 0);
}

/** Cause of a probe that is not right; null where it is right. */
export function causeOf(probe: ScoredProbe, at: Circumstances): CauseName | null {
  if (probe.exact) return null;
  if (at.kind === "locality" || probe.preScore === 1) return "over-edited"; // the untouched model would be right
  if (at.readings.some(isRight)) return probe.route === MAIN ? "not routed" : "wrong edit";
  if (at.kind !== "rewrite" && hasRewriteRight(at)) return "not carried over";
  if (at.learned === false || !isWrittenOver(at)) return "not learned";
  return at.learned ? "forgotten" : "forgotten or not learned";
}

const isRight = ({ score }: Reading) => score === 1;

function hasRewriteRight({ rewrite }: Circumstances): boolean {
  return (rewrite.exact && rewrite.route !== MAIN) || rewrite.readings.some(isRight);
}

function isWrittenOver(at: Circumstances): boolean {
  return at.laterEdits > 0 || remadeReading(at) !== undefined;
}

/** A variant whose edits are no longer as they were made. */
export function remadeReading({ readings, router }: Pick<Circumstances, "readings" | "router">): Reading | undefined {
  return readings.find(({ variant }) => router?.rewritten?.(variant));
}

/**
 * Mean of -log p of the target at the last step of an edit, in nats a token. Null for an edit of one step: its loss is the
 * untouched model's.
 */
export function lastLossOf(edit: Pick<EditTrace, "steps"> | undefined, targetTerm: string): number | null {
  if (edit === undefined || edit.steps.length < 2) return null;
  return edit.steps.at(-1)?.terms[targetTerm] ?? null;
}

/** The last step left the whole answer likelier than not: the losses of its tokens add up to less than ln 2. */
export function isLearned(lastLoss: number | null, tokens: number): boolean | null {
  return lastLoss === null ? null : lastLoss * tokens < Math.LN2;
}

/** For each scored record, the edits made in its block after its own, before it was scored. */
export function laterEditsIn(run: {
  protocol: Pick<Protocol, "when">;
  scores: readonly Pick<ScoredRecord, "block" | "record">[];
}): Map<number, number> {
  const later = new Map<number, number>();
  const inBlock = new Map<number, number>();
  for (const { block, record } of [...run.scores].sort((a, b) => b.record - a.record)) {
    const count = inBlock.get(block) ?? 0;
    later.set(record, run.protocol.when === "after-each" ? 0 : count);
    inBlock.set(block, count + 1);
  }
  return later;
}

/** For each scored record, whether its edit had its answer when it was made; null where no loss says. */
export function learnedIn(
  run: RunSummary | Pick<RunResult, "protocol" | "edits" | "scores">,
): Map<number, boolean | null> {
  if ("command" in run) return new Map(run.scores.map(({ record, learned }) => [record, learned]));
  const { targetTerm } = methodNamed(run.protocol.method);
  const edits = new Map(run.edits.map((edit) => [edit.record, edit]));
  const learned = ({ record, rewrite }: RunResult["scores"][number]) =>
    isLearned(lastLossOf(edits.get(record), targetTerm), rewrite.target.length);
  return new Map(run.scores.map((score) => [score.record, learned(score)]));
}
